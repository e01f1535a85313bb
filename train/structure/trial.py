"""The head of `features` in a run: two heads that each leave out half of the images and of the kinds of defects, then,
where they earn it, the one that is kept.

A candidate that is judged on kinds of defects which it was trained on crowns itself; so each of the two judges the half
it has not seen, with defects of kinds it has not seen either. From that follow the head's weight in the score, the
scores that the limit comes from, and what is said of the share of defects found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError
from edge_runtime.metrics import auroc
from edge_runtime.verdict import head_line
from train.data.training_set import spread
from train.learning.adversarial_step import StepLosses
from train.learning.folds import FoldPhase
from train.learning.strategy import Choice, EpochLosses, Phase
from train.learning.task import Task
from train.networks.features_network import CHUNK, FeaturesNetwork
from train.refinement.outlying import OutlyingRefinement
from train.schedule import warmed_cosine
from train.sites.site_statistics import top_sites
from train.sites.stretches import at_most
from train.structure.drawing import N_PARTS, StructureDrawing, held_out_kinds, trained_kinds
from train.structure.fusion import as_terms, fusion_weights, told_apart
from train.structure.learner import StructureLearner
from train.synthesis.photograph_defects import defective_copies

__all__ = ["DISTANCES", "HEAD", "HEAD_PHASES", "StructureTraining", "defective_of", "head_phases"]

logger = logging.getLogger(__name__)

HEAD_PHASES = ("head-1", "head-2", "head")
"""Names of the phases in which a head learns: two that are judged, and the one that is kept"""

DISTANCES, HEAD = slice(2, 4), 4
"""Columns of the criteria: the two distances, and what the head says."""
MOST_COPIES = 128
"""Images whose copies with a defect weigh the criteria."""
LEAST_GAIN = 0.02
"""AUROC by which a head must tell more than either distance does: near ties go to the cheaper."""
MOST_TOLD = 0.75
"""AUROC by which distances tell synthetic defects, above which no head is trained: between circuit boards, .63, where
they tell no real ones, and aliens, .88, where they do and a head that told more lost them."""
LOST_FROM = 0.05
"""AUROC by which a head that falls short of the distances, after half of its trial, is given up."""

STEPS = 25
"""Gradient steps of an epoch."""
RATE = 3e-3
WARM_UP, LEAST_SHARE = 0.1, 0.02
"""Share of a head's steps in which its learning rate rises, before it falls as a cosine; and of the highest rate, what
it falls to."""
CHOICE_FPR = 0.05
"""False alarms at which features, head and both are laid side by side."""
REFERENCE_IMAGES = 32
"""Images trained on, by which channels are standardised and heads are set level."""


def head_phases(epochs: int) -> list[FoldPhase]:
    """Two heads that are judged, and the one that is kept."""
    return [
        FoldPhase(HEAD_PHASES[0], epochs, "judge", 0),
        FoldPhase(HEAD_PHASES[1], epochs, "judge", 1),
        FoldPhase(HEAD_PHASES[2], epochs, "final"),
    ]


class StructureTraining:
    """Trains the one head of a network again and again, and settles whether it joins."""

    def __init__(self, task: Task, network: FeaturesNetwork, phases: Sequence[Phase]) -> None:
        """phases: of the run, the head's among them. Raises ConfigError where the network has no head."""
        if network.head is None:
            raise ConfigError("the network has no head to train")
        self.task = task
        self.network = network
        self.phases = phases
        self.drawing = StructureDrawing(images=task.images.array, seed=task.settings.seed)
        self.learner = StructureLearner(network.head, network.backbone)
        self.keep_together(task.groups)

    def keep_together(self, groups: NDArray[np.int64]) -> None:
        """Have images of one group (N,) judged by the same head."""
        self.part = at_most(groups, N_PARTS)
        """(N,) which of the two heads judges an image"""

    def open(self, index: int, refinement: OutlyingRefinement) -> None:
        """Begin a phase's head."""
        if self._given_up(index, refinement):
            return
        self.learner.begin(self.task.settings.seed + index)
        taps = [self._gathered(self._images(part)) for part in self._reference(index, refinement).split(CHUNK)]
        self.learner.head.fit_channels(*(torch.cat(maps) for maps in zip(*taps, strict=True)))

    def train_epoch(
        self, index: int, epoch: int, refinement: OutlyingRefinement, stopped: Callable[[], bool]
    ) -> EpochLosses | None:
        """STEPS gradient steps; None once `stopped` says so. None is taken where no head will join."""
        if self._given_up(index, refinement):
            return None if stopped() else EpochLosses(0.0, 0.0, 0.0, 0)
        seen, steps = self._seen(index, refinement), []
        batches = self.drawing.epoch(index, epoch, seen, trained_kinds(self._fold(index)), STEPS)
        for step, (crops, masks) in enumerate(batches):
            if stopped():
                return None
            done = (epoch + step / STEPS) / self.phases[index].epochs
            self.learner.set_learning_rate(RATE * warmed_cosine(done, warm_up=WARM_UP, least=LEAST_SHARE))
            loss = self.learner.step(crops.to(self.task.device), masks.to(self.task.device))
            steps.append(StepLosses(loss, torch.zeros_like(loss), torch.zeros_like(loss)))
        return EpochLosses.mean(steps, len(seen), self.task.world)

    def close(self, index: int, refinement: OutlyingRefinement) -> None:
        """Learn what is usual of images trained on; have a head that is judged judge what it has not seen; after the
        second settle whether a head joins."""
        if self._given_up(index, refinement):
            if self._fold(index) == N_PARTS - 1:
                self._tell(refinement)
            return
        fold = self._fold(index)
        highest = [self._highest(self._images(part)) for part in self._reference(index, refinement).split(CHUNK)]
        self.learner.head.fit_usual(torch.cat(highest))
        if fold is None:
            return
        held_out = torch.from_numpy(np.flatnonzero(self.part == fold))
        judged = [self._highest(self._images(part)).cpu() for part in held_out.split(CHUNK)]
        refinement.criteria[held_out.numpy(), HEAD] = torch.cat(judged).numpy()
        copies, owners = self.copies(~refinement.candidates)
        owned = np.flatnonzero(self.part[owners] == fold)
        frames = torch.from_numpy(copies[owned]).permute(0, 3, 1, 2)
        judged = [self._highest(part.to(self.task.device)).cpu() for part in frames.split(CHUNK)]
        refinement.synthetic[owned, HEAD] = torch.cat(judged).numpy()
        if fold == N_PARTS - 1:
            self._settle(refinement)

    def copies(self, believed: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Copies (M, H, W, C) with a synthetic defect, and the images that they are copies of (M,); half for each head.

        Each is of a kind that the head which judges it is not trained on. The same ones each time.
        """
        most = MOST_COPIES // N_PARTS
        chosen = [_evenly(np.flatnonzero(believed & (self.part == part)), most) for part in range(N_PARTS)]
        kinds = [held_out_kinds(part) for part in range(N_PARTS) for _ in chosen[part]]
        return _copies_of(self.task, np.concatenate(chosen), kinds)

    def choice(self, refinement: OutlyingRefinement) -> Choice | None:
        """What the trial came to, of the images that a head has judged; None where no head was trained."""
        used = slice(DISTANCES.start, HEAD + 1)
        judged = np.isfinite(refinement.criteria[:, HEAD])
        if not judged.any():
            return None
        normal = refinement.criteria[judged & ~refinement.candidates, used]
        defective = refinement.synthetic[judged[refinement.owners], used]
        terms = as_terms(np.concatenate((normal, defective)), n_linear=1)
        features, joined = fusion_weights(normal[:, :-1], defective[:, :-1]), fusion_weights(normal, defective, 1)
        scores = {"features": terms[:, :-1] @ features, "head": terms[:, -1], "joined": terms @ joined}
        is_copy = np.arange(len(terms)) >= len(normal)
        return Choice(
            joined=self.network.has_joined,
            n=len(defective),
            aurocs={name: auroc(values, is_copy) for name, values in scores.items()},
            found={
                name: float((values[is_copy] > np.quantile(values[~is_copy], 1.0 - CHOICE_FPR)).mean())
                for name, values in scores.items()
            },
            fpr=CHOICE_FPR,
        )

    def _settle(self, refinement: OutlyingRefinement) -> None:
        """Give the head its weight in the score, and the distances theirs beside it; none where it tells no more."""
        kept, used = ~refinement.candidates, slice(DISTANCES.start, HEAD + 1)
        told = self._told(refinement, np.ones(len(self.part), dtype=np.bool_), used)
        if told[-1] >= told[:-1].max() + LEAST_GAIN:
            weights = fusion_weights(refinement.criteria[kept, used], refinement.synthetic[:, used], n_linear=1)
            self.network.fusion.take(torch.from_numpy(np.pad(weights, (DISTANCES.start, 0))))
        self._tell(refinement)

    def _tell(self, refinement: OutlyingRefinement) -> None:
        choice = self.choice(refinement)
        if choice is None:
            logger.info("no head is trained: the features tell synthetic defects by an AUROC above %.2f", MOST_TOLD)
        else:
            logger.info("%s", head_line({"head": asdict(choice)}))

    def _seen(self, index: int, refinement: OutlyingRefinement) -> NDArray[np.int64]:
        """The images that a phase's head trains on."""
        fold = self._fold(index)
        return np.flatnonzero(~refinement.candidates & (True if fold is None else self.part != fold))

    def _reference(self, index: int, refinement: OutlyingRefinement) -> Tensor:
        """Up to REFERENCE_IMAGES of them."""
        return torch.from_numpy(_evenly(self._seen(index, refinement), REFERENCE_IMAGES))

    def _fold(self, index: int) -> int | None:
        phase = self.phases[index]
        assert isinstance(phase, FoldPhase), "head_phases made it"
        return phase.fold

    def _given_up(self, index: int, refinement: OutlyingRefinement) -> bool:
        """Whether what came before says that no head will join."""
        fold = self._fold(index)
        if fold is None:
            return not self.network.has_joined
        everything = np.ones(len(self.part), dtype=np.bool_)
        if self._told(refinement, everything, DISTANCES).max() > MOST_TOLD:
            return True
        if fold == 0:
            return False
        told = self._told(refinement, self.part < fold, slice(DISTANCES.start, HEAD + 1))
        return bool(told[-1] < told[:-1].max() - LOST_FROM)

    def _told(self, refinement: OutlyingRefinement, judged: NDArray[np.bool_], used: slice) -> NDArray[np.float64]:
        """AUROC of the criteria used by which copies are told from images, of the images judged (N,)."""
        normal = refinement.criteria[judged & ~refinement.candidates, used]
        return told_apart(normal, refinement.synthetic[judged[refinement.owners], used])

    def _images(self, indices: Tensor) -> Tensor:
        return self.task.images.batch(indices)

    @torch.inference_mode()
    def _gathered(self, images: Tensor) -> tuple[Tensor, Tensor]:
        cells, coarse = self.learner.head.gathered(self.learner.backbone.fine(images.float() / 255.0))
        return cells, coarse

    @torch.inference_mode()
    def _highest(self, images: Tensor) -> Tensor:
        head = self.learner.head
        return top_sites(head.outstanding(head(*self._gathered(images))))


def defective_of(task: Task, believed: NDArray[np.bool_]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Copies (M, H, W, C) of believed images with a synthetic defect, and the images that they are copies of (M,)."""
    return _copies_of(task, _evenly(np.flatnonzero(believed), MOST_COPIES), None)


def _copies_of(
    task: Task, chosen: NDArray[np.int64], kinds_of: Sequence[Sequence[str]] | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    found = defective_copies(list(task.images.array[chosen]), len(chosen), task.settings.seed, kinds_of=kinds_of)
    return found.frames, chosen[found.sources]


def _evenly(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Up to `most` of the indices, evenly drawn."""
    return np.array(spread(indices, most), dtype=np.int64)
