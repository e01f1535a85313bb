"""The frames that graphs are held to: real ones of the run, ones with a defect pasted in, and hostile ones."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.bundle.budgets import BUDGETS
from edge_runtime.errors import DataError
from edge_runtime.gate.decisions import UNKNOWN
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.self_reference import MASK
from edge_runtime.scoring.image_items import Item
from train.data.loading import load_training_set
from train.runs.run_folder import TrainedRun

__all__ = [
    "GateFrames",
    "TrainingFrames",
    "contrast_frames",
    "frames_of_items",
    "hostile_frames",
    "sample_frames",
    "straddling_frames",
    "training_frames",
    "with_pasted_patch",
]

NOISE_SEED = 20190125
N_NOISE = 4
MOST_TRAINING_FRAMES = 256
"""Half of them calibrate INT8, the other half judge it."""
FEWEST_TRAINING_FRAMES = 16
PATCH_SHARE = (0.02, 0.15)
"""Of a frame's area that a pasted patch covers, as in CutPaste (Li et al. 2021, arXiv 2104.04015)."""
CONTRAST = 4
STRADDLING_PAIRS = 4
BLENDS = 16
"""Steps from one frame to another, and again within the one that crosses the threshold: uint8 frames have no finer ones
that show."""
ROUNDING = BUDGETS["fp32"].tolerances["score"].atol
"""Scores this near to the threshold, in units of it, may fall on either side by rounding alone."""

Score = Callable[[NDArray[np.uint8]], NDArray[np.float64]]
"""Fused scores (N,) of network inputs (N, H, W, C)"""


@dataclass(frozen=True, slots=True)
class GateFrames:
    """Network inputs to compare on, and what is known of them."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    labels: NDArray[np.int8]
    """(F,) of each frame: 0 normal, 1 anomalous, UNKNOWN"""
    groups: NDArray[np.int64]
    """(N,) the frame that each input is a tile of, 0 to F - 1 in order"""

    @classmethod
    def of(cls, inputs: NDArray[np.uint8], label: int = UNKNOWN) -> GateFrames:
        """Frames of one input each, all with one label."""
        return cls(inputs, np.full(len(inputs), label, dtype=np.int8), np.arange(len(inputs)))

    def at(self, inputs: NDArray[np.int64]) -> GateFrames:
        """Some inputs, by number; all tiles of a frame or none."""
        frames, groups = np.unique(self.groups[inputs], return_inverse=True)
        return GateFrames(self.inputs[inputs], self.labels[frames], groups)

    def joined(self, other: GateFrames) -> GateFrames:
        """These frames and then the others."""
        return GateFrames(
            np.concatenate((self.inputs, other.inputs)),
            np.concatenate((self.labels, other.labels)),
            np.concatenate((self.groups, len(self.labels) + other.groups)),
        )


@dataclass(frozen=True, slots=True)
class TrainingFrames:
    """Network inputs of training images that were kept, by reference: they are not part of a bundle."""

    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""

    @property
    def calibrating(self) -> NDArray[np.uint8]:
        """Every other one, which INT8 ranges come from."""
        return self.inputs[::2]

    @property
    def judging(self) -> NDArray[np.uint8]:
        """The rest, by which graphs are judged."""
        return self.inputs[1::2]

    def to_json(self) -> dict[str, object]:
        """Count and identity of the calibrating ones, for the manifest."""
        return {"n": len(self.calibrating), "sha256": sha256(self.calibrating.tobytes())}


def training_frames(run: TrainedRun, data: Path | None = None) -> TrainingFrames:
    """Up to MOST_TRAINING_FRAMES network inputs of images that the run kept, evenly drawn.

    data: where the images lie now, if no longer where the run found them. Raises DataError where they are not there,
    are not the ones that the run trained on, or are too few.
    """
    settings = run.config.data if data is None else replace(run.config.data, path=str(data))
    images = load_training_set(settings, run.config.train.network)
    if images.preprocess != run.config.preprocess or images.sha256() != run.config.images_sha256:
        raise DataError(
            f"{settings.path} no longer holds the {run.config.n_images} images that {run.path} was trained on; "
            "name the folder that does with --calibration, or train again"
        )
    kept = _kept(run.path / "refinement.csv", len(images.names))
    if len(kept) < FEWEST_TRAINING_FRAMES:
        raise DataError(
            f"{run.path} kept {len(kept)} training images, expected {FEWEST_TRAINING_FRAMES} or more to calibrate on "
            "and to judge by"
        )
    drawn = kept[np.linspace(0, len(kept) - 1, min(len(kept), MOST_TRAINING_FRAMES)).round().astype(int)]
    return TrainingFrames(np.ascontiguousarray(images.images[drawn]))


def _kept(table: Path, n_images: int) -> NDArray[np.int64]:
    """Indices of the images that a run's table says were kept."""
    try:
        with table.open(newline="") as lines:
            rows = [int(row["index"]) for row in csv.DictReader(lines) if row["kept"] == "1"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{table} does not tell which images were kept: {error}; train again") from error
    if rows and rows[-1] >= n_images:
        raise DataError(f"{table} tells of {rows[-1] + 1} images or more, there are {n_images}; train again")
    return np.array(rows, dtype=np.int64)


def sample_frames(run: TrainedRun) -> GateFrames:
    """The run's stored samples and the hostile frames: what there is without the training images."""
    return GateFrames.of(run.sample_inputs).joined(GateFrames.of(hostile_frames(run.sample_inputs.shape[1:])))


def hostile_frames(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Black, white, mid-grey, a checkerboard and noise: (8, H, W, C) uint8.

    They reach activations that training images do not: saturated sigmoids, far-off codes.
    """
    rng = np.random.default_rng(NOISE_SEED)
    checkerboard = np.indices(shape[:2]).sum(axis=0) % 2 * 255
    frames = [
        *(np.full(shape, level) for level in (0, 255, 128)),
        np.broadcast_to(checkerboard[:, :, None], shape),
        *(rng.integers(0, 256, shape) for _ in range(N_NOISE)),
    ]
    return np.stack(frames).astype(np.uint8)


def with_pasted_patch(frames: NDArray[np.uint8], self_referenced: bool) -> NDArray[np.uint8]:
    """Each frame (N, H, W, C) with a rectangle of another frame pasted elsewhere: known anomalies without a label.

    self_referenced: the last channel is the valid mask and stays as it is.
    """
    rng = np.random.default_rng(NOISE_SEED)
    n, height, width, channels = frames.shape
    pasted = frames.copy()
    changed = slice(0, MASK if self_referenced else channels)
    for index, frame in enumerate(pasted):
        area, ratio = rng.uniform(*PATCH_SHARE) * height * width, np.exp(rng.uniform(-1.0, 1.0))
        h = int(np.clip(round(np.sqrt(area * ratio)), 2, height))
        w = int(np.clip(round(np.sqrt(area / ratio)), 2, width))
        source = frames[(index + 1 + rng.integers(n - 1)) % n] if n > 1 else frames[0]
        (top, left), (y, x) = ((rng.integers(height - h + 1), rng.integers(width - w + 1)) for _ in range(2))
        frame[y : y + h, x : x + w, changed] = source[top : top + h, left : left + w, changed]
    return pasted


def contrast_frames(frames: NDArray[np.uint8], self_referenced: bool) -> NDArray[np.uint8]:
    """Up to CONTRAST frames, evenly drawn, with a patch pasted in: what golden samples of normal images lack."""
    drawn = frames[np.linspace(0, len(frames) - 1, min(len(frames), CONTRAST)).round().astype(int)]
    return with_pasted_patch(drawn, self_referenced)


def straddling_frames(frames: NDArray[np.uint8], score: Score, threshold: float) -> NDArray[np.uint8]:
    """Blends of two frames whose scores lie just below and just above the threshold: (M, H, W, C), M up to 8.

    frames: (N, H, W, C). Pairs are the highest scores below the threshold with the lowest above; none where all frames
    lie on one side.
    """
    scores = score(frames)
    below = np.argsort(np.where(scores <= threshold, -scores, np.inf))[: int((scores <= threshold).sum())]
    above = np.argsort(np.where(scores > threshold, scores, np.inf))[: int((scores > threshold).sum())]
    found = []
    for low, high in zip(below[:STRADDLING_PAIRS], above[:STRADDLING_PAIRS], strict=False):
        blends, blend_scores = _across(frames[low], frames[high], score, threshold)
        distance = np.abs(blend_scores - threshold) / max(1.0, abs(threshold))
        for side in (blend_scores <= threshold, blend_scores > threshold):
            candidates = np.flatnonzero(side & (distance > ROUNDING))
            if len(candidates):
                found.append(blends[candidates[distance[candidates].argmin()]])
    return np.stack(found) if found else frames[:0]


def _across(
    low: NDArray[np.uint8], high: NDArray[np.uint8], score: Score, threshold: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Blends from one frame to the other in BLENDS steps, and their scores; then as many within the step in which the
    score crosses the threshold."""
    begin, end = 0.0, 1.0
    tried, scored = [], []
    for _ in range(2):
        shares = np.linspace(begin, end, BLENDS + 1)
        blends = (low + shares[:, None, None, None] * (high.astype(np.float64) - low)).round().astype(np.uint8)
        scores = score(blends)
        tried.append(blends)
        scored.append(scores)
        step = int(np.flatnonzero(scores <= threshold).max(initial=0))
        begin, end = shares[step], shares[min(step + 1, BLENDS)]
    return np.concatenate(tried), np.concatenate(scored)


def frames_of_items(items: list[Item], preprocess: Preprocess) -> GateFrames:
    """Network inputs of images that somebody names, their labels where known; a tiled frame's tiles are a group."""
    inputs, groups, labels = [], [], []
    for index, item in enumerate(items):
        tiles, _ = preprocess.tiles(item.load())
        inputs.append(tiles)
        groups += [index] * len(tiles)
        labels.append(UNKNOWN if item.anomalous is None else int(item.anomalous))
    return GateFrames(np.concatenate(inputs), np.array(labels, dtype=np.int8), np.array(groups))
