"""Training of `patch`: screening networks that each leave a fold of photographs out, then the one that is kept.

A screening network judges the photographs it has not seen. From that follow which photographs are rejected, the
criteria that thresholds come from, and, on synthetic defects of kinds that it has not seen either, the weights of the
fused score. Robust training is that of robust.py, with synthetic defects in place of a trimmed loss.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.prior import Prior, StandardNormal
from edge_runtime.model.score import Term
from train.data.guidance import REJECT
from train.data.photograph_store import PhotographStore
from train.learning.adversarial_step import StepLosses
from train.learning.folds import FoldPhase, each_fold, final
from train.learning.settings import TrainSettings
from train.learning.snapshot import State, restore_learner, snapshot_learner
from train.learning.strategy import EpochLosses, HeldOut
from train.learning.task import Task
from train.networks.patch_network import PatchNetwork, SiteDiscriminator
from train.refinement.patch import PatchRefinement
from train.refinement.robust import RobustRefinement
from train.schedule import warmed_cosine
from train.strategies.density import fit_density
from train.strategies.patch_drawing import PatchDrawing
from train.strategies.patch_fusion import Level, as_terms, from_terms, fused_weights
from train.strategies.patch_learner import LossWeights, PatchLearner
from train.strategies.patch_measure import codes_and_tops, measured

__all__ = ["PatchTraining"]

logger = logging.getLogger(__name__)

RATE_FACTOR = 3.0
"""The highest learning rate is this times the settings': AdamW on normalised convolutions stands, and short schedules
want, more than Adam's default."""
WARM_UP, LEAST_SHARE = 0.05, 0.002
"""Share of each network's steps in which its learning rate rises, before it falls as a cosine; and of the highest rate,
what it falls to."""
REFERENCE_PHOTOGRAPHS = 256
"""Photographs a network trained on, by which its criteria are set level with another network's; and whose codes the
density is fitted on."""
CODES = 200_000
"""Codes at most that the density is fitted on."""


class PatchTraining:
    """Trains the networks of `patch` one after another."""

    calibrates_early = False
    """Before the end there is no network that has seen every photograph which was kept."""

    def __init__(self, task: Task) -> None:
        """Raises DataError where the task's images are no photographs."""
        settings = task.settings
        if not isinstance(task.images, PhotographStore):
            raise DataError(f"network {settings.network} trains on photographs, expected fit tile; leave --fit out")
        self.task = task
        self.store = task.images
        _, height, width = task.input_size
        self.drawing = PatchDrawing(
            photographs=self.store.photographs,
            tile=(height, width),
            batch_size=settings.batch_size,
            latent_dim=settings.latent_dim,
            seed=settings.seed,
        )
        self.phases = _phases(settings)
        self.learner = self._fresh_learner(settings.seed)
        self.prior: Prior = StandardNormal(settings.latent_dim)
        n_criteria = len(self.autoencoder.own_criteria)
        nothing = np.full((len(self.store), n_criteria), np.nan, dtype=np.float32)
        fresh = RobustRefinement.fresh(settings.robust, task.guidance, n_criteria, settings.seed, task.groups)
        self.refinement = PatchRefinement(
            fresh.settings, fresh.guidance, fresh.fold, fresh.screening, fresh.criteria, nothing
        )
        self._level: Level | None = None

    @property
    def autoencoder(self) -> PatchNetwork:
        """The network being trained; its running mean of weights."""
        return self.learner.autoencoder

    @property
    def discriminator(self) -> SiteDiscriminator | None:
        """Its adversary."""
        return self.learner.discriminator

    def open_phase(self, index: int) -> None:
        """A new network."""
        settings = self.task.settings
        self.learner = self._fresh_learner(settings.seed * len(self.phases) + index)
        self.prior = StandardNormal(settings.latent_dim)

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        """About as many steps as would show each photograph of the phase once."""
        settings, phase, seen = self.task.settings, self.phases[index], self._seen(index)
        n_steps = max(1, round(len(seen) / settings.batch_size))
        steps: list[StepLosses] = []
        for step, (batch, draws) in enumerate(self.drawing.epoch(index, phase, epoch, seen, n_steps)):
            if stopped():
                return None
            done = (epoch + step / n_steps) / phase.epochs
            share = warmed_cosine(done, warm_up=WARM_UP, least=LEAST_SHARE)
            self.learner.set_learning_rate(RATE_FACTOR * settings.learning_rate * share)
            steps.append(self.learner.step(batch, draws))
        return EpochLosses.mean(steps, len(seen), self.task.world)

    def close_phase(self, index: int) -> None:
        """Have a screening network judge the photographs that it has not seen; weigh the last one's criteria."""
        phase, refinement = self.phases[index], self.refinement
        self._fit_density(self._seen(index))
        if phase.fold is None:
            if self.task.settings.refine == "robust":
                self._fuse()
            return
        held_out = np.flatnonzero(refinement.fold == phase.fold)
        refinement.criteria[held_out] = self._in_spreads([self.store.photographs[number] for number in held_out])
        refinement.synthetic[held_out] = self._in_spreads(self.drawing.with_defects(index, phase, held_out))
        # The last column, the defect score, is what a network that has seen other kinds of defects tells best.
        refinement.screening[held_out] = refinement.criteria[held_out, -1]

    def state(self) -> State:
        """The present network, its mean and its adversary, and what was found so far."""
        arrays = {name: array.copy() for name, array in self.refinement.to_arrays().items()}
        return State(snapshot_learner(self.learner), arrays)

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        """Go on within a phase, or after it."""
        self.learner = self._fresh_learner(self.task.settings.seed)
        restore_learner(self.learner, state.tensors)
        self.refinement = PatchRefinement.from_arrays(state.refinement, self.task.settings.robust)
        if closed and self.phases[index].fold is None:
            self._fit_density(self._seen(index))

    def calibration_criteria(self) -> NDArray[np.float32]:
        """(N, K) criteria of every photograph, the largest over its tiles, from which thresholds follow.

        Those of the last network. The photographs that were rejected it has not seen, and they are the ones in which
        the highest scores of new normal photographs are to be looked for: which part of the training set is the
        hardest was judged by networks that had not seen it, as it would be for a new photograph. Those it has seen get
        no less than their screening network's criteria, set level with the last one's.

        Without refinement, the last network's alone.
        """
        own = self.criteria_and_codes()[0]
        if self.task.settings.refine == "none":
            logger.warning(
                "the threshold rests on photographs that were trained on, so more normal ones will be flagged than was "
                "asked for; --refine robust judges by networks that have not seen them"
            )
            return own
        return np.where(
            self.refinement.candidates[:, None], own, np.maximum(own, self._levelled(self.refinement.criteria))
        )

    def held_out(self) -> HeldOut | None:
        """The screening networks' folds, and copies with a defect of kinds that they were not shown."""
        if self.task.settings.refine == "none":
            return None
        synthetic, owners = self.refinement.synthetic, np.arange(len(self.store))
        return HeldOut(fold=self.refinement.fold, synthetic=self._levelled(synthetic), owners=owners)

    def terms(self) -> dict[str, Term]:
        """The fused score."""
        return self.autoencoder.terms(self.prior)

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (N, K), the largest over each photograph's tiles, and mean codes (N, D), under present weights."""
        return measured(self.autoencoder, self.prior, self.store, self.store.photographs, self.task.device)

    def _fresh_learner(self, seed: int) -> PatchLearner:
        settings, device = self.task.settings, self.task.device
        channels, height, width = self.task.input_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PatchNetwork(
                channels=channels,
                height=height,
                width=width,
                latent_dim=settings.latent_dim,
                factor=settings.width,
            )
            discriminator = SiteDiscriminator(settings.latent_dim) if settings.method == "aae" else None
        return PatchLearner(
            network.to(device).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            discriminator.to(device) if discriminator is not None else None,
            learning_rate=RATE_FACTOR * settings.learning_rate,
            weights=LossWeights(adversarial=settings.adversary_pull),
        )

    def _seen(self, index: int) -> NDArray[np.int64]:
        """The photographs that a phase's network trains on."""
        fold, refinement = self.phases[index].fold, self.refinement
        if fold is None:
            return np.flatnonzero(~refinement.candidates)
        return np.flatnonzero((refinement.fold != fold) & (refinement.guidance != REJECT))

    def _fuse(self) -> None:
        """Weights of the fused score, from photographs with and without synthetic defects, none of them seen."""
        kept = ~self.refinement.candidates
        weights = fused_weights(self.refinement.criteria[kept], self.refinement.synthetic[kept])
        self.autoencoder.fusion.weights.copy_(torch.from_numpy(weights / self._fitted_level().spread).float())

    def _fit_density(self, seen: NDArray[np.int64]) -> None:
        """The density of the present network's codes over valid sites of photographs it trained on; and what its
        criteria of them look like."""
        store, settings = self.store, self.task.settings
        reference = [store.photographs[number] for number in seen[:: math.ceil(len(seen) / REFERENCE_PHOTOGRAPHS)]]
        codes, tops = codes_and_tops(self.autoencoder, store, reference, self.task.device)
        self.prior = fit_density(codes[:: math.ceil(len(codes) / CODES)], settings.robust.components, settings.seed)
        self.autoencoder.head.fit_usual(tops)
        self._level = Level.of(self._terms_of(reference))

    def _fitted_level(self) -> Level:
        assert self._level is not None, "set where a phase is closed, and where a finished run is restored"
        return self._level

    def _levelled(self, spreads: NDArray[np.float32]) -> NDArray[np.float32]:
        """A screening network's criteria (n, K), held in spreads, as the last network would give them."""
        return from_terms(self._fitted_level().terms(spreads), self.autoencoder.own_criteria, self.prior.floor)

    def _in_spreads(self, photographs: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Criteria of photographs as terms, in spreads above the median of what the present network trained on."""
        return self._fitted_level().in_spreads(self._terms_of(photographs))

    def _terms_of(self, photographs: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        criteria, _ = measured(self.autoencoder, self.prior, self.store, photographs, self.task.device)
        return as_terms(criteria, self.autoencoder.own_criteria, self.prior.floor)


def _phases(settings: TrainSettings) -> list[FoldPhase]:
    schedule = settings.schedule
    if settings.refine == "none":
        return [final(schedule.train)]
    return [*each_fold("screen", schedule.refine, settings.robust.folds), final(schedule.train)]
