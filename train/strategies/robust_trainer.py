"""Robust training: cross-fitted trimming, exposure to known anomalies, out-of-fold scores for calibration.

Where ITSR (arXiv 1901.06355 section 4.2) judges images by the network that has learnt them, here an image is only ever
judged by networks that have not: the training set is cut into folds (as Yoon et al. 2022, arXiv 2106.06115, do with
subsets). Screening networks train on the best-fitting part of the other folds alone (trimmed loss) and score the
fold they have not seen; the highest scores are rejected; networks trained on the rest give each image its
out-of-fold criteria, from which thresholds follow; the last network trains on everything that was kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import CRITERIA, Term, sum_of_terms
from train.data.guidance import KEEP, REJECT
from train.data.image_store import ImageStore
from train.distributed import ALONE, World
from train.learning.adversarial_step import StepLosses, draw_prior
from train.learning.augmentation import AugmentSettings, augment
from train.learning.scoring import CHUNK
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot
from train.learning.trainer import EpochRow, Phase, Trainer
from train.networks.autoencoder import EXPOSURE, Discriminator
from train.refinement.robust import RobustRefinement
from train.strategies.density import fit_density
from train.strategies.exposure import fit_exposure

__all__ = ["RobustTrainer"]

LOWER_QUANTILE = 0.16
"""Of the scores: one standard deviation below the median of normally distributed ones. The lower half is hardly touched
by contamination, so its spread stands for the whole."""
NEG_LOG_PRIOR = CRITERIA.index("neg_log_prior")
MOST_FITTED = 20_000
"""Images that standardisation and covariances are fitted on, evenly drawn from more."""
MOST_KEPT_BYTES = 1 << 30
"""Of prepared images in memory: more are prepared again for every batch."""
LEAST_RATE = 0.01
"""Share of the learning rate that the cosine schedule of each network ends at."""


class RobustTrainer(Trainer):
    """Trains the networks of `--refine robust` one after another: for each fold one that screens and one that judges,
    and at last the one that is kept. Resumes like Trainer.
    """

    refinement: RobustRefinement  # type: ignore[assignment]

    def __init__(
        self,
        settings: TrainSettings,
        images: NDArray[np.uint8] | ImageStore,
        device: torch.device,
        guidance: NDArray[np.int8] | None = None,
        world: World = ALONE,
    ) -> None:
        """images: (N, H, W, C) uint8 network inputs; guidance: (N,) KEEP, REJECT or UNGUIDED; world: as for Trainer."""
        super().__init__(settings, images, device, guidance, world)
        self.exposed = bool((self.guidance == REJECT).any())
        """Whether a person named anomalies, to whose codes the networks are exposed"""
        n_criteria = len(self.autoencoder.own_criteria) + self.exposed
        self.refinement = RobustRefinement.fresh(settings.robust, self.guidance, n_criteria, settings.seed)
        self._input_statistics = self._fitted_inputs()
        self._prepared = self._prepare_once()
        self._seen = np.arange(len(images))
        """Images of the present phase"""
        self._start_network(self.phases[0])
        self._used = self._seen
        """Those of them that the present epoch trains on"""

    @property
    def can_calibrate(self) -> bool:
        """Only at the end: before it there is no network that has seen every image which was kept."""
        return self.finished

    def calibration_criteria(self) -> NDArray[np.float32]:
        """(N, K) criteria of every image by a network that has not seen it.

        Each network's density has a floor of its own (its codes' volume): what lies above it is laid on the last one's.
        """
        criteria = self.refinement.criteria.copy()
        criteria[:, NEG_LOG_PRIOR] += self.prior.floor
        return criteria

    def terms(self) -> dict[str, Term]:
        """The fused score: the network's own terms, and the exposure in spreads of their sum."""
        own = self.autoencoder.terms(self.prior)
        if not self.exposed:
            return own
        sums = sum_of_terms(self.calibration_criteria(), self.autoencoder.criteria, own)
        weight = self.settings.robust.exposure_spreads * _spread(sums)
        return {**own, EXPOSURE: Term(weight=weight, transform="linear")}

    def snapshot(self) -> Snapshot:
        """A copy of everything that the rest of the run depends on."""
        snapshot = super().snapshot()
        snapshot.refinement["used"] = self._used.copy()
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a run with the same settings and images."""
        self.refinement = self._restored_refinement(snapshot.refinement)
        phase_index, epoch_in_phase = snapshot.position["phase_index"], snapshot.position["epoch_in_phase"]
        closed = epoch_in_phase == 0 and phase_index > 0
        # A snapshot between two phases holds the network of the one that was closed.
        phase = self.phases[phase_index - 1 if closed else phase_index]
        self._start_network(phase)
        if closed and self.exposed and phase.name != "screen":
            self.autoencoder.attach_exposure()
        super().restore(snapshot)
        self._used = snapshot.refinement["used"].copy()
        if self.finished:
            self._fit_prior(np.flatnonzero(~self.refinement.candidates), self.settings.robust.components)

    def _restored_refinement(self, arrays: dict[str, NDArray[Any]]) -> RobustRefinement:  # type: ignore[override]
        return RobustRefinement.from_arrays(arrays, self.settings.robust)

    def _phases(self) -> list[Phase]:
        schedule = self.settings.schedule
        folds = range(self.settings.robust.folds)
        return [
            *(Phase("screen", schedule.refine, fold=fold) for fold in folds),
            *(Phase("judge", schedule.train, fold=fold) for fold in folds),
            Phase("final", schedule.train),
        ]

    def _discriminator(self, latent_dim: int) -> Discriminator:
        return Discriminator(latent_dim, self.settings.robust.discriminator_units)

    def _fitted_inputs(self) -> dict[str, Tensor]:
        """What every network of the run reads its images through; it holds no learnt weights."""
        if self.autoencoder.standardises_inputs:
            step = -(-len(self.images) // MOST_FITTED)
            self.autoencoder.fit_inputs(self.images.batch(torch.arange(0, len(self.images), step)))
        return self.autoencoder.input_statistics()

    def _prepare_once(self) -> Tensor | None:
        """What every network reads, (N, ...) float32; None where it is too large to keep, or changes in every batch."""
        if self.settings.augment != AugmentSettings():
            return None
        first = self._prepare(torch.arange(1))
        if len(self.images) * first.nbytes > MOST_KEPT_BYTES:
            return None
        return torch.cat([self._prepare(part) for part in torch.arange(len(self.images)).split(CHUNK)])

    @torch.no_grad()
    def _prepare(self, indices: Tensor) -> Tensor:
        """What the networks read for the images of these indices (B,): (B, ...) float32."""
        x = self.images.batch(indices).to(torch.float32, memory_format=torch.channels_last) / 255.0
        return self.autoencoder.prepare(x)

    def _inputs(self, indices: Tensor) -> Tensor:
        return self._prepare(indices) if self._prepared is None else self._prepared[indices.to(self.device)]

    def _training_inputs(self, batch: Tensor, mine: slice) -> Tensor:
        """As `_inputs` for this process's share of a batch, augmented where that is asked for."""
        settings, indices = self.settings.augment, batch[mine]
        if settings == AugmentSettings():
            return self._inputs(indices)
        x = self.images.batch(indices).to(torch.float32, memory_format=torch.channels_last) / 255.0
        return self.autoencoder.prepare(augment(x, self.generator, settings, len(batch), mine))

    def _start_network(self, phase: Phase) -> None:
        number = next(index for index, other in enumerate(self.phases) if other == phase)
        latent_dim = self.settings.robust.screen_latent if phase.name == "screen" else self.settings.latent_dim
        self.learner = self._fresh_learner(self.settings.seed * len(self.phases) + number, latent_dim)
        self.prior = StandardNormal(latent_dim)
        self.autoencoder.load_input_statistics(self._input_statistics)
        of_others = np.ones(len(self.images), dtype=np.bool_)
        if phase.fold is not None:
            of_others = self.refinement.fold != phase.fold
        believed = self.refinement.guidance != REJECT if phase.name == "screen" else ~self.refinement.candidates
        self._seen = np.flatnonzero(of_others & believed)

    def _open_phase(self, phase: Phase) -> None:
        self._start_network(phase)

    def _train_epoch(self, phase: Phase, stopped: Callable[[], bool]) -> EpochRow | None:
        start = time.perf_counter()
        settings = self.settings
        done = self.epoch_in_phase / phase.epochs
        share = LEAST_RATE + (1.0 - LEAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        self.learner.set_learning_rate(settings.learning_rate * share)
        self._used = self._best_fitting() if phase.name == "screen" and self.epoch_in_phase > 0 else self._seen
        self.autoencoder.train()
        steps: list[StepLosses] = []
        for batch in self._batches(torch.from_numpy(self._used)):
            if stopped():
                return None
            n, mine = len(batch), self.world.share(len(batch))
            dim = self.autoencoder.latent_dim
            noise = draw_prior(dim, n, self.generator, self.device)[mine]
            draws = draw_prior(dim, n, self.generator, self.device)[mine]
            steps.append(
                self.learner.step(
                    self._training_inputs(batch, mine),
                    torch.ones(len(noise), device=self.device),
                    draws,
                    code_noise=settings.robust.code_noise * noise,
                    batch_size=n,
                )
            )
        return self._row(phase, steps, len(self._used), time.perf_counter() - start)

    def _best_fitting(self) -> NDArray[np.int64]:
        """The share of the phase's images that fit best what the last epoch trained on; trimmed least squares.

        What a person keeps always trains.
        """
        self._fit_prior(self._used)
        scores = self._own_sums(self._seen)
        scores[self.refinement.guidance[self._seen] == KEEP] = -np.inf
        n_kept = max(2, round(self.settings.robust.screen_keep * len(self._seen)))
        return np.sort(self._seen[np.argsort(scores, kind="stable")[:n_kept]])

    def _close_phase(self, phase: Phase) -> None:
        refinement = self.refinement
        if phase.name == "screen":
            self._fit_prior(self._used)
            held_out = np.flatnonzero(refinement.fold == phase.fold)
            refinement.screening[held_out] = self._own_sums(held_out)
            if refinement.screened:
                # Folds are scored by different networks; sums of logs of scale-free terms can be laid side by side.
                refinement.screening -= np.median(refinement.screening)
                refinement.screening /= _spread(refinement.screening)
            return
        self._fit_prior(self._seen, self.settings.robust.components)
        if self.exposed:
            of_others = np.arange(len(self.images))
            if phase.fold is not None:
                of_others = np.flatnonzero(refinement.fold != phase.fold)
            _, codes = self._measure(of_others)
            exposure = self.autoencoder.attach_exposure().to(self.device)
            fit_exposure(exposure, codes, (self.guidance == REJECT)[of_others])
        if phase.fold is not None:
            held_out = np.flatnonzero(refinement.fold == phase.fold)
            criteria, _ = self._measure(held_out)
            criteria[:, NEG_LOG_PRIOR] -= self.prior.floor
            refinement.criteria[held_out] = criteria

    def _fit_prior(self, indices: NDArray[np.int64], components: int = 1) -> None:
        """Fit the codes' density, and what else the criteria need, on the images of these indices."""
        self.autoencoder.eval()
        step = -(-len(indices) // MOST_FITTED)
        self.autoencoder.fit_statistics(self._inputs(torch.from_numpy(indices[::step])))
        _, codes = self._measure(indices)
        self.prior = fit_density(codes, components, self.settings.seed)

    def _own_sums(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        criteria, _ = self._measure(indices)
        names = self.autoencoder.own_criteria
        return sum_of_terms(criteria[:, : len(names)], names, self.autoencoder.terms(self.prior))

    @torch.inference_mode()
    def _measure(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (n, K) and codes (n, D) of some images under the present network."""
        self.autoencoder.eval()
        chunks = self.world.mine(torch.from_numpy(indices).split(CHUNK))
        measured = [self.autoencoder.measure_with_exposure(self._inputs(chunk), self.prior) for chunk in chunks]
        criteria = [part.criteria.cpu().numpy() for part in measured]
        codes = [part.latent.cpu().numpy() for part in measured]
        return (
            self.world.gathered(criteria, len(indices), CHUNK, (len(self.autoencoder.criteria),)),
            self.world.gathered(codes, len(indices), CHUNK, (self.autoencoder.latent_dim,)),
        )


def _spread(scores: NDArray[np.float64]) -> float:
    """Median minus lower quantile; never zero, so that it can be divided by."""
    return max(float(np.median(scores) - np.quantile(scores, LOWER_QUANTILE)), 1e-9)
