"""Training without refinement, and with ITSR: one network from the first epoch to the last.

ITSR: Beggel, Pfeiffer, Bischl 2019, arXiv 1901.06355 section 4.2; what it believes of the images stands in
train/refinement/itsr.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edge_runtime.model.prior import Prior, StandardNormal
from edge_runtime.model.score import Term
from train.learning.adversarial_step import StepLosses, draw_prior, fresh_learner
from train.learning.augmentation import augment
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.learning.snapshot import State, restore_learner, snapshot_learner
from train.learning.strategy import EpochLosses, Phase
from train.learning.task import Task
from train.networks.autoencoder import Autoencoder
from train.refinement.itsr import Refinement

__all__ = ["ItsrPhase", "PlainTraining", "phases_of"]


@dataclass(frozen=True, slots=True)
class ItsrPhase(Phase):
    """A phase, and what ITSR does before it."""

    detection_round: int = 0
    """1-based round of one-class SVM detection that opens the phase; 0 for none."""
    retrains: bool = False


def phases_of(settings: TrainSettings) -> list[ItsrPhase]:
    """The phases of a run: one without refinement, the paper's three with ITSR (section 4.2)."""
    schedule = settings.schedule
    if settings.refine == "none":
        return [ItsrPhase("train", schedule.train)]
    rounds = range(1, settings.itsr.rounds + 1)
    return [
        ItsrPhase("pretrain", schedule.train),
        *(ItsrPhase(f"refine-{number}", schedule.refine, detection_round=number) for number in rounds),
        ItsrPhase("retrain", schedule.retrain, retrains=True),
    ]


class PlainTraining:
    """Trains one network on weighted images; ITSR changes the weights between phases."""

    calibrates_early = True

    def __init__(self, task: Task) -> None:
        """task: any whose network has one code an image."""
        settings = task.settings
        self.task = task
        self.phases = phases_of(settings)
        self.learner = fresh_learner(task, settings.seed)
        self.prior: Prior = StandardNormal(settings.latent_dim)
        self.refinement = Refinement.fresh(len(task.images), settings.itsr, task.guidance)

    @property
    def autoencoder(self) -> Autoencoder:
        """The network being trained."""
        return self.learner.autoencoder

    @property
    def discriminator(self) -> nn.Module | None:
        """Its adversary."""
        return self.learner.discriminator

    def open_phase(self, index: int) -> None:
        """Detect candidates, or weigh them for re-training, where the phase begins with that."""
        phase = self.phases[index]
        if phase.detection_round:
            _, codes = self.criteria_and_codes()
            self.refinement.detect(codes, phase.detection_round, self.task.settings.seed + phase.detection_round)
        if phase.retrains:
            criteria, _ = self.criteria_and_codes()
            self.refinement.start_retraining(criteria[:, 0])

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        """One pass over the images of a weight other than zero."""
        task, settings, images = self.task, self.task.settings, self.task.images
        self.autoencoder.train()
        weights = torch.from_numpy(self.refinement.weights).to(task.device)
        used = torch.from_numpy(np.flatnonzero(self.refinement.weights))
        error_cap = self.refinement.error_cap
        steps: list[StepLosses] = []
        for batch in task.batches(used):
            if stopped():
                return None
            n, share = len(batch), task.world.share(len(batch))
            mine = batch[share]
            x = images.batch(mine).to(torch.float32, memory_format=torch.channels_last) / 255.0  # (B, C, H, W)
            x = augment(x, task.generator, settings.augment, n, share)
            draws = draw_prior(settings.latent_dim, n, task.generator, task.device)[share]
            prepared = self.autoencoder.prepare(x)
            w = weights[mine.to(task.device)]
            steps.append(self.learner.step(prepared, w, draws, error_cap=error_cap, batch_size=n))
        return EpochLosses.mean(steps, len(used), task.world)

    def close_phase(self, index: int) -> None:
        """Nothing: what follows is done where the next phase is opened, or nothing."""

    def state(self) -> State:
        """The network, its adversary, and the refinement."""
        arrays = {name: array.copy() for name, array in self.refinement.to_arrays().items()}
        return State(snapshot_learner(self.learner), arrays)

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        """The phase does not matter: it is one network throughout."""
        restore_learner(self.learner, state.tensors)
        self.refinement = Refinement.from_arrays(state.refinement, self.task.settings.itsr)

    def calibration_criteria(self) -> NDArray[np.float32]:
        """Raw criteria (N, K) of all training images under the final weights."""
        return self.criteria_and_codes()[0]

    def held_out(self) -> None:
        """Nothing: the one network has seen every image."""
        return

    def terms(self) -> dict[str, Term]:
        """The network's own."""
        return self.autoencoder.terms(self.prior)

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw criteria (N, K) and codes (N, D) of all training images under the present weights."""
        return raw_criteria(self.autoencoder, self.prior, self.task.images, self.task.world)
