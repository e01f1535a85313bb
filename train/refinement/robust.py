"""What robust training finds of each training image: folds, screening scores, out-of-fold criteria, verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from train.data.guidance import KEEP, REJECT, UNGUIDED
from train.refinement.itsr import NEVER, Verdict
from train.refinement.settings import RobustSettings

__all__ = ["RobustRefinement", "drawn_folds"]

RefinementT = TypeVar("RefinementT", bound="RobustRefinement")


@dataclass(slots=True)
class RobustRefinement:
    """What became of each training image."""

    settings: RobustSettings
    guidance: NDArray[np.int8]
    """(N,) 1 where a person said keep, -1 where a person said reject, 0 elsewhere"""
    fold: NDArray[np.int32]
    """(N,) fold of each image"""
    screening: NDArray[np.float64]
    """(N,) out-of-fold score of the screening networks, in spreads above the median; NaN until the fold is scored"""
    criteria: NDArray[np.float32]
    """(N, K) out-of-fold criteria, the negative log prior above its network's floor; NaN until the fold is scored"""

    @classmethod
    def fresh(
        cls: type[RefinementT],
        settings: RobustSettings,
        guidance: NDArray[np.int8],
        n_criteria: int,
        seed: int,
        groups: NDArray[np.int64] | None = None,
    ) -> RefinementT:
        """Nothing scored yet; folds as equal as groups (N,), from 0 on, let them be. None: every image on its own."""
        n_images = len(guidance)
        fold = drawn_folds(np.arange(n_images) if groups is None else groups, settings.folds, seed)
        nothing = np.full(n_images, np.nan)
        return cls(settings, guidance, fold, nothing, np.full((n_images, n_criteria), np.nan, dtype=np.float32))

    @property
    def screened(self) -> bool:
        """Whether every image has its screening score."""
        return bool(np.isfinite(self.screening).all())

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """(N,) images believed anomalous: the highest screening scores, and what a person rejected."""
        by_person = self.guidance == REJECT
        if not self.screened:
            return by_person
        open_to_doubt = self.guidance == UNGUIDED
        n_rejected = round(self.settings.reject_share * int(open_to_doubt.sum()))
        ranked = np.argsort(np.where(open_to_doubt, -self.screening, np.inf), kind="stable")
        rejected = by_person.copy()
        rejected[ranked[:n_rejected]] = True
        return rejected

    @property
    def weights(self) -> NDArray[np.float32]:
        """(N,) 1 for images trained on, 0 for candidates."""
        return (~self.candidates).astype(np.float32)

    def verdict(self, index: int) -> Verdict:
        """What became of image `index`, and why."""
        if self.guidance[index] == REJECT:
            return Verdict(False, 0.0, 0, "rejected by a person")
        if self.guidance[index] == KEEP:
            return Verdict(True, 1.0, NEVER, "kept by a person")
        if not self.candidates[index]:
            return Verdict(True, 1.0, NEVER, "")
        reason = (
            f"screening score {self.screening[index]:.2f} spreads above the median, by networks that had not seen it: "
            f"among the highest {self.settings.reject_share:.0%}"
        )
        return Verdict(False, 0.0, 1, reason)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a checkpoint."""
        return {"fold": self.fold, "screening": self.screening, "criteria": self.criteria, "guidance": self.guidance}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: RobustSettings) -> RobustRefinement:
        """The state read back from a checkpoint."""
        names = ("guidance", "fold", "screening", "criteria")
        return cls(settings, *(arrays[name].copy() for name in names))


def drawn_folds(groups: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int32]:
    """(N,) fold of each image: groups (N,) in an order drawn by the seed, larger ones first, each into the fold that
    holds the fewest images."""
    sizes = np.bincount(groups)
    drawn = np.random.default_rng(seed).permutation(len(sizes))
    fold_of_group = np.empty(len(sizes), dtype=np.int32)
    held = np.zeros(n_folds, dtype=np.int64)
    for group in np.lexsort((drawn, -sizes)):
        fold_of_group[group] = held.argmin()
        held[fold_of_group[group]] += sizes[group]
    return fold_of_group[groups]
