"""What the measures of picture quality flag, and what they cost: docs/results/image-quality.md.

    python -m benchmarks.runtime.image_quality DATA... [--bundle BUNDLE] [--out docs/results/image-quality.md]

DATA are folders as of MVTec AD: train/good, test/good, and defects beside that. Limits come from train/good alone. Of
test/good the share that is flagged is false; each degradation is put on the same photographs. Lens spots: what stays
is learned from one half of train/good; 80 of the other half and test/good, in random order, are the run. With --bundle,
measuring and scoring an 800x800 frame take turns in one process; scoring of a bundle that has limits measures too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import status_of
from benchmarks.machine import cpu_name
from edge_runtime.errors import DataError
from edge_runtime.files import write_atomically
from edge_runtime.image_files.listing import is_image
from edge_runtime.model.image_quality import FrameQuality, QualityLimits, limits_of, measured
from edge_runtime.model.images import read_image
from edge_runtime.scoring.detector import Detector
from edge_runtime.watching.lens_spot import LensSpotWatch, UsualSpots

Frame = NDArray[np.uint8]
SEED = 0
TRIALS = 10
"""Places of a spot, each over the whole run"""
SPOT_RADIUS, SPOT_LIGHT, SMEAR_SIGMA = 0.08, 0.4, 0.02
"""Shares of the frame's shorter side; of the light that a spot lets through"""
MOST_FRAMES = 80
"""Of such a run"""
COST_SIDE, COST_ROUNDS = 800, 100


def defocus(frame: Frame, sigma: float) -> Frame:
    """Out of focus, as a Gaussian of so many pixels."""
    return cv2.GaussianBlur(frame, (0, 0), sigma)


def motion(frame: Frame, length: int, *, down: bool = False, diagonal: bool = False) -> Frame:
    """Moved by so many pixels during the exposure, across the frame, down it, or both."""
    kernel = np.zeros((length, length), np.float32)
    if diagonal:
        np.fill_diagonal(kernel, 1.0)
    else:
        kernel[length // 2] = 1.0
    return cv2.filter2D(frame, -1, (kernel.T if down else kernel) / kernel.sum())


def exposed(frame: Frame, factor: float) -> Frame:
    """With so many times the light, clipped."""
    return np.clip(frame.astype(np.float32) * factor, 0, 255).astype(np.uint8)


def spotted(frame: Frame, place: tuple[float, float], *, smear: bool) -> Frame:
    """With a soft-edged spot at x, y (shares of the frame) that darkens or blurs."""
    rows, columns = frame.shape[:2]
    side = min(rows, columns)
    x, y = place[0] * columns, place[1] * rows
    reach = round((1.5 * SPOT_RADIUS + 3.0 * SMEAR_SIGMA) * side)
    top, left = max(0, round(y) - reach), max(0, round(x) - reach)
    window = frame[top : round(y) + reach, left : round(x) + reach]
    v, u = np.ogrid[: window.shape[0], : window.shape[1]]
    distance = np.hypot(u + left - x, v + top - y) / (SPOT_RADIUS * side)
    cover = np.clip(1.5 - distance, 0.0, 1.0).astype(np.float32)
    clean = window.astype(np.float32)
    dirty = cv2.GaussianBlur(clean, (0, 0), SMEAR_SIGMA * side) if smear else SPOT_LIGHT * clean
    found = frame.copy()
    found[top : round(y) + reach, left : round(x) + reach] = (
        clean + cover.reshape(cover.shape + (1,) * (frame.ndim - 2)) * (dirty - clean)
    ).round()
    return found


DEGRADATIONS: dict[str, Callable[[Frame], Frame]] = {
    **{f"defocus {sigma}": partial(defocus, sigma=sigma) for sigma in (1, 2, 4)},
    **{f"motion {length}": partial(motion, length=length) for length in (5, 11, 21)},
    **{f"motion {length} down": partial(motion, length=length, down=True) for length in (5, 11, 21)},
    "motion 11 diagonal": partial(motion, length=11, diagonal=True),
    **{f"light x{factor}": partial(exposed, factor=factor) for factor in (0.25, 0.5, 2, 4)},
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure everything and write the table."""
    words = list(sys.argv[1:] if words is None else words)
    return status_of(lambda: _run(_parser().parse_args(words)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/results/image-quality.md"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    cv2.setNumThreads(1)
    columns = {path.name: column_of(path) for path in arguments.data}
    costs = [] if arguments.bundle is None else cost_lines(Detector.load(arguments.bundle, threads=1))
    names = " ".join(f"DATA/{name}" for name in columns)
    bundle = "" if arguments.bundle is None else " --bundle BUNDLE"
    lines = markdown(columns, f"python -m benchmarks.runtime.image_quality {names}{bundle}", costs)
    write_atomically(arguments.out, ("\n".join(lines) + "\n").encode())
    print("\n".join(lines))
    return 0


def column_of(path: Path) -> dict[str, str]:
    """The table's column of one set, by row."""
    training = [measured(read_image(file)) for file in _images(path / "train" / "good")]
    limits = limits_of(training)
    if limits is None:
        raise DataError(f"{path}/train/good has too few images that can be measured; use another set")
    good = [read_image(file) for file in _images(path / "test" / "good")]
    defects = [
        file for folder in sorted((path / "test").iterdir()) if folder.name != "good" for file in _images(folder)
    ]
    found = {
        "training images": f"{len(training)}",
        "of these flagged": _share([_flagged(limits, quality) for quality in training]),
        "good, unseen": f"{len(good)}",
        "**flagged, falsely**": _share([_flagged(limits, measured(frame)) for frame in good]),
    }
    for name, degrade in DEGRADATIONS.items():
        found[name] = _share([_flagged(limits, measured(degrade(frame))) for frame in good])
    found["defects, undegraded"] = _share([_flagged(limits, measured(read_image(file))) for file in defects])
    return {**found, **_spots(path)}


def _spots(path: Path) -> dict[str, str]:
    rng = np.random.default_rng(SEED)
    files = _images(path / "train" / "good")
    order = rng.permutation(len(files))
    learned = UsualSpots()
    for index in order[::2]:
        if (quality := measured(read_image(files[index]))) is not None:
            learned.add(quality)
    usual = learned.mask()
    stream = [files[index] for index in order[1::2]] + _images(path / "test" / "good")
    frames = [read_image(stream[index]) for index in rng.permutation(len(stream))[:MOST_FRAMES]]
    places = [(float(x), float(y)) for x, y in rng.uniform(0.15, 0.85, (TRIALS, 2))]
    clean = _told(usual, (measured(frame) for frame in frames))
    still = _told(usual, (measured(_noisy(frames[0], rng)) for _ in range(100)))
    found = {"frames of the run": f"{len(frames)}", "**lens spot seen, falsely**": _share(clean)}
    found["seen in a still scene with noise"] = _share(still)
    for name, smear in (("dark spot found, of 10 places", False), ("smear found, of 10 places", True)):
        seen = [
            any(_told(usual, (measured(spotted(frame, place, smear=smear)) for frame in frames), place))
            for place in places
        ]
        found[name] = f"{sum(seen)}"
    return found


def _told(usual: NDArray[np.bool_], qualities: object, place: tuple[float, float] | None = None) -> list[bool]:
    """Of each frame whether a spot was seen; with a place, whether one was seen that holds it."""
    watch, told = LensSpotWatch(usual), []
    for quality in qualities:  # type: ignore[attr-defined]
        spot = None if quality is None else watch.add(quality)
        holds = spot is not None
        if spot is not None and place is not None:
            x, y, width, height = spot.box
            holds = x <= place[0] <= x + width and y <= place[1] <= y + height
        told.append(holds)
    return told


def _noisy(frame: Frame, rng: np.random.Generator) -> Frame:
    noisy = frame.astype(np.float32) + rng.normal(0.0, 2.0, frame.shape)
    return np.clip(noisy, 0, 255).round().astype(np.uint8)


def cost_lines(detector: Detector) -> list[str]:
    """Milliseconds of measuring and of scoring one frame, in turns."""
    noise = np.random.default_rng(SEED).integers(0, 256, (COST_SIDE, COST_SIDE, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(noise, (0, 0), 2.0)
    ways: dict[str, Callable[[], object]] = {
        "measuring": lambda: measured(frame),
        "scoring, with measuring where the bundle has limits": lambda: detector.score(frame),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(COST_ROUNDS):
        for name, way in ways.items():
            begun_s = time.perf_counter()
            way()
            times[name].append(1000.0 * (time.perf_counter() - begun_s))
    rows, columns, _ = detector.preprocess.input_shape
    lines = [
        f"One frame of {COST_SIDE}x{COST_SIDE} in colour, {COST_ROUNDS} turns, one thread each, "
        f"{detector.backend.name}, {detector.bundle.manifest['model']['network']} at {rows}x{columns}:",
        "",
        "| | p50 ms | p95 ms |",
        "|---|---:|---:|",
    ]
    return lines + [
        f"| {name} | {np.quantile(spent, 0.5):.2f} | {np.quantile(spent, 0.95):.2f} |" for name, spent in times.items()
    ]


def markdown(columns: dict[str, dict[str, str]], command: str, costs: Sequence[str]) -> list[str]:
    """The page."""
    rows = list(next(iter(columns.values())))
    return [
        "# Picture quality: what is flagged, and what it costs",
        "",
        f"Made by `{command}` on {cpu_name()}, OpenCV {cv2.__version__}.",
        "",
        "Limits are of the good training photographs alone. A share is of unseen good ones (the test set's), as they",
        "are or degraded; defocus is a Gaussian's sigma and motion a length, in pixels of the photograph; light beyond",
        "255 is clipped.",
        f"A spot has a radius of {SPOT_RADIUS:.0%} of the shorter side and lets {SPOT_LIGHT:.0%} of the light through; "
        f"a smear blurs by {SMEAR_SIGMA:.0%} of it.",
        "",
        f"| | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
        *(f"| {row} | {' | '.join(column[row] for column in columns.values())} |" for row in rows),
        *(["", *costs] if costs else []),
    ]


def _flagged(limits: QualityLimits, quality: FrameQuality | None) -> bool:
    return quality is not None and bool(limits.faults(quality))


def _share(flags: Sequence[bool]) -> str:
    return f"{sum(flags) / len(flags):.3f}" if flags else "-"


def _images(folder: Path) -> list[Path]:
    found = sorted(file for file in folder.iterdir() if is_image(file)) if folder.is_dir() else []
    if not found:
        raise DataError(f"no images in {folder}; expected photographs as of MVTec AD")
    return found


if __name__ == "__main__":
    sys.exit(main())
