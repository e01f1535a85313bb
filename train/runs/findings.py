"""What a run found of its images: thresholds, samples for the bundle, the table of verdicts, sheets and plots."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.score import Decision
from train.calibration.held_out import fold_shares, synthetic_figures
from train.calibration.thresholds import calibrate_fused, calibrate_union
from train.data.grouping import Groups
from train.data.training_set import TrainingSet
from train.learning.scoring import map_peaks
from train.learning.strategy import HeldOut
from train.learning.trainer import Trainer
from train.runs.known_defects import has_known_defects, parted
from train.runs.pictures import contact_sheet, plot_losses, plot_scores
from train.runs.review import group_codes, write_review
from train.runs.run_folder import RunConfig, RunFolder, write_csv
from train.runs.verdicts import write_verdicts

__all__ = ["groups_told", "write_findings"]

SAMPLE_BYTES = 1_000_000
"""Bytes of sample images in a run folder, and with their outputs about five times that in a bundle."""
MIN_SAMPLES, MAX_SAMPLES = 4, 32

PEAK_QUANTILES = (0.5, 0.95, 0.99)
"""Of the brightest pixel of each training image's anomaly map, by what was fitted without the image where maps of what
has seen it are lower; heatmaps get their colour scale from them, regions their bound."""


def write_findings(
    folder: RunFolder, config: RunConfig, trainer: Trainer, images: TrainingSet, *, review: bool
) -> dict[str, Any]:
    """Calibrate and write logs, sheets and plots. Returns the calibration numbers.

    All processes of a run score their share of the images; the first one writes.
    """
    strategy, world = trainer.strategy, trainer.task.world
    criteria = strategy.calibration_criteria()
    names = strategy.autoencoder.criteria
    held_out = strategy.held_out() if config.train.rule == "fused" else None
    if config.train.rule == "fused":
        stretch = held_out.fold if held_out is not None and held_out.in_stretches else None
        calibration, decision = calibrate_fused(
            criteria, names, strategy.terms(), config.train.limit, config.train.seed, stretch
        )
    else:
        calibration, decision = calibrate_union(criteria, config.train.method, names)
    if has_known_defects(config.data):
        decision, known = parted(
            decision,
            decision.score(criteria),
            config.data,
            strategy.autoencoder,
            strategy.prior,
            config.preprocess,
            trainer.task.device,
        )
        calibration["known_bad"] = known
        calibration["flagged_share"] = float(decision.is_anomalous(decision.score(criteria)).mean())
    if config.train.rule == "fused":
        kept = ~strategy.refinement.candidates
        calibration |= _of_held_out(held_out, criteria, decision, kept, config.train.seed)
    peaks = None if held_out is None else held_out.peaks
    if peaks is None:
        peaks = map_peaks(strategy.autoencoder, strategy.prior, trainer.task.images, world)
    calibration["anomaly_map_peak"] = {f"{q:g}": float(np.quantile(peaks, q)) for q in PEAK_QUANTILES}
    if config.train.makes_folds and images.groups.by != "none":
        calibration["groups"] = groups_told(images.groups, held_out)
    usual = images.qualities.limits()
    if usual is not None and (config.preprocess.fit != "stretch" or config.preprocess.align is not None):
        usual = replace(usual, aspects=None)
    if usual is not None:
        calibration["image_quality"] = usual.to_json()
    codes = strategy.criteria_and_codes()[1] if review else None
    if not world.is_first:
        return calibration
    folder.write_prior(strategy.prior)
    folder.write_calibration(calibration, decision)
    folder.write_training_log(trainer.rows)
    scores = decision.score(criteria)
    chosen = _sample_indices(scores, images.images, decision.threshold)
    folder.write_samples(images.images[chosen], images.raw_frames)
    write_verdicts(folder.path / "refinement.csv", images, criteria, decision, strategy.refinement.verdict)
    if usual is not None:
        header, differing = images.qualities.rows(images.names, usual)
        if differing:
            write_csv(folder.path / "image_quality.csv", header, differing)
    rejected = strategy.refinement.candidates
    _write_sheet(folder.path / "rejected.png", images, scores, rejected)
    plot_losses(folder.path / "losses.png", trainer.rows)
    plot_scores(folder.path / "scores.png", criteria, decision, rejected)
    if codes is not None:
        groups = group_codes(codes, rejected, scores, config.train.seed)
        write_review(folder.path / "review", groups, images.images, images.names, scores)
    return calibration


def groups_told(groups: Groups, held_out: HeldOut | None) -> dict[str, Any]:
    """What a calibration says of the groups; those that training put together count where folds keep groups whole."""
    told = groups.to_json()
    if held_out is not None and held_out.n_groups is not None and groups.n_torn is None:
        told["n"] = held_out.n_groups
    return told


def _of_held_out(
    held_out: HeldOut | None,
    criteria: NDArray[np.float32],
    decision: Decision,
    kept: NDArray[np.bool_],
    seed: int,
) -> dict[str, Any]:
    """What the manifest's calibration says of synthetic defects and of the folds; of images left out, no copies."""
    found: dict[str, Any] = {"synthetic": None, "folds": None, "left_out": int((~kept).sum())}
    if held_out is None:
        return found
    if held_out.choice is not None:
        found["head"] = asdict(held_out.choice)
    if held_out.change is not None:
        found["order"] = {"change": held_out.change, "in_stretches": held_out.in_stretches}
    copies, owned = np.zeros((0, criteria.shape[1]), dtype=np.float32), np.zeros(0, dtype=np.int64)
    if held_out.synthetic is not None and held_out.owners is not None:
        of_kept = kept[held_out.owners]
        copies, owned = held_out.synthetic[of_kept], held_out.owners[of_kept]
    if len(copies):
        found["synthetic"] = synthetic_figures(criteria[kept], copies, decision, seed)
    found["folds"] = fold_shares(
        decision.is_anomalous(decision.score(criteria)),
        held_out.fold,
        decision.is_anomalous(decision.score(copies)),
        held_out.fold[owned],
    )
    return found


def _write_sheet(path: Path, images: TrainingSet, scores: NDArray[np.float64], rejected: NDArray[np.bool_]) -> None:
    """The rejected images, most anomalous first; without refinement the highest scores, and the title says so."""
    order = np.argsort(-scores, kind="stable")
    if rejected.any():
        order = order[rejected[order]]
        title = f"{len(order)} of {len(scores)} training images rejected, highest score first"
    else:
        order = order[: max(1, round(0.1 * len(order)))]
        title = f"none of {len(scores)} training images rejected; the highest scores"
    captions = [f"{scores[index]:.2f} {Path(images.names[index]).stem[-11:]}" for index in order]
    contact_sheet(path, title, [images.picture(index) for index in order], captions)


def _sample_indices(scores: NDArray[np.float64], images: NDArray[np.uint8], threshold: float) -> NDArray[np.int64]:
    """Images for the golden samples: evenly spread over the ranked scores, and the two astride the threshold."""
    n_samples = int(np.clip(SAMPLE_BYTES // images[0].nbytes, MIN_SAMPLES, MAX_SAMPLES))
    ranked = np.argsort(scores, kind="stable")
    spread = ranked[np.linspace(0, len(ranked) - 1, max(2, n_samples - 2)).round().astype(int)]
    above = int(np.searchsorted(scores[ranked], threshold, side="right"))
    astride = ranked[max(0, above - 1) : above + 1]
    return np.unique(np.concatenate((spread, astride)))
