"""Training of `patch`: screening networks that each leave a fold of photographs out, then the one that is kept.

A screening network judges the photographs it has not seen. From that follow which photographs are rejected, the
criteria that thresholds come from, and, on synthetic defects of kinds that it has not seen either, the weights of the
fused score. Robust training is that of robust.py, with synthetic defects in place of a trimmed loss.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import Term
from train.data.guidance import REJECT
from train.data.photograph_store import PhotographStore
from train.learning.adversarial_step import StepLosses
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot
from train.learning.trainer import EpochRow, Phase, Trainer
from train.networks.patch_network import CODE_STEP, PatchNetwork, SiteDiscriminator
from train.refinement.patch import PatchRefinement
from train.refinement.robust import RobustRefinement
from train.strategies.density import fit_density
from train.strategies.patch_fusion import as_terms, from_terms, fused_weights
from train.strategies.patch_learner import LossWeights, PatchLearner
from train.strategies.patch_measure import codes_and_tops, measured
from train.synthesis.defects import KINDS, DefectKind, SynthesisSettings, draw_defect
from train.synthesis.patch_batches import Augmentation, Batch, draw_batch

__all__ = ["PatchTrainer"]

logger = logging.getLogger(__name__)

RATE_FACTOR = 3.0
"""The highest learning rate is this times the settings': AdamW on normalised convolutions stands, and short schedules
want, more than Adam's default."""
WARM_UP = 0.05
"""Share of each network's steps in which its learning rate rises; then it falls as a cosine."""
EASY_SHARE = 0.5
"""Of the steps, over which the faintest contrast comes down to the settings'."""
DEFECT_SHARE = 0.5
"""Of each batch."""
PATCH_SOURCES = 8
"""Photographs that one batch may paste from."""
REFERENCE_PHOTOGRAPHS = 256
"""Photographs a network trained on, by which its criteria are set level with another network's; and whose codes the
density is fitted on."""
CODES = 200_000
"""Codes at most that the density is fitted on."""


class PatchTrainer(Trainer):
    """Trains the networks of `patch` one after another. Resumes like Trainer."""

    refinement: PatchRefinement  # type: ignore[assignment]
    learner: PatchLearner  # type: ignore[assignment]
    images: PhotographStore

    def __init__(
        self,
        settings: TrainSettings,
        store: PhotographStore,
        device: torch.device,
        guidance: NDArray[np.int8] | None = None,
        *,
        augmentation: Augmentation | None = None,
        synthesis: SynthesisSettings | None = None,
        loss: LossWeights | None = None,
    ) -> None:
        """guidance: (N,) KEEP, REJECT or UNGUIDED. Raises DataError where there are too few photographs."""
        if not isinstance(store, PhotographStore):
            raise DataError("network patch trains on photographs, expected fit tile; leave --fit out")
        if settings.refine not in ("none", "robust"):
            raise ConfigError(f"--refine {settings.refine} knows no sites; network patch takes none or robust")
        self.augmentation = augmentation or Augmentation()
        self.synthesis = synthesis or SynthesisSettings()
        self.loss = loss or LossWeights(adversarial=settings.adversary_pull)
        self._reference: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        super().__init__(settings, store, device)
        if guidance is None:
            guidance = np.zeros(len(store), dtype=np.int8)
        n_criteria = len(self.autoencoder.own_criteria)
        nothing = np.full((len(store), n_criteria), np.nan, dtype=np.float32)
        fresh = RobustRefinement.fresh(settings.robust, guidance, n_criteria, settings.seed)
        self.refinement = PatchRefinement(
            fresh.settings, fresh.guidance, fresh.fold, fresh.screening, fresh.criteria, nothing
        )

    @property
    def can_calibrate(self) -> bool:
        """Only at the end: before it there is no network that has seen every photograph which was kept."""
        return self.finished

    def calibration_criteria(self) -> NDArray[np.float32]:
        """(N, K) criteria of every photograph, the largest over its tiles, from which thresholds follow.

        Those of the last network. The photographs that were rejected it has not seen, and they are the ones in which
        the highest scores of new normal photographs are to be looked for: which part of the training set is the
        hardest was judged by networks that had not seen it, as it would be for a new photograph. Those it has seen get
        no less than their screening network's criteria, set level with the last one's.

        Without refinement, the last network's alone.
        """
        own = self.criteria_and_codes()[0]
        if self.settings.refine == "none":
            logger.warning(
                "the threshold rests on photographs that were trained on, so more normal ones will be flagged than was "
                "asked for; --refine robust judges by networks that have not seen them"
            )
            return own
        levelled = from_terms(self._levelled(self.refinement.criteria), self.autoencoder.own_criteria, self.prior.floor)
        return np.where(self.refinement.candidates[:, None], own, np.maximum(own, levelled))

    def terms(self) -> dict[str, Term]:
        """The fused score."""
        return self.autoencoder.terms(self.prior)

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (N, K), the largest over each photograph's tiles, and mean codes (N, D), under present weights."""
        return measured(self.autoencoder, self.prior, self.images, self.images.photographs, self.device)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a run with the same settings and photographs."""
        phase_index = min(snapshot.position["phase_index"], len(self.phases) - 1)
        self.learner = self._fresh_learner(self._seed_of(self.phases[phase_index]))
        super().restore(snapshot)
        if self.finished:
            self._fit_density(self._seen(self.phases[-1]))

    def _restored_refinement(self, arrays: dict[str, NDArray[Any]]) -> PatchRefinement:  # type: ignore[override]
        return PatchRefinement.from_arrays(arrays, self.settings.robust)

    def _phases(self) -> list[Phase]:
        schedule = self.settings.schedule
        if self.settings.refine == "none":
            return [Phase("final", schedule.train)]
        folds = range(self.settings.robust.folds)
        return [*(Phase("screen", schedule.refine, fold=fold) for fold in folds), Phase("final", schedule.train)]

    def _fresh_learner(self, seed: int) -> PatchLearner:  # type: ignore[override]
        channels, height, width = self.input_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = PatchNetwork(
                channels=channels,
                height=height,
                width=width,
                latent_dim=self.settings.latent_dim,
                factor=self.settings.width,
            )
            discriminator = SiteDiscriminator(self.settings.latent_dim) if self.settings.method == "aae" else None
        return PatchLearner(
            network.to(self.device).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
            discriminator.to(self.device) if discriminator is not None else None,
            learning_rate=RATE_FACTOR * self.settings.learning_rate,
            weights=self.loss,
        )

    def _open_phase(self, phase: Phase) -> None:
        self.learner = self._fresh_learner(self._seed_of(phase))
        self.prior = StandardNormal(self.settings.latent_dim)

    def _seed_of(self, phase: Phase) -> int:
        return self.settings.seed * len(self.phases) + self._number_of(phase)

    def _number_of(self, phase: Phase) -> int:
        return next(index for index, other in enumerate(self.phases) if other == phase)

    def _seen(self, phase: Phase) -> NDArray[np.int64]:
        """The photographs that a phase's network trains on."""
        refinement = self.refinement
        if phase.fold is None:
            return np.flatnonzero(~refinement.candidates)
        return np.flatnonzero((refinement.fold != phase.fold) & (refinement.guidance != REJECT))

    def _kinds(self, phase: Phase) -> list[DefectKind]:
        """All kinds of defects for the last network; a screening network does without those it is judged on."""
        return [kind for kind in KINDS if kind not in self._held_out_kinds(phase)]

    def _held_out_kinds(self, phase: Phase) -> list[DefectKind]:
        return [] if phase.fold is None else list(KINDS)[phase.fold :: len(KINDS) // 2][:2]

    def _train_epoch(self, phase: Phase, stopped: Callable[[], bool]) -> EpochRow | None:
        start = time.perf_counter()
        seen = self._seen(phase)
        n_steps = max(1, round(len(seen) / self.settings.batch_size))
        steps: list[StepLosses] = []
        for index, (batch, draws) in enumerate(self._drawn_ahead(phase, seen, n_steps)):
            if stopped():
                return None
            done = (self.epoch_in_phase + index / n_steps) / phase.epochs
            self.learner.set_learning_rate(RATE_FACTOR * self.settings.learning_rate * _share_of_rate(done))
            steps.append(self.learner.step(batch, draws))
        return self._row(phase, steps, len(seen), time.perf_counter() - start)

    def _drawn_ahead(self, phase: Phase, seen: NDArray[np.int64], n_steps: int) -> Iterator[tuple[Batch, Tensor]]:
        """The batches of an epoch, each drawn while the network works on the one before."""
        rng = np.random.default_rng((self.settings.seed, self._number_of(phase), self.epoch_in_phase))
        batch_size = self.settings.batch_size
        order = np.concatenate([rng.permutation(seen) for _ in range(math.ceil(n_steps * batch_size / len(seen)))])
        ease = max(0.0, 1.0 - self.epoch_in_phase / (EASY_SHARE * phase.epochs))
        _, height, width = self.input_size

        def draw(step: int) -> tuple[Batch, Tensor]:
            batch = draw_batch(
                self.images.photographs,
                order[step * batch_size : (step + 1) * batch_size].tolist(),
                round(DEFECT_SHARE * batch_size),
                (height, width),
                self._kinds(phase),
                rng,
                synthesis=self.synthesis,
                augmentation=self.augmentation,
                ease=ease,
                patches=rng.choice(seen, PATCH_SOURCES).tolist(),
            )
            sites = (batch_size, self.settings.latent_dim, height // CODE_STEP, width // CODE_STEP)
            return batch, torch.from_numpy(rng.standard_normal(sites, dtype=np.float32))

        with ThreadPoolExecutor(1) as worker:
            coming = worker.submit(draw, 0)
            for step in range(n_steps):
                present = coming.result()
                if step + 1 < n_steps:
                    coming = worker.submit(draw, step + 1)
                yield present

    def _close_phase(self, phase: Phase) -> None:
        seen = self._seen(phase)
        self._fit_density(seen)
        if phase.fold is None:
            if self.settings.refine == "robust":
                self._fuse()
            return
        refinement = self.refinement
        held_out = np.flatnonzero(refinement.fold == phase.fold)
        refinement.criteria[held_out] = self._in_spreads([self.images.photographs[index] for index in held_out])
        refinement.synthetic[held_out] = self._in_spreads(self._with_defects(phase, held_out))
        # The last column, the defect score, is what a network that has seen other kinds of defects tells best.
        refinement.screening[held_out] = refinement.criteria[held_out, -1]

    def _with_defects(self, phase: Phase, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Photographs, each with a defect of a kind that the phase's network was not trained on."""
        rng = np.random.default_rng((self.settings.seed, self._number_of(phase), len(self.images)))
        photographs = self.images.photographs
        sources = [photographs[index] for index in indices[:PATCH_SOURCES]]
        kinds = self._held_out_kinds(phase)
        return [
            draw_defect(photographs[index], sources, kinds, rng, self.synthesis).grey.astype(np.uint8)
            for index in indices
        ]

    def _fuse(self) -> None:
        """Weights of the fused score, from photographs with and without synthetic defects, none of them seen."""
        kept = ~self.refinement.candidates
        weights = fused_weights(self.refinement.criteria[kept], self.refinement.synthetic[kept])
        _, spread = self._level()
        self.autoencoder.fusion.weights.copy_(torch.from_numpy(weights / spread).float())

    def _fit_density(self, seen: NDArray[np.int64]) -> None:
        """The density of the present network's codes over valid sites of photographs it trained on; and what its
        criteria of them look like."""
        reference = [self.images.photographs[index] for index in seen[:: math.ceil(len(seen) / REFERENCE_PHOTOGRAPHS)]]
        codes, tops = codes_and_tops(self.autoencoder, self.images, reference, self.device)
        components = self.settings.robust.components
        self.prior = fit_density(codes[:: math.ceil(len(codes) / CODES)], components, self.settings.seed)
        self.autoencoder.head.fit_usual(tops)
        terms = self._terms_of(reference)
        middle = np.median(terms, axis=0)
        self._reference = middle, np.maximum(middle - np.quantile(terms, 0.16, axis=0), 1e-6)

    def _level(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        assert self._reference is not None, "set where a phase is closed, and where a finished run is restored"
        return self._reference

    def _levelled(self, spreads: NDArray[np.float32]) -> NDArray[np.float64]:
        middle, spread = self._level()
        levelled: NDArray[np.float64] = middle + spread * spreads
        return levelled

    def _in_spreads(self, photographs: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Criteria of photographs as terms, in spreads above the median of what the present network trained on."""
        middle, spread = self._level()
        return ((self._terms_of(photographs) - middle) / spread).astype(np.float32)

    def _terms_of(self, photographs: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
        criteria, _ = measured(self.autoencoder, self.prior, self.images, photographs, self.device)
        return as_terms(criteria, self.autoencoder.own_criteria, self.prior.floor)

    @property
    def autoencoder(self) -> PatchNetwork:
        """The network being trained; its running mean of weights."""
        return self.learner.autoencoder


def _share_of_rate(done: float) -> float:
    """Of the highest learning rate, with `done` of a network's steps behind it."""
    if done < WARM_UP:
        return max(done / WARM_UP, 0.02)
    return max(0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP) / (1.0 - WARM_UP))), 0.002)
