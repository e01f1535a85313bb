"""Phases of cross-fitting: networks that each leave a fold of the images out, then the one that is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from train.learning.strategy import Phase

__all__ = ["FoldPhase", "each_fold", "final"]


@dataclass(frozen=True, slots=True)
class FoldPhase(Phase):
    """The epochs of one network."""

    purpose: Literal["screen", "judge", "final"]
    """To find what is rejected, to give the criteria that thresholds come from, or to be kept"""
    fold: int | None = None
    """0-based fold that the network does not see; None for all images"""


def each_fold(purpose: Literal["screen", "judge"], epochs: int, n_folds: int) -> list[FoldPhase]:
    """A network for each fold."""
    return [FoldPhase(f"{purpose}-{fold + 1}", epochs, purpose, fold) for fold in range(n_folds)]


def final(epochs: int) -> FoldPhase:
    """The last network, the one that is kept."""
    return FoldPhase("final", epochs, "final")
