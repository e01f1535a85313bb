"""A whole training run, from images to a run folder that export can use; the Python entry to training."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime import __version__
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.score import Decision
from edge_runtime.stopping import stop_requests
from train.calibrate import calibrate_fused, calibrate_union
from train.data import DataSettings, TrainingSet, load_training_set
from train.distributed import ALONE, World
from train.patch_trainer import PatchTrainer
from train.photograph_store import PhotographStore
from train.precision import uses_amp
from train.progress import TrainingProgress
from train.report import contact_sheet, plot_losses, plot_scores
from train.review import group_codes, write_review
from train.robust import RobustTrainer
from train.run_folder import RunConfig, RunFolder, point_latest_at, write_csv
from train.scoring import map_peaks
from train.settings import TrainSettings
from train.snapshot import Snapshot
from train.trainer import Trainer

__all__ = ["TrainingOutcome", "pick_device", "resume", "train", "trainer_for"]

logger = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 30.0
"""A crash loses at most this much work, and an epoch."""

SAMPLE_BYTES = 4_000_000
"""Bytes of sample images in a run folder, and with their outputs about five times that in a bundle."""
MIN_SAMPLES, MAX_SAMPLES = 4, 32

PEAK_QUANTILES = (0.5, 0.99)
"""Of the brightest pixel of each training image's anomaly map; heatmaps get their colour scale from them."""


class TrainingOutcome:
    """What a run left behind."""

    def __init__(
        self, folder: RunFolder, config: RunConfig, seconds: float, n_rejected: int, calibration: dict[str, Any] | None
    ) -> None:
        self.folder = folder
        self.config = config
        self.seconds = seconds
        """Spent training in this process"""
        self.n_rejected = n_rejected
        self.calibration = calibration
        """Calibration numbers as the manifest holds them; None where training did not get so far"""

    @property
    def complete(self) -> bool:
        """Whether every phase was run; False after an interruption."""
        return self.config.status == "complete"


def train(
    data: DataSettings,
    settings: TrainSettings,
    out: Path,
    *,
    device: str = "auto",
    announce: bool = True,
    review: bool = False,
    world: World = ALONE,
) -> TrainingOutcome:
    """Train a new run into the folder `out`; announce makes runs/latest point at it, review groups what was rejected.

    world: the processes that train together, all of which call this; the first one writes. SIGINT and SIGTERM end it
    at the last whole epoch with a usable folder. Raises DataError, ConfigError.
    """
    if world.is_first and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not empty; name another --out, or go on with it through --resume")
    torch_device = world.device or pick_device(device)
    _check_shared(settings, world)
    settings = replace(settings, amp=settings.network != "patch" and uses_amp(settings.amp, torch_device))
    images = load_training_set(data, settings.network, out)
    images_sha256 = images.sha256()
    world.check_same(images_sha256, f"the first one's images in {data.path}")
    trainer = trainer_for(settings, images, torch_device, world)
    config = RunConfig(
        edge_aae=__version__,
        torch=torch.__version__,
        device=_device_name(torch_device, world),
        status="running",
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        epochs_done=0,
        epochs_total=trainer.total_epochs,
        n_images=len(images.images),
        n_skipped=len(images.bad),
        images_sha256=images_sha256,
        data=replace(data, path=str(Path(data.path).absolute())),
        train=settings,
        preprocess=images.preprocess,
    )
    folder = RunFolder(out)
    if world.is_first:
        out.mkdir(parents=True, exist_ok=True)
        folder.write_config(config)
        if announce:
            point_latest_at(out)
    return _run(folder, config, trainer, images, review=review)


def resume(out: Path, *, device: str = "auto", review: bool = False, world: World = ALONE) -> TrainingOutcome:
    """Go on with an interrupted run, as if nothing had happened; one killed before its first checkpoint starts over.

    Raises ConfigError where the run is complete; DataError where the folder is no run folder, its checkpoint is
    damaged, or the images are not the ones it was trained on.
    """
    folder = RunFolder(out)
    config = folder.read_config()
    if config.status == "complete":
        raise ConfigError(f"{out} is complete ({config.epochs_done} epochs); there is nothing to resume")
    _check_shared(config.train, world)
    images = load_training_set(config.data, config.train.network, out)
    if images.sha256() != config.images_sha256:
        raise DataError(
            f"the images in {config.data.path} are not those {out} was trained on "
            f"({len(images.images)} now, {config.n_images} then, or other pixels); train a new run"
        )
    trainer = trainer_for(config.train, images, world.device or pick_device(device), world)
    # Read by all before any goes on: the first one writes it anew.
    snapshot = Snapshot.read(folder.checkpoint) if folder.checkpoint.exists() else None
    world.check_same("" if snapshot is None else str(snapshot.position), f"the first one's checkpoint in {out}")
    if snapshot is not None:
        trainer.restore(snapshot)
    logger.info("resuming %s after %d of %d epochs", out, len(trainer.rows), trainer.total_epochs)
    if world.is_first:
        point_latest_at(out)
    return _run(folder, config, trainer, images, review=review)


def pick_device(name: str) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`; raises ConfigError where it cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device is {name!r}, expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device is {name!r}, expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices")
    return device


def trainer_for(settings: TrainSettings, images: TrainingSet, device: torch.device, world: World = ALONE) -> Trainer:
    """The trainer of a run's settings, before its first step."""
    if isinstance(images.store, PhotographStore):
        return PatchTrainer(settings, images.store, device, images.guidance.verdicts)
    kind = RobustTrainer if settings.refine == "robust" else Trainer
    return kind(settings, images.store, device, images.guidance.verdicts, world)


def _run(
    folder: RunFolder, config: RunConfig, trainer: Trainer, images: TrainingSet, *, review: bool
) -> TrainingOutcome:
    logger.info(
        "training %s (%s, refine %s) on %d images %s, %d epochs, on %s",
        config.train.network,
        config.train.method,
        config.train.refine,
        len(images.images),
        images.preprocess.input_shape,
        trainer.total_epochs,
        config.device,
    )
    world = trainer.world
    if images.bad and world.is_first:
        write_csv(folder.path / "skipped.csv", ["name", "reason"], images.bad)
    start = time.monotonic()
    written_s = start

    def keep(snapshot: Snapshot) -> None:
        nonlocal written_s
        if world.is_first and time.monotonic() - written_s >= CHECKPOINT_INTERVAL_S:
            snapshot.write(folder.checkpoint)
            written_s = time.monotonic()

    progress_shown = TrainingProgress(trainer.total_epochs, len(trainer.rows), shown=world.is_first)
    with progress_shown as progress, stop_requests(_say_stopping) as stopped:
        complete = trainer.run(progress, keep, stopped)
    seconds = time.monotonic() - start
    snapshot = trainer.snapshot()
    if world.is_first:
        snapshot.write(folder.checkpoint)
        if trainer.can_calibrate:
            folder.write_weights(snapshot)
    config = replace(config, status="complete" if complete else "interrupted", epochs_done=len(trainer.rows))
    calibration = None
    if trainer.can_calibrate:
        calibration = _write_findings(folder, config, trainer, images, review)
    if world.is_first:
        folder.write_config(config)
        if complete:  # last, so that a run that ends before here can be resumed
            folder.checkpoint.unlink(missing_ok=True)
    return TrainingOutcome(folder, config, seconds, int(trainer.refinement.candidates.sum()), calibration)


def _write_findings(
    folder: RunFolder, config: RunConfig, trainer: Trainer, images: TrainingSet, review: bool
) -> dict[str, Any]:
    """Calibrate and write logs, sheets and plots. Returns the calibration numbers.

    All processes of a run score their share of the images; the first one writes.
    """
    criteria = trainer.calibration_criteria()
    names = trainer.autoencoder.criteria
    if config.train.rule == "fused":
        calibration, decision = calibrate_fused(
            criteria, names, trainer.terms(), config.train.target_fpr, config.train.seed
        )
    else:
        calibration, decision = calibrate_union(criteria, config.train.method, names)
    peaks = map_peaks(trainer.autoencoder, trainer.prior, trainer.images, trainer.world)
    calibration["anomaly_map_peak"] = {f"{q:g}": float(np.quantile(peaks, q)) for q in PEAK_QUANTILES}
    codes = trainer.criteria_and_codes()[1] if review else None
    if not trainer.world.is_first:
        return calibration
    folder.write_prior(trainer.prior)
    folder.write_calibration(calibration, decision)
    folder.write_training_log(trainer.rows)
    scores = decision.score(criteria)
    chosen = _sample_indices(scores, images.images)
    folder.write_samples(images.images[chosen], images.raw_frames)
    _write_refinement(folder.path / "refinement.csv", trainer, images, criteria, decision)
    rejected = trainer.refinement.candidates
    _write_sheet(folder.path / "rejected.png", images, scores, rejected)
    plot_losses(folder.path / "losses.png", trainer.rows)
    plot_scores(folder.path / "scores.png", criteria, decision, rejected)
    if codes is not None:
        groups = group_codes(codes, rejected, scores, config.train.seed)
        write_review(folder.path / "review", groups, images.images, images.names, scores)
    return calibration


def _write_refinement(
    path: Path, trainer: Trainer, images: TrainingSet, criteria: NDArray[np.float32], decision: Decision
) -> None:
    scores = decision.score(criteria)
    flagged = decision.is_anomalous(scores)
    header = [
        "index",
        "name",
        "label",
        *decision.criteria,
        "score",
        "above_threshold",
        "kept",
        "weight",
        "round",
        "reason",
    ]
    rows = []
    for index, name in enumerate(images.names):
        verdict = trainer.refinement.verdict(index)
        label = "" if images.labels is None else int(images.labels[index])
        rows.append(
            [
                index,
                name,
                label,
                *(f"{value:.6g}" for value in criteria[index]),
                f"{scores[index]:.6g}",
                int(flagged[index]),
                int(verdict.kept),
                f"{verdict.weight:g}",
                verdict.round if not verdict.kept else "",
                verdict.reason,
            ]
        )
    write_csv(path, header, rows)


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


def _sample_indices(scores: NDArray[np.float64], images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Images for the golden samples: evenly spread over the ranked scores, and the two astride the threshold."""
    n_samples = int(np.clip(SAMPLE_BYTES // images[0].nbytes, MIN_SAMPLES, MAX_SAMPLES))
    ranked = np.argsort(scores, kind="stable")
    spread = ranked[np.linspace(0, len(ranked) - 1, max(2, n_samples - 2)).round().astype(int)]
    above = int(np.searchsorted(scores[ranked], 1.0, side="right"))
    astride = ranked[max(0, above - 1) : above + 1]
    return np.unique(np.concatenate((spread, astride)))


def _check_shared(settings: TrainSettings, world: World) -> None:
    if settings.network == "patch" and world.size > 1:
        raise ConfigError(
            f"network patch trains in one process, not in {world.size}; start it without torchrun, or name another "
            "--network"
        )


def _say_stopping() -> None:
    logger.warning("stopping at the last whole epoch; once more to end at once")


def _device_name(device: torch.device, world: World) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return name if world.size == 1 else f"{name}, {world.size} processes"
