"""The training run: phases, epochs, the refinement between them, and a state that can be put away and resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.prior import Prior, StandardNormal
from edge_runtime.model.score import Term
from train.data.guidance import Guidance
from train.data.image_store import ImageStore, MemoryStore
from train.distributed import ALONE, World
from train.learning.adversarial_step import Learner, StepLosses, draw_prior
from train.learning.augmentation import augment
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot, restore_learner, snapshot_learner
from train.networks.autoencoder import Autoencoder, Discriminator
from train.networks.registry import build_autoencoder
from train.precision import uses_amp
from train.refinement.itsr import Refinement

__all__ = ["EpochRow", "Phase", "Trainer", "phases_of"]

MIN_IMAGES = 16
"""Fewer images give neither a batch nor a p90."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of epochs under one set of weights."""

    name: str
    epochs: int
    detection_round: int = 0
    """1-based round of one-class SVM detection that opens the phase; 0 for none."""
    retrains: bool = False
    fold: int | None = None
    """0-based fold that the phase's network does not see; None for all images"""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One line of training.csv."""

    phase: str
    epoch: int
    """1-based, within the whole run"""
    reconstruction_loss: float
    encoder_loss: float
    discriminator_loss: float
    images: int
    """Images trained on: those with a weight other than zero"""
    candidates: int
    """Images believed anomalous so far"""
    seconds: float


def phases_of(settings: TrainSettings) -> list[Phase]:
    """The phases of a run: one without refinement, the paper's three with ITSR (section 4.2)."""
    schedule = settings.schedule
    if settings.refine == "none":
        return [Phase("train", schedule.train)]
    rounds = range(1, settings.itsr.rounds + 1)
    return [
        Phase("pretrain", schedule.train),
        *(Phase(f"refine-{number}", schedule.refine, detection_round=number) for number in rounds),
        Phase("retrain", schedule.retrain, retrains=True),
    ]


class Trainer:
    """Trains one autoencoder; one seed gives the same weights again on the same machine."""

    def __init__(
        self,
        settings: TrainSettings,
        images: NDArray[np.uint8] | ImageStore,
        device: torch.device,
        guidance: NDArray[np.int8] | None = None,
        world: World = ALONE,
    ) -> None:
        """images: (N, H, W, C) uint8 network inputs; guidance: (N,) KEEP, REJECT or UNGUIDED, None for no word at all.

        world: processes that hold the same images and settings and share every batch and every scoring.
        Raises DataError where there are too few images, ConfigError where a batch has fewer than there are processes.
        """
        store = MemoryStore(images) if isinstance(images, np.ndarray) else images
        n_images, height, width, channels = store.array.shape
        if n_images < MIN_IMAGES:
            raise DataError(f"{n_images} images to train on, expected at least {MIN_IMAGES}")
        if settings.batch_size < world.size:
            raise ConfigError(
                f"--batch is {settings.batch_size}, expected one image or more for {world.size} processes"
            )
        self.settings = settings
        self.device = device
        self.world = world
        self.prior: Prior = StandardNormal(settings.latent_dim)
        self.images = store.on(device)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.guidance = Guidance.none(n_images).verdicts if guidance is None else guidance
        self.refinement = Refinement.fresh(n_images, settings.itsr, self.guidance)
        self.phases = self._phases()
        self.phase_index = 0
        self.epoch_in_phase = 0
        self.rows: list[EpochRow] = []
        # The rows as a snapshot wants them, made once: a snapshot an epoch must not cost more with every epoch.
        self._logged: list[dict[str, Any]] = []
        self.input_size = (channels, height, width)
        self.learner = self._fresh_learner(settings.seed)

    @property
    def autoencoder(self) -> Autoencoder:
        """The network being trained."""
        return self.learner.autoencoder

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def finished(self) -> bool:
        """Whether every phase was run."""
        return self.phase_index >= len(self.phases)

    def run(
        self,
        on_epoch: Callable[[EpochRow], None] = lambda row: None,
        on_whole: Callable[[Snapshot], None] = lambda snapshot: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end; returns False where `stopped` ended it.

        on_epoch is told of each epoch; on_whole gets the state after it, which can be written and resumed from.
        A stop inside an epoch goes back to the end of the last whole one, so that what is kept can be resumed as if
        nothing had happened.
        """
        stopped = self.world.agreed(stopped)
        last_whole = self.snapshot()
        while not self.finished:
            phase = self.phases[self.phase_index]
            if self.epoch_in_phase == 0:
                self._open_phase(phase)
            if self.epoch_in_phase < phase.epochs:
                row = self._train_epoch(phase, stopped)
                if row is None:
                    self.restore(last_whole)
                    return False
                self.epoch_in_phase += 1
                self.rows.append(row)
                self._logged.append(asdict(row))
                on_epoch(row)
            if self.epoch_in_phase >= phase.epochs:
                self._close_phase(phase)
                self.phase_index += 1
                self.epoch_in_phase = 0
            last_whole = self.snapshot()
            on_whole(last_whole)
        return True

    def snapshot(self) -> Snapshot:
        """A copy of everything that the rest of the run depends on."""
        return Snapshot(
            tensors={**snapshot_learner(self.learner), "generator": self.generator.get_state().clone()},
            refinement={name: array.copy() for name, array in self.refinement.to_arrays().items()},
            position={"phase_index": self.phase_index, "epoch_in_phase": self.epoch_in_phase},
            rows=list(self._logged),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a run with the same settings and images."""
        restore_learner(self.learner, snapshot.tensors)
        self.generator.set_state(snapshot.tensors["generator"].cpu())
        self.refinement = self._restored_refinement(snapshot.refinement)
        self.phase_index = snapshot.position["phase_index"]
        self.epoch_in_phase = snapshot.position["epoch_in_phase"]
        self.rows = [EpochRow(**row) for row in snapshot.rows]
        self._logged = list(snapshot.rows)

    @property
    def can_calibrate(self) -> bool:
        """Whether training has come far enough for thresholds, and so for a run that export can use."""
        return True

    def calibration_criteria(self) -> NDArray[np.float32]:
        """Raw criteria (N, K) of all training images, from which thresholds come: here under the final weights."""
        return self.criteria_and_codes()[0]

    def terms(self) -> dict[str, Term]:
        """How criteria add up in the fused score."""
        return self.autoencoder.terms(self.prior)

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw criteria (N, K) and codes (N, D) of all training images under the present weights."""
        return raw_criteria(self.autoencoder, self.prior, self.images, self.world)

    def _restored_refinement(self, arrays: dict[str, NDArray[Any]]) -> Refinement:
        return Refinement.from_arrays(arrays, self.settings.itsr)

    def _phases(self) -> list[Phase]:
        return phases_of(self.settings)

    def _fresh_learner(self, seed: int, latent_dim: int | None = None) -> Learner:
        """Networks with weights drawn by the seed, and their optimisers. latent_dim: None takes the settings'."""
        settings = self.settings
        latent_dim = latent_dim or settings.latent_dim
        channels, height, width = self.input_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            autoencoder = build_autoencoder(
                settings.network,
                channels=channels,
                height=height,
                width=width,
                latent_dim=latent_dim,
                batch_norm=settings.method == "aae",
            )
            discriminator = self._discriminator(latent_dim) if settings.method == "aae" else None
        return Learner(
            # Channels last is 1.5 to 2.5 times faster for these convolutions on a CPU.
            autoencoder.to(self.device).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            discriminator.to(self.device) if discriminator is not None else None,
            learning_rate=settings.learning_rate,
            adversarial_weight=settings.adversary_pull,
            world=self.world,
            amp=uses_amp(settings.amp, self.device),
        )

    def _discriminator(self, latent_dim: int) -> Discriminator:
        return Discriminator(latent_dim)

    def _close_phase(self, phase: Phase) -> None:
        """What follows the last epoch of a phase; here nothing."""

    def _open_phase(self, phase: Phase) -> None:
        if phase.detection_round:
            _, codes = self.criteria_and_codes()
            self.refinement.detect(codes, phase.detection_round, self.settings.seed + phase.detection_round)
        if phase.retrains:
            criteria, _ = self.criteria_and_codes()
            self.refinement.start_retraining(criteria[:, 0])

    def _train_epoch(self, phase: Phase, stopped: Callable[[], bool]) -> EpochRow | None:
        start = time.perf_counter()
        self.autoencoder.train()
        weights = torch.from_numpy(self.refinement.weights).to(self.device)
        used = torch.from_numpy(np.flatnonzero(self.refinement.weights))
        error_cap = self.refinement.error_cap
        steps: list[StepLosses] = []
        for batch in self._batches(used):
            if stopped():
                return None
            n, share = len(batch), self.world.share(len(batch))
            mine = batch[share]
            x = self.images.batch(mine).to(torch.float32, memory_format=torch.channels_last) / 255.0  # (B, C, H, W)
            x = augment(x, self.generator, self.settings.augment, n, share)
            draws = draw_prior(self.settings.latent_dim, n, self.generator, self.device)[share]
            prepared = self.autoencoder.prepare(x)
            w = weights[mine.to(self.device)]
            steps.append(self.learner.step(prepared, w, draws, error_cap=error_cap, batch_size=n))
        return self._row(phase, steps, len(used), time.perf_counter() - start)

    def _row(self, phase: Phase, steps: list[StepLosses], n_images: int, seconds: float) -> EpochRow:
        losses = torch.stack([torch.stack((step.reconstruction, step.encoder, step.discriminator)) for step in steps])
        reconstruction, encoder, discriminator = self.world.sum_(losses).mean(dim=0).tolist()
        return EpochRow(
            phase=phase.name if phase.fold is None else f"{phase.name}-{phase.fold + 1}",
            epoch=len(self.rows) + 1,
            reconstruction_loss=reconstruction,
            encoder_loss=encoder,
            discriminator_loss=discriminator,
            images=n_images,
            candidates=int(self.refinement.candidates.sum()),
            seconds=seconds,
        )

    def _batches(self, used: Tensor) -> Iterator[Tensor]:
        shuffled = used[torch.randperm(len(used), generator=self.generator)]
        for batch in shuffled.split(self.settings.batch_size):
            # Batch normalisation needs two images, and every process one: not all layers take an empty share.
            if len(batch) >= max(2, self.world.size):
                yield batch
