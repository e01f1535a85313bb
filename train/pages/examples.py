"""The eight pictures that a page opens with: the best, the worst, and those beside the threshold, under their maps.

Of a run from its training images, of a bundle from its golden samples, of an evaluation from the labelled images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.bundle.golden import Golden
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.evaluation import Evaluation, ImageScorer
from edge_runtime.scoring.heatmap import scale_of
from train.data.photograph_store import PhotographStore
from train.data.training_set import TrainingSet
from train.learning.scoring import frame_outputs
from train.runs.run_folder import TrainedRun
from train.runs.verdicts import VerdictTable

__all__ = ["BEST", "BORDERLINE", "WORST", "Example", "chosen", "of_evaluation", "of_golden", "of_run"]

BEST, BORDERLINE, WORST = "most usual", "nearest to the threshold", "most anomalous"
N_BEST, N_BORDERLINE, N_WORST = 3, 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One picture and its map."""

    why: str
    """BEST, BORDERLINE or WORST"""
    caption: str
    image: Frame
    """(H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, as TrainingSet.picture gives it"""
    heat: NDArray[np.float32]
    """(h, w): its anomaly map"""
    peak: float
    """Value of the map that gets the full colour"""


def chosen(scores: NDArray[np.float64], threshold: float) -> list[tuple[int, str]]:
    """Which images to show, eight or as many as there are, and why; lowest score first. scores: (N,)."""
    order = [int(index) for index in np.argsort(scores, kind="stable")]
    n = len(order)
    # Of few images every one is shown once; the extremes come first, for they are what is asked for.
    n_worst = min(N_WORST, -(-n // 2))
    n_best = min(N_BEST, n - n_worst)
    between = order[n_best : n - n_worst]
    nearest = sorted(between, key=lambda index: abs(scores[index] - threshold))[:N_BORDERLINE]
    return [
        *((index, BEST) for index in order[:n_best]),
        *((index, BORDERLINE) for index in between if index in nearest),
        *((index, WORST) for index in order[n - n_worst :]),
    ]


def of_run(run: TrainedRun, images: TrainingSet, table: VerdictTable) -> list[Example]:
    """Of the images that a run was trained on."""
    scores, peak = run.decision.score(table.criteria), scale_of(run.calibration).peak
    return [
        Example(
            why=why,
            caption=f"{scores[index]:.2f}  {Path(table.names[index]).name}{'' if table.kept[index] else ', set aside'}",
            image=images.picture(index),
            heat=_map_of(run, images, index),
            peak=peak,
        )
        for index, why in chosen(scores, run.decision.threshold)
    ]


def of_golden(golden: Golden, scores: NDArray[np.float64], threshold: float, peak: float) -> list[Example]:
    """Of a bundle's golden samples. scores: (n,), by the bundle's decision."""
    return [
        Example(
            why=why,
            caption=f"{scores[index]:.2f}",
            image=golden.inputs[index],
            heat=golden.outputs.anomaly_map[index],
            peak=peak,
        )
        for index, why in chosen(scores, threshold)
    ]


def of_evaluation(evaluation: Evaluation, scorer: ImageScorer) -> list[Example]:
    """Of labelled images, scored once more for their maps. Raises DataError where one can no longer be read."""
    scores = np.array([row.score for row in evaluation.rows])
    found = []
    for index, why in chosen(scores, evaluation.threshold):
        row = evaluation.rows[index]
        frame = row.item.load()
        told = _told(row.item.anomalous, row.is_anomaly)
        found.append(
            Example(
                why=why,
                caption=f"{row.score:.2f}  {row.item.name}{told}",
                image=frame,
                heat=scorer.score(frame).heatmap(),
                peak=scorer.heat_scale.peak,
            )
        )
    return found


def _told(anomalous: bool | None, flagged: bool) -> str:
    """What its label says of how an image was judged."""
    if anomalous is None:
        return ""
    if anomalous:
        return ", a defect, found" if flagged else ", a defect, MISSED"
    return ", good, FALSE ALARM" if flagged else ", good"


@torch.inference_mode()
def _map_of(run: TrainedRun, images: TrainingSet, index: int) -> NDArray[np.float32]:
    """The map of a training image as the network that was trained has it."""
    image = np.ascontiguousarray(images.picture(index))
    device = torch.device("cpu")
    if not isinstance(images.store, PhotographStore):
        _, pixels = frame_outputs(run.autoencoder, run.prior, image[None], device)
        return np.asarray(pixels[0], dtype=np.float32)
    # The store's photographs are scaled and cut to the region of interest already.
    preprocess = replace(images.preprocess, scale=1.0, roi=None)
    placement = preprocess.place(image)
    tiles, _ = preprocess.tiles(image, placement)
    _, pixels = frame_outputs(run.autoencoder, run.prior, tiles, device)
    return np.asarray(preprocess.map_to_frame(pixels, image.shape, placement), dtype=np.float32)
