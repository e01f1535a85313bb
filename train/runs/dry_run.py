"""What a training run would do, found out by beginning it: all images are read, a few steps taken, nothing written."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch

from train.backbones.loading import load_backbone
from train.data.image_store import DiskStore
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet
from train.intake.variation import singular_as_sameness
from train.learning.settings import TrainSettings
from train.learning.trainer import Trainer
from train.runs.session import check_asked, load_images, pick_device, trainer_for
from train.runs.settling import settled
from train.runs.view_choice import ViewChoice
from train.structure.trial import HEAD_PHASES

__all__ = ["DryRun", "dry_run"]

STEPS = 12
"""Steps taken at most; their median counts, so that the first ones may warm up."""
STEPS_S = 10.0
"""Seconds after which no further step is begun, once three were taken."""
LEAST_TOLD_S = 0.5


@dataclass(frozen=True, slots=True)
class DryRun:
    """What a run would do."""

    images: TrainingSet
    settings: TrainSettings
    device: torch.device
    n_parameters: int
    """Of encoder and decoder, which are exported"""
    n_training_parameters: int
    """Of the discriminator, which is not"""
    epochs: int
    """Without those of a head"""
    steps_per_epoch: int
    reading_s: float
    """What reading the images took"""
    fitting_s: float
    """What comes before the first step, such as distributions in closed form"""
    step_s: float
    """Median of the timed steps"""
    pass_s: float
    """One scoring of all images"""
    peak_bytes: int
    """The most memory this process has held, images, network and steps included"""
    gpu_bytes: int
    """The same on the GPU, 0 without one"""
    head_epochs: int = 0
    """Of a head that may be tried, over all of its phases; 0 where there is none"""
    view: ViewChoice | None = None
    """The view that was chosen, None where one was named"""
    choosing_s: float = 0.0
    """What choosing it took"""

    @property
    def seconds(self) -> float:
        """Estimate of the whole run: choosing a view, reading, fitting, every epoch at full size, a scoring for each
        refinement round and two at the end. One-class SVMs, a head and reports are not in it."""
        n_rounds = self.settings.itsr.rounds if self.settings.refine == "itsr" else 0
        preparing_s = self.choosing_s + self.reading_s + self.fitting_s
        return preparing_s + self.epochs * self.steps_per_epoch * self.step_s + (n_rounds + 2) * self.pass_s

    def lines(self) -> list[str]:
        """The findings as lines of text."""
        images, settings = self.images, self.settings
        height, width, _ = images.preprocess.input_shape
        colour = "grey" if images.preprocess.channels == 1 else "colour"
        n_found = len(images.names) + len(images.bad) + len(images.duplicates)
        guided = f"; {images.guidance.keep.sum()} known normal, {images.guidance.reject.sum()} known anomalous"
        on_disk = isinstance(images.store, DiskStore)
        adversary = f" and {self.n_training_parameters:,} of the discriminator" if self.n_training_parameters else ""
        gpu = f", {self.gpu_bytes / 2**20:.0f} MiB on the GPU" if self.gpu_bytes else ""
        return [
            f"images:      {n_found} found, {len(images.bad)} skipped, {len(images.duplicates)} near-duplicates left "
            f"out, {len(images.names)} to train on{guided if images.guidance else ''}",
            *([] if self.view is None else [f"view:        {self.view.chosen}: {self.view.reason}"]),
            *([] if images.preprocess.align is None else [f"view:        {images.preprocess.align}"]),
            *(f"skipped:     {reason}" for _, reason in images.bad[:3]),
            *([f"groups:      {images.groups.line()}"] if settings.makes_folds and images.groups.by != "none" else []),
            f"input:       {height}x{width}, {colour}, {images.preprocess.fit}, "
            f"held {'on disk' if on_disk else 'in memory'}",
            f"network:     {settings.network}, method {settings.method}, refine {settings.refine}, latent "
            f"{settings.latent_dim}; {self.n_parameters:,} parameters{adversary}",
            f"training:    {self.epochs} epochs of {self.steps_per_epoch} steps of {settings.batch_size} images, "
            f"on {self.device}",
            *(
                [
                    f"head:        up to {self.head_epochs} epochs more, where the features tell too little; neither "
                    "counted nor timed here"
                ]
                if self.head_epochs
                else []
            ),
            f"time:        about {_duration(self.seconds)}: {1000 * self.step_s:.0f} ms a step, "
            f"{_duration(self.pass_s)} a scoring of all images, {_duration(self.reading_s)} to read them"
            + (f", {_duration(self.fitting_s)} to fit what needs no steps" if self.fitting_s >= LEAST_TOLD_S else "")
            + (f", {_duration(self.choosing_s)} to choose their view" if self.view is not None else ""),
            f"memory:      {self.peak_bytes / 2**20:.0f} MiB at the most so far{gpu}",
        ]


@singular_as_sameness()
def dry_run(data: DataSettings, settings: TrainSettings, *, device: str = "auto", out: Path | None = None) -> DryRun:
    """Begin a run and say what it would do; raises what the run would raise at its start.

    out: where the run would write, and where a file of images goes that memory does not hold.
    """
    check_asked(data, out)
    torch_device = pick_device(device)
    started_s = time.perf_counter()
    backbone = load_backbone(settings.backbone) if settings.spec.reads_backbone else None
    data, settings, view = settled(data, settings, torch_device, backbone)
    choosing_s, started_s = time.perf_counter() - started_s, time.perf_counter()
    images = load_images(data, settings, out)
    reading_s = time.perf_counter() - started_s
    trainer = trainer_for(settings, images, torch_device, backbone=backbone, finer=data.finer)
    pass_s = _timed_pass(trainer)
    fitting_s, step_s = _timed_steps(trainer)
    adversary = trainer.strategy.discriminator
    head_epochs = sum(phase.epochs for phase in trainer.strategy.phases if phase.name in HEAD_PHASES)
    return DryRun(
        images=images,
        settings=settings,
        device=torch_device,
        n_parameters=sum(weights.numel() for weights in trainer.strategy.autoencoder.parameters()),
        n_training_parameters=sum(weights.numel() for weights in adversary.parameters()) if adversary else 0,
        epochs=trainer.total_epochs - head_epochs,
        head_epochs=head_epochs,
        steps_per_epoch=settings.spec.steps_per_epoch or -(-len(images.names) // settings.batch_size),
        reading_s=reading_s,
        fitting_s=fitting_s,
        step_s=step_s,
        pass_s=pass_s,
        peak_bytes=_peak_bytes(),
        gpu_bytes=torch.cuda.max_memory_allocated(torch_device) if torch_device.type == "cuda" else 0,
        view=view,
        choosing_s=0.0 if view is None else choosing_s,
    )


def _timed_pass(trainer: Trainer) -> float:
    started_s = time.perf_counter()
    trainer.strategy.criteria_and_codes()  # ends with a copy to the CPU, so a GPU has finished too
    return time.perf_counter() - started_s


def _timed_steps(trainer: Trainer) -> tuple[float, float]:
    """Seconds before the first step and of each: the trainer asks before each one whether to stop."""
    asked_s: list[float] = []

    def stopped() -> bool:
        if trainer.task.device.type == "cuda":
            torch.cuda.synchronize(trainer.task.device)
        asked_s.append(time.perf_counter())
        return len(asked_s) > STEPS or (len(asked_s) > 3 and asked_s[-1] - asked_s[0] > STEPS_S)

    started_s = time.perf_counter()
    trainer.run(stopped=stopped)
    durations = sorted(after - before for before, after in pairwise(asked_s))
    first_s = asked_s[0] if asked_s else time.perf_counter()
    return first_s - started_s, durations[len(durations) // 2] if durations else 0.0


def _peak_bytes() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
