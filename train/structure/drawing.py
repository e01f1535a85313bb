"""What the head of `features` is shown: crops of photographs, half of them with a synthetic defect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.synthesis.photograph_defects import with_defect
from train.synthesis.structure_kinds import STRUCTURE_KINDS

__all__ = ["CROP", "StructureDrawing", "held_out_kinds", "trained_kinds"]

CROP = 128
"""Pixels along the side of a crop."""
SHARES = (0.001, 0.12)
"""Smallest and largest defect, as a share of a crop: of 4 to 44 pixels across."""
STEP = 16
"""Crops begin at multiples of it, so that their maps lie as those of the whole photograph do."""
BATCH = 8
OTHERS = 2
"""Photographs that a defect may take pieces of, each at the crop's own place."""
N_PARTS = 2
"""Parts of kinds that are held out in turn."""


def held_out_kinds(part: int) -> tuple[str, ...]:
    """Kinds of defects that the head of this part, 0 or 1, is judged on and does not train on."""
    return tuple(STRUCTURE_KINDS)[part::N_PARTS]


def trained_kinds(part: int | None) -> tuple[str, ...]:
    """Kinds that the head of a part trains on; all for the one that is kept, None."""
    held_out = () if part is None else held_out_kinds(part)
    return tuple(kind for kind in STRUCTURE_KINDS if kind not in held_out)


@dataclass(frozen=True, kw_only=True, slots=True)
class StructureDrawing:
    """Draws by the run's seed, the phase and the epoch: an epoch drawn again is the same."""

    images: NDArray[np.uint8]
    """(N, H, W, C)"""
    seed: int

    def epoch(
        self, phase: int, epoch: int, seen: NDArray[np.int64], kinds: Sequence[str], n_steps: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Crops (B, C, h, w) uint8 and masks (B, h, w), each batch drawn while the one before is learnt from.

        seen: photographs that crops are of. kinds: of their defects.
        """
        rng = np.random.default_rng((self.seed, phase, epoch))
        with ThreadPoolExecutor(1) as worker:
            coming = worker.submit(self._batch, seen, kinds, rng)
            for step in range(n_steps):
                present = coming.result()
                if step + 1 < n_steps:
                    coming = worker.submit(self._batch, seen, kinds, rng)
                yield present

    def _batch(self, seen: NDArray[np.int64], kinds: Sequence[str], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        _, height, width, channels = self.images.shape
        rows, columns = min(CROP, height), min(CROP, width)
        crops = np.empty((BATCH, rows, columns, channels), dtype=np.uint8)
        masks = np.zeros((BATCH, rows, columns), dtype=np.bool_)
        for position in range(BATCH):
            top = STEP * int(rng.integers((height - rows) // STEP + 1))
            left = STEP * int(rng.integers((width - columns) // STEP + 1))
            window = (slice(top, top + rows), slice(left, left + columns))
            crops[position] = self.images[rng.choice(seen)][window]
            if position % 2:
                others = [self.images[rng.choice(seen)][window] for _ in range(OTHERS)]
                crops[position], masks[position] = with_defect(
                    crops[position].copy(), others, rng, kinds=kinds, shares=SHARES
                )
        return torch.from_numpy(crops).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)
