"""What a run of `patch` found out about its photographs, and its state in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.refinement.robust import RobustRefinement
from train.refinement.settings import RobustSettings

__all__ = ["PatchRefinement"]


@dataclass(slots=True)
class PatchRefinement(RobustRefinement):
    """What became of each photograph, and of synthetic defects on it."""

    synthetic: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    """(N, K) as `criteria`, of each photograph with a synthetic defect"""

    # Criteria of both arrays are held as terms (logarithms where the term takes one), in spreads above the median of
    # what the network that judged had been trained on: so the networks' scales can be laid side by side.

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a checkpoint."""
        return {**RobustRefinement.to_arrays(self), "synthetic": self.synthetic}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: RobustSettings) -> PatchRefinement:
        """The state read back from a checkpoint."""
        names = ("guidance", "fold", "screening", "criteria", "synthetic")
        return cls(settings, *(arrays[name].copy() for name in names))
