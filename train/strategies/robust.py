"""Robust training: cross-fitted trimming, exposure to known anomalies, out-of-fold scores for calibration.

Where ITSR (arXiv 1901.06355 section 4.2) judges images by the network that has learnt them, here an image is only ever
judged by networks that have not: the training set is cut into folds (as Yoon et al. 2022, arXiv 2106.06115, do with
subsets). Screening networks train on the best-fitting part of the other folds alone (trimmed loss) and score the
fold they have not seen; the highest scores are rejected; networks trained on the rest give each image its
out-of-fold criteria, from which thresholds follow; the last network trains on everything that was kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.model.prior import Prior, StandardNormal
from edge_runtime.model.score import CRITERIA, Term, sum_of_terms
from train.data.guidance import KEEP, REJECT
from train.learning.adversarial_step import StepLosses, draw_prior, fresh_learner
from train.learning.augmentation import AugmentSettings, augment
from train.learning.folds import FoldPhase, each_fold, final
from train.learning.scoring import CHUNK, raw_criteria
from train.learning.snapshot import State, restore_learner, snapshot_learner
from train.learning.strategy import EpochLosses, HeldOut
from train.learning.task import Task
from train.networks.autoencoder import EXPOSURE, Autoencoder
from train.refinement.robust import RobustRefinement
from train.strategies.density import fit_density
from train.strategies.exposure import fit_exposure

__all__ = ["RobustTraining"]

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


class RobustTraining:
    """Trains the networks of `--refine robust` one after another: for each fold one that screens and one that judges,
    and at last the one that is kept.
    """

    calibrates_early = False
    """Before the end there is no network that has seen every image which was kept."""

    def __init__(self, task: Task) -> None:
        """task: any whose network has one code an image."""
        settings, n_images = task.settings, len(task.images)
        folds, schedule = settings.robust.folds, settings.schedule
        self.task = task
        self.phases = [
            *each_fold("screen", schedule.refine, folds),
            *each_fold("judge", schedule.train, folds),
            final(schedule.train),
        ]
        self.exposed = bool((task.guidance == REJECT).any())
        """Whether a person named anomalies, to whose codes the networks are exposed"""
        self.prior: Prior = StandardNormal(settings.latent_dim)
        self.learner = fresh_learner(task, settings.seed, units=settings.robust.discriminator_units)
        n_criteria = len(self.autoencoder.own_criteria) + self.exposed
        self.refinement = RobustRefinement.fresh(settings.robust, task.guidance, n_criteria, settings.seed, task.groups)
        self._input_statistics = self._fitted_inputs()
        self._prepared = self._prepare_once()
        self._seen = np.arange(n_images)
        """Images of the present phase"""
        self._start_network(0)
        self._used = self._seen
        """Those of them that the present epoch trains on"""

    @property
    def autoencoder(self) -> Autoencoder:
        """The network being trained."""
        return self.learner.autoencoder

    @property
    def discriminator(self) -> nn.Module | None:
        """Its adversary."""
        return self.learner.discriminator

    def open_phase(self, index: int) -> None:
        """A new network."""
        self._start_network(index)

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        """One pass over the phase's images, of a screening network over those of them that fit best."""
        task, settings, phase = self.task, self.task.settings, self.phases[index]
        done = epoch / phase.epochs
        share = LEAST_RATE + (1.0 - LEAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
        self.learner.set_learning_rate(settings.learning_rate * share)
        self._used = self._best_fitting() if phase.purpose == "screen" and epoch > 0 else self._seen
        self.autoencoder.train()
        steps: list[StepLosses] = []
        for batch in task.batches(torch.from_numpy(self._used)):
            if stopped():
                return None
            n, mine = len(batch), task.world.share(len(batch))
            dim = self.autoencoder.latent_dim
            noise = draw_prior(dim, n, task.generator, task.device)[mine]
            draws = draw_prior(dim, n, task.generator, task.device)[mine]
            steps.append(
                self.learner.step(
                    self._training_inputs(batch, mine),
                    torch.ones(len(noise), device=task.device),
                    draws,
                    code_noise=settings.robust.code_noise * noise,
                    batch_size=n,
                )
            )
        return EpochLosses.mean(steps, len(self._used), task.world)

    def close_phase(self, index: int) -> None:
        """Have the network judge the images that it has not seen."""
        phase, refinement = self.phases[index], self.refinement
        if phase.purpose == "screen":
            self._fit_prior(self._used)
            held_out = np.flatnonzero(refinement.fold == phase.fold)
            refinement.screening[held_out] = self._own_sums(held_out)
            if refinement.screened:
                # Folds are scored by different networks; sums of logs of scale-free terms can be laid side by side.
                refinement.screening -= np.median(refinement.screening)
                refinement.screening /= _spread(refinement.screening)
            return
        self._fit_prior(self._seen, self.task.settings.robust.components)
        if self.exposed:
            of_others = np.flatnonzero(self._of_others(phase))
            _, codes = self._measure(of_others)
            exposure = self.autoencoder.attach_exposure().to(self.task.device)
            fit_exposure(exposure, codes, (self.task.guidance == REJECT)[of_others])
        if phase.fold is not None:
            held_out = np.flatnonzero(refinement.fold == phase.fold)
            criteria, _ = self._measure(held_out)
            criteria[:, NEG_LOG_PRIOR] -= self.prior.floor
            refinement.criteria[held_out] = criteria

    def state(self) -> State:
        """The present network, its adversary, what was found so far, and what the last epoch trained on."""
        arrays = {name: array.copy() for name, array in self.refinement.to_arrays().items()}
        return State(snapshot_learner(self.learner), {**arrays, "used": self._used.copy()})

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        """Go on within a phase, or after it."""
        self.refinement = RobustRefinement.from_arrays(state.refinement, self.task.settings.robust)
        self._start_network(index)
        if closed and self.exposed and self.phases[index].purpose != "screen":
            self.autoencoder.attach_exposure()
        restore_learner(self.learner, state.tensors)
        self._used = state.refinement["used"].copy()
        if closed and self.phases[index].purpose == "final":
            self._fit_prior(np.flatnonzero(~self.refinement.candidates), self.task.settings.robust.components)

    def calibration_criteria(self) -> NDArray[np.float32]:
        """(N, K) criteria of every image by a network that has not seen it.

        Each network's density has a floor of its own (its codes' volume): what lies above it is laid on the last one's.
        """
        criteria = self.refinement.criteria.copy()
        criteria[:, NEG_LOG_PRIOR] += self.prior.floor
        return criteria

    def held_out(self) -> HeldOut:
        """The folds of the judging networks; no copy with a defect was shown to them."""
        return HeldOut(fold=self.refinement.fold)

    def terms(self) -> dict[str, Term]:
        """The fused score: the network's own terms, and the exposure in spreads of their sum."""
        own = self.autoencoder.terms(self.prior)
        if not self.exposed:
            return own
        sums = sum_of_terms(self.calibration_criteria(), self.autoencoder.criteria, own)
        weight = self.task.settings.robust.exposure_spreads * _spread(sums)
        return {**own, EXPOSURE: Term(weight=weight, transform="linear")}

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Raw criteria (N, K) and codes (N, D) of all training images under the present weights."""
        return raw_criteria(self.autoencoder, self.prior, self.task.images, self.task.world)

    def _fitted_inputs(self) -> dict[str, Tensor]:
        """What every network of the run reads its images through; it holds no learnt weights."""
        if self.autoencoder.standardises_inputs:
            step = -(-len(self.task.images) // MOST_FITTED)
            self.autoencoder.fit_inputs(self.task.images.batch(torch.arange(0, len(self.task.images), step)))
        return self.autoencoder.input_statistics()

    def _prepare_once(self) -> Tensor | None:
        """What every network reads, (N, ...) float32; None where it is too large to keep, or changes in every batch."""
        if self.task.settings.augment != AugmentSettings():
            return None
        first = self._prepare(torch.arange(1))
        if len(self.task.images) * first.nbytes > MOST_KEPT_BYTES:
            return None
        return torch.cat([self._prepare(part) for part in torch.arange(len(self.task.images)).split(CHUNK)])

    @torch.no_grad()
    def _prepare(self, indices: Tensor) -> Tensor:
        """What the networks read for the images of these indices (B,): (B, ...) float32."""
        x = self.task.images.batch(indices).to(torch.float32, memory_format=torch.channels_last) / 255.0
        return self.autoencoder.prepare(x)

    def _inputs(self, indices: Tensor) -> Tensor:
        return self._prepare(indices) if self._prepared is None else self._prepared[indices.to(self.task.device)]

    def _training_inputs(self, batch: Tensor, mine: slice) -> Tensor:
        """As `_inputs` for this process's share of a batch, augmented where that is asked for."""
        settings, indices = self.task.settings.augment, batch[mine]
        if settings == AugmentSettings():
            return self._inputs(indices)
        x = self.task.images.batch(indices).to(torch.float32, memory_format=torch.channels_last) / 255.0
        return self.autoencoder.prepare(augment(x, self.task.generator, settings, len(batch), mine))

    def _start_network(self, index: int) -> None:
        settings, phase = self.task.settings, self.phases[index]
        latent_dim = settings.robust.screen_latent if phase.purpose == "screen" else settings.latent_dim
        self.learner = fresh_learner(
            self.task,
            settings.seed * len(self.phases) + index,
            latent_dim=latent_dim,
            units=settings.robust.discriminator_units,
        )
        self.autoencoder.load_input_statistics(self._input_statistics)
        self.prior = StandardNormal(latent_dim)
        refinement = self.refinement
        believed = refinement.guidance != REJECT if phase.purpose == "screen" else ~refinement.candidates
        self._seen = np.flatnonzero(self._of_others(phase) & believed)

    def _of_others(self, phase: FoldPhase) -> NDArray[np.bool_]:
        """(N,) images outside the fold that the phase's network does not see."""
        if phase.fold is None:
            return np.ones(len(self.task.images), dtype=np.bool_)
        return self.refinement.fold != phase.fold

    def _best_fitting(self) -> NDArray[np.int64]:
        """The share of the phase's images that fit best what the last epoch trained on; trimmed least squares.

        What a person keeps always trains.
        """
        self._fit_prior(self._used)
        scores = self._own_sums(self._seen)
        scores[self.refinement.guidance[self._seen] == KEEP] = -np.inf
        n_kept = max(2, round(self.task.settings.robust.screen_keep * len(self._seen)))
        return np.sort(self._seen[np.argsort(scores, kind="stable")[:n_kept]])

    def _fit_prior(self, indices: NDArray[np.int64], components: int = 1) -> None:
        """Fit the codes' density, and what else the criteria need, on the images of these indices."""
        self.autoencoder.eval()
        step = -(-len(indices) // MOST_FITTED)
        self.autoencoder.fit_statistics(self._inputs(torch.from_numpy(indices[::step])))
        _, codes = self._measure(indices)
        self.prior = fit_density(codes, components, self.task.settings.seed)

    def _own_sums(self, indices: NDArray[np.int64]) -> NDArray[np.float64]:
        criteria, _ = self._measure(indices)
        names = self.autoencoder.own_criteria
        return sum_of_terms(criteria[:, : len(names)], names, self.autoencoder.terms(self.prior))

    @torch.inference_mode()
    def _measure(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (n, K) and codes (n, D) of some images under the present network."""
        self.autoencoder.eval()
        chunks = self.task.world.mine(torch.from_numpy(indices).split(CHUNK))
        measured = [self.autoencoder.measure_with_exposure(self._inputs(chunk), self.prior) for chunk in chunks]
        criteria = [part.criteria.cpu().numpy() for part in measured]
        codes = [part.latent.cpu().numpy() for part in measured]
        return (
            self.task.world.gathered(criteria, len(indices), CHUNK, (len(self.autoencoder.criteria),)),
            self.task.world.gathered(codes, len(indices), CHUNK, (self.autoencoder.latent_dim,)),
        )


def _spread(scores: NDArray[np.float64]) -> float:
    """Median minus lower quantile; never zero, so that it can be divided by."""
    return max(float(np.median(scores) - np.quantile(scores, LOWER_QUANTILE)), 1e-9)
