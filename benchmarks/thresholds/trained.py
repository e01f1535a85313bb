"""A run of network features on a split, and what its network says of frames."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import edge_aae
from benchmarks.industrial.cells import Split, lay_out
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame
from train.learning.scoring import frame_outputs
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.verdicts import VerdictTable, read_verdicts

__all__ = ["criteria_of", "frames_of", "trained_on"]


def trained_on(split: Split, seed: int, **options: Any) -> tuple[TrainedRun, VerdictTable]:
    """The run, and the out-of-fold criteria of what it was trained on. The autoencoder, without weight in the score,
    trains one epoch. options: further ones of edge_aae.train."""
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "data", Path(folder) / "run"
        lay_out(split, {}, data)
        edge_aae.train(data / "train", out=out, network="features", seed=seed, epochs=1, **options)
        run = RunFolder(out).load()
        return run, read_verdicts(out / "refinement.csv", run.decision)


def frames_of(files: Iterable[Path]) -> Iterator[Frame]:
    """Photographs one by one."""
    return map(read_image, files)


def criteria_of(run: TrainedRun, frames: Iterable[Frame]) -> NDArray[np.float32]:
    """(N, K), frame by frame through the network as PyTorch has it."""
    preprocess, device = run.config.preprocess, torch.device("cpu")
    rows = [frame_outputs(run.autoencoder, run.prior, preprocess.tiles(frame)[0], device)[0] for frame in frames]
    return np.concatenate(rows)
