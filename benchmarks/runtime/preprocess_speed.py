"""Time of self-referenced channels and tiling, against np.median.

python benchmarks/runtime/preprocess_speed.py [--json FILE]

One 1920x1080 frame, one thread. The ways are run in turn and the medians over rounds compared, so that ratios hold on
a shared machine; milliseconds are this machine's.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.self_reference import LOG_TABLE, medians, self_referenced

HEIGHT, WIDTH = 1080, 1920
TILE, OVERLAP = 256, 32
SEED = 20190125
REFERENCE = "np.median of float32 logs, rows and columns"


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    frame = textured_frame()
    times: dict[str, list[float]] = {name: [] for name in ways(frame)}
    for _ in range(arguments.rounds):
        for name, way in ways(frame).items():
            start = time.perf_counter()
            way()
            times[name].append(1000.0 * (time.perf_counter() - start))
    figures = {name: statistics.median(values) for name, values in times.items()}
    print("| 1920x1080 frame, one thread | ms | of np.median |")
    print("|---|---|---|")
    for name, median_ms in figures.items():
        print(f"| {name} | {median_ms:.1f} | {median_ms / figures[REFERENCE]:.2f} |")
    if arguments.json:
        versions: dict[str, Any] = {"numpy": np.__version__, "opencv": cv2.__version__, "machine": platform.machine()}
        content = {"median_ms": figures, "rounds": arguments.rounds, **versions}
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


def ways(frame: Frame) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    logs = LOG_TABLE[frame]
    half = Preprocess(height=TILE, width=TILE, fit="tile", scale=0.5, overlap=OVERLAP, self_reference="row_column")
    native = Preprocess(height=TILE, width=TILE, fit="tile", overlap=OVERLAP, self_reference="row_column")
    plain = Preprocess(height=TILE, width=TILE, fit="tile", overlap=OVERLAP)
    maps = np.ones((len(native.tiling(frame.shape)), TILE // 4, TILE // 4), dtype=np.float32)

    def by_numpy() -> object:
        log_grey = np.log1p(frame.astype(np.float32))
        residual = log_grey - np.median(log_grey, axis=0, keepdims=True)
        return np.median(residual, axis=1)

    def by_bisection() -> object:
        residual = logs - medians(logs, axis=0)
        return medians(residual, axis=1)

    return {
        REFERENCE: by_numpy,
        "the same medians by bisection on int16": by_bisection,
        "self-referenced channels": lambda: self_referenced(frame),
        f"tiles alone, {len(maps)} of {TILE}x{TILE}": lambda: plain.tiles(frame),
        f"self-reference and tiles, {len(maps)}": lambda: native.tiles(frame),
        f"self-reference and tiles at half scale, {len(half.tiling(frame.shape))}": lambda: half.tiles(frame),
        "quarter-resolution maps stitched to the frame": lambda: native.map_to_frame(maps, frame.shape),
    }


def textured_frame() -> Frame:
    """Grain along the columns under uneven light, with noise: neither sorted nor flat."""
    rng = np.random.default_rng(SEED)
    light = np.linspace(70.0, 160.0, WIDTH) + 20.0 * np.sin(np.linspace(0.0, 3.0, HEIGHT))[:, None]
    grain = rng.normal(0.0, 12.0, WIDTH)
    frame: Frame = np.clip(light + grain + rng.normal(0.0, 6.0, (HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
    return frame


if __name__ == "__main__":
    main()
