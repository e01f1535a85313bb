"""What a kind of training is to the Trainer that runs it, and to those who ask for what it found.

The kinds themselves stand in train/strategies; the Trainer (trainer.py) knows them through this protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_runtime.model.prior import Prior
from edge_runtime.model.score import Term
from train.distributed import World
from train.learning.adversarial_step import StepLosses
from train.learning.snapshot import State
from train.learning.task import Task
from train.networks.autoencoder import Autoencoder
from train.refinement.itsr import Verdict

__all__ = ["Choice", "EpochLosses", "HeldOut", "Phase", "Strategy", "Verdicts"]


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of epochs under one set of weights; none at all where its work is done in opening and closing it."""

    name: str
    """As training.csv has it"""
    epochs: int


@dataclass(frozen=True, slots=True)
class EpochLosses:
    """What an epoch came to: means over its steps, zero for a loss that the kind of training does not have."""

    reconstruction: float
    encoder: float
    discriminator: float
    images: int
    """Images trained on: those with a weight other than zero"""

    @classmethod
    def mean(cls, steps: Sequence[StepLosses], images: int, world: World) -> EpochLosses:
        """steps: those of an epoch, each with this process's summands."""
        losses = torch.stack([torch.stack((step.reconstruction, step.encoder, step.discriminator)) for step in steps])
        reconstruction, encoder, discriminator = world.sum_(losses).mean(dim=0).tolist()
        return cls(reconstruction, encoder, discriminator, images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Candidates for the score, by what they find of defects of kinds that none of them was trained on."""

    joined: bool
    """Whether the head takes part"""
    n: int
    """Copies with a defect that they were judged by"""
    aurocs: Mapping[str, float]
    """By which each candidate tells copies from images"""
    found: Mapping[str, float]
    """Share of the copies above the score that `fpr` of the images lie above"""
    fpr: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldOut:
    """How the training images were judged by what had not seen them, and defects that nothing was trained on."""

    fold: NDArray[np.integer]
    """(N,) fold of each training image"""
    synthetic: NDArray[np.float32] | None = None
    """(M, K) criteria, to be laid beside the calibration criteria, of copies of training images with a synthetic
    defect of a kind that nothing was trained on, by what had not seen the original; None where no copy was judged"""
    owners: NDArray[np.integer] | None = None
    """(M,) the image that each is a copy of"""
    choice: Choice | None = None
    """What was tried for the score; None where there was nothing to choose"""
    n_groups: int | None = None
    """Groups that were kept together, where images were looked through for objects that several of them show"""
    change: float | None = None
    """By how much images differ more from other stretches of their order than from images all over it, in spreads; None
    where it was not looked for"""
    in_stretches: bool = False
    """Whether the folds are therefore stretches of it"""
    peaks: NDArray[np.floating] | None = None
    """(m,) largest value of the anomaly map of each image that is believed, by what was fitted without it; None where
    the map of what has seen it is as low"""


class Verdicts(Protocol):
    """What a refinement believes of each training image."""

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """(N,) images believed anomalous so far."""
        ...

    def verdict(self, index: int) -> Verdict:
        """What became of image `index`, and why."""
        ...

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a checkpoint."""
        ...


class Strategy(Protocol):
    """One kind of training, constructed whole: its phases, its networks, and what it finds of the images.

    The Trainer calls, for each phase in turn, `open_phase`, then `train_epoch` for each of its epochs, then
    `close_phase`; a phase is told by its index in `phases`. After each of these epochs it asks for `state`, from which
    `restore` must be able to go on, to the bit. An epoch need not take gradient steps: a pass over the images that fits
    statistics is one too, with losses of zero, and only within epochs can a run be stopped.
    """

    @property
    def task(self) -> Task:
        """What it was constructed with."""
        ...

    @property
    def phases(self) -> Sequence[Phase]:
        """In the order in which they are run; fixed from construction on."""
        ...

    @property
    def autoencoder(self) -> Autoencoder:
        """The present network; after the last phase the one that is kept."""
        ...

    @property
    def discriminator(self) -> nn.Module | None:
        """What the present network is trained against and nobody else needs; None without an adversary."""
        ...

    @property
    def prior(self) -> Prior:
        """The density that the present network's codes are judged under."""
        ...

    @property
    def refinement(self) -> Verdicts:
        """What it believes of each image."""
        ...

    @property
    def calibrates_early(self) -> bool:
        """Whether thresholds can be taken before the last phase is closed, and so a run that export can use."""
        ...

    def open_phase(self, index: int) -> None:
        """What comes before the first epoch of a phase."""
        ...

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        """Train a phase's epoch, 0-based. stopped: to be asked before each step; None once it says so."""
        ...

    def close_phase(self, index: int) -> None:
        """What follows the last epoch of a phase."""
        ...

    def state(self) -> State:
        """A copy of what the rest of the run depends on, but for the task's generator."""
        ...

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        """Go on from a state of the phase of this index: from between its epochs, or after it was closed."""
        ...

    def calibration_criteria(self) -> NDArray[np.float32]:
        """Raw criteria (N, K) of all training images, from which thresholds come."""
        ...

    def held_out(self) -> HeldOut | None:
        """How the calibration criteria came about; None where they are those of a network that has seen the images."""
        ...

    def terms(self) -> dict[str, Term]:
        """How criteria add up in the fused score."""
        ...

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw criteria (N, K) and codes (N, D) of all training images under the present weights."""
        ...
