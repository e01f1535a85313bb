"""What the networks of `patch` are shown: batches of tiles, half of them with synthetic defects. Called by patch.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.learning.folds import FoldPhase
from train.networks.patch_network import CODE_STEP
from train.synthesis.defects import KINDS, DefectKind, SynthesisSettings, draw_defect
from train.synthesis.patch_batches import Augmentation, Batch, draw_batch

__all__ = ["PatchDrawing", "held_out_kinds", "trained_kinds"]

EASY_SHARE = 0.5
"""Of the steps, over which the faintest contrast comes down to the settings'."""
DEFECT_SHARE = 0.5
"""Of each batch."""
PATCH_SOURCES = 8
"""Photographs that one batch may paste from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PatchDrawing:
    """Draws by the run's seed, the phase and the epoch: an epoch drawn again is the same."""

    photographs: Sequence[NDArray[np.uint8]]
    """(h, w) each, scaled"""
    tile: tuple[int, int]
    """Height and width"""
    batch_size: int
    latent_dim: int
    seed: int
    augmentation: Augmentation = field(default_factory=Augmentation)
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)

    def epoch(
        self, index: int, phase: FoldPhase, epoch: int, seen: NDArray[np.int64], n_steps: int
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Batches and draws (B, D, h, w) from the prior, each drawn while the network works on the one before.

        index: of the phase. seen: photographs that its network trains on.
        """
        rng = np.random.default_rng((self.seed, index, epoch))
        batch_size, (height, width) = self.batch_size, self.tile
        order = np.concatenate([rng.permutation(seen) for _ in range(math.ceil(n_steps * batch_size / len(seen)))])
        ease = max(0.0, 1.0 - epoch / (EASY_SHARE * phase.epochs))

        def draw(step: int) -> tuple[Batch, Tensor]:
            batch = draw_batch(
                self.photographs,
                order[step * batch_size : (step + 1) * batch_size].tolist(),
                round(DEFECT_SHARE * batch_size),
                self.tile,
                trained_kinds(phase),
                rng,
                synthesis=self.synthesis,
                augmentation=self.augmentation,
                ease=ease,
                patches=rng.choice(seen, PATCH_SOURCES).tolist(),
            )
            sites = (batch_size, self.latent_dim, height // CODE_STEP, width // CODE_STEP)
            return batch, torch.from_numpy(rng.standard_normal(sites, dtype=np.float32))

        with ThreadPoolExecutor(1) as worker:
            coming = worker.submit(draw, 0)
            for step in range(n_steps):
                present = coming.result()
                if step + 1 < n_steps:
                    coming = worker.submit(draw, step + 1)
                yield present

    def with_defects(self, index: int, phase: FoldPhase, held_out: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Photographs, each with a defect of a kind that the phase's network was not trained on."""
        rng = np.random.default_rng((self.seed, index, len(self.photographs)))
        photographs = [self.photographs[number] for number in held_out]
        sources, kinds = photographs[:PATCH_SOURCES], held_out_kinds(phase)
        return [
            draw_defect(photograph, sources, kinds, rng, self.synthesis).grey.astype(np.uint8)
            for photograph in photographs
        ]


def trained_kinds(phase: FoldPhase) -> list[DefectKind]:
    """Kinds of defects that a phase's network trains on: all for the last one, else those it is not judged on."""
    return [kind for kind in KINDS if kind not in held_out_kinds(phase)]


def held_out_kinds(phase: FoldPhase) -> list[DefectKind]:
    """Kinds that a screening network is judged on."""
    return [] if phase.fold is None else list(KINDS)[phase.fold :: len(KINDS) // 2][:2]
