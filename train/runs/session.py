"""A whole training run, from images to a run folder that export can use; the Python entry to training."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from edge_runtime import __version__
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import check_folder_place
from edge_runtime.operations.stopping import stop_requests
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.backbones.saving import save_backbone, saved_backbone
from train.data.loading import check_guidance, load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet
from train.distributed import ALONE, World
from train.intake.picture_quality import tell_differing
from train.intake.variation import check_variation, singular_as_sameness
from train.learning.settings import TrainSettings
from train.learning.snapshot import ADVERSARY, Snapshot, in_a_line
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.memory import keep_freed_memory
from train.precision import uses_amp
from train.runs.findings import write_findings
from train.runs.progress import TrainingProgress
from train.runs.run_folder import RunConfig, RunFolder, point_latest_at, write_csv
from train.runs.settling import settled
from train.strategies.choice import strategy_for

__all__ = ["TrainingOutcome", "check_asked", "load_images", "pick_device", "resume", "train", "trainer_for"]

logger = logging.getLogger(__name__)

CHECKPOINT_INTERVAL_S = 30.0
"""A crash loses at most this much work, and an epoch."""


class TrainingOutcome:
    """What a run left behind."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        seconds: float,
        n_rejected: int,
        calibration: dict[str, Any] | None,
        images: TrainingSet,
    ) -> None:
        self.folder = folder
        self.config = config
        self.seconds = seconds
        """Spent training in this process"""
        self.n_rejected = n_rejected
        self.calibration = calibration
        """Calibration numbers as the manifest holds them; None where training did not get so far"""
        self.images = images
        """What it was trained on"""

    def __repr__(self) -> str:
        """Where the run lies and what it came to, in a line."""
        config = self.config
        return (
            f"<TrainingOutcome {self.path}: {config.status}, network {config.train.network}, "
            f"{config.n_images} images, {self.n_rejected} set aside>"
        )

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def complete(self) -> bool:
        """Whether every phase was run; False after an interruption."""
        return self.config.status == "complete"


@singular_as_sameness()
def train(
    data: DataSettings,
    settings: TrainSettings,
    out: Path,
    *,
    device: str = "auto",
    announce: bool = True,
    review: bool = False,
    bars: bool = True,
    world: World = ALONE,
) -> TrainingOutcome:
    """Train a new run into the folder `out`; announce makes runs/latest point at it, review groups what was rejected.

    bars: False logs lines of progress on a terminal too, for one that several runs share.
    world: the processes that train together, all of which call this; the first one writes. SIGINT and SIGTERM end it
    at the last whole epoch with a usable folder. Raises DataError, ConfigError.
    """
    check_asked(data, out if world.is_first else None)
    keep_freed_memory()
    torch_device = world.device or pick_device(device)
    _check_shared(settings, world)
    settings = replace(settings, amp=not settings.spec.chooses_precision and uses_amp(settings.amp, torch_device))
    backbone = load_backbone(settings.backbone) if settings.spec.reads_backbone else None
    asked = settings
    data, settings, view = world.from_first(lambda: settled(data, asked, torch_device, backbone))
    images = load_images(data, settings, out)
    images_sha256 = images.sha256()
    world.check_same(images_sha256, f"the first one's images in {data.path}")
    trainer = trainer_for(settings, images, torch_device, world, backbone, data.finer)
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
        if backbone is not None:
            save_backbone(backbone, out)
        if view is not None:
            view.write(folder.view)
        folder.write_config(config)
        if announce:
            point_latest_at(out)
    return _run(folder, config, trainer, images, review=review, bars=bars)


@singular_as_sameness()
def resume(out: Path, *, device: str = "auto", review: bool = False, world: World = ALONE) -> TrainingOutcome:
    """Go on with an interrupted run, as if nothing had happened; one killed before its first checkpoint starts over.

    Raises ConfigError where the run is complete; DataError where the folder is no run folder, its checkpoint is
    damaged, or the images are not the ones it was trained on.
    """
    keep_freed_memory()
    folder = RunFolder(out)
    config = folder.read_config()
    if config.status == "complete":
        raise ConfigError(f"{out} is complete ({config.epochs_done} epochs); there is nothing to resume")
    _check_shared(config.train, world)
    images = load_images(config.data, config.train, out)
    if images.sha256() != config.images_sha256:
        raise DataError(
            f"the images in {config.data.path} are not those {out} was trained on "
            f"({len(images.images)} now, {config.n_images} then, or other pixels); train a new run"
        )
    backbone = saved_backbone(out) if config.train.spec.reads_backbone else None
    trainer = trainer_for(config.train, images, world.device or pick_device(device), world, backbone, config.data.finer)
    # Read by all before any goes on: the first one writes it anew.
    snapshot = Snapshot.read(folder.checkpoint) if folder.checkpoint.exists() else None
    world.check_same("" if snapshot is None else str(snapshot.position), f"the first one's checkpoint in {out}")
    if snapshot is not None:
        try:
            trainer.check(snapshot)
            trainer.restore(snapshot)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError) as error:
            raise DataError(f"{folder.checkpoint} is not of this run: {in_a_line(error)}; train again") from error
    logger.info("resuming %s after %d of %d epochs", out, len(trainer.rows), trainer.total_epochs)
    if world.is_first:
        point_latest_at(out)
    return _run(folder, config, trainer, images, review=review)


def check_asked(data: DataSettings, out: Path | None) -> None:
    """Raise what can be told before images are read: ConfigError for a run folder that holds something, DataError for
    one that cannot be made and for files about images that do not fit them.

    out: None where another process looks after it.
    """
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"{out} exists and is not empty; name another --out, or go on with it through --resume")
        check_folder_place(out)
    check_guidance(data)


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


def load_images(data: DataSettings, settings: TrainSettings, out: Path | None) -> TrainingSet:
    """The images of a run, in groups that its folds, if it makes any, can keep together.

    Raises what load_training_set raises, DataError for images that are all the same, and ConfigError where groups that
    were asked for do not make folds.
    """
    images = load_training_set(data, settings.network, out)
    check_variation(images.picture, len(images.names), data.path)
    if not settings.makes_folds:
        return images
    return replace(images, groups=images.groups.for_folds(settings.robust.folds))


def trainer_for(
    settings: TrainSettings,
    images: TrainingSet,
    device: torch.device,
    world: World = ALONE,
    backbone: Backbone | None = None,
    finer: int = 1,
) -> Trainer:
    """The trainer of a run's settings, before its first step; finer: of its data settings."""
    task = Task.of(
        settings,
        images.store,
        device,
        images.guidance.verdicts,
        world,
        groups=images.groups.of,
        backbone=backbone,
        finer=finer,
        ordered=images.groups.by == "auto",
    )
    return Trainer(strategy_for(task))


def _run(
    folder: RunFolder, config: RunConfig, trainer: Trainer, images: TrainingSet, *, review: bool, bars: bool = True
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
    if config.train.makes_folds and images.groups.by != "none":
        logger.info("groups: %s", images.groups.line())
    world = trainer.task.world
    if images.bad and world.is_first:
        write_csv(folder.path / "skipped.csv", ["name", "reason"], images.bad)
    if world.is_first:
        tell_differing(images.names, images.qualities)
    start = time.monotonic()
    written_s = start

    def keep(snapshot: Snapshot) -> None:
        nonlocal written_s
        if world.is_first and time.monotonic() - written_s >= CHECKPOINT_INTERVAL_S:
            snapshot.write(folder.checkpoint)
            written_s = time.monotonic()

    progress_shown = TrainingProgress(trainer.total_epochs, len(trainer.rows), shown=world.is_first, bars=bars)
    with progress_shown as progress, stop_requests(_say_stopping) as stopped:
        complete = trainer.run(progress, keep, stopped)
    seconds = time.monotonic() - start
    snapshot = trainer.snapshot()
    if world.is_first:
        snapshot.write(folder.checkpoint)
        if trainer.can_calibrate:
            folder.write_weights(snapshot, (*trainer.strategy.autoencoder.parts(), ADVERSARY))
    config = replace(config, status="complete" if complete else "interrupted", epochs_done=len(trainer.rows))
    calibration = None
    if trainer.can_calibrate:
        calibration = write_findings(folder, config, trainer, images, review=review)
    if world.is_first:
        folder.write_config(config)
        if complete:  # last, so that a run that ends before here can be resumed
            folder.checkpoint.unlink(missing_ok=True)
    n_rejected = int(trainer.strategy.refinement.candidates.sum())
    return TrainingOutcome(folder, config, seconds, n_rejected, calibration, images)


def _check_shared(settings: TrainSettings, world: World) -> None:
    if settings.spec.one_process and world.size > 1:
        raise ConfigError(
            f"network {settings.network} trains in one process, not in {world.size}; start it without torchrun, or "
            "name another --network"
        )


def _say_stopping() -> None:
    logger.warning("stopping at the last whole epoch; once more to end at once")


def _device_name(device: torch.device, world: World) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return name if world.size == 1 else f"{name}, {world.size} processes"
