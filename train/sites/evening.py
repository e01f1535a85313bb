"""Sites whose distance swings much from image to image, brought to the swing of the others.

At an edge that lies differently in every photograph even a usual one lies far from what the others show; elsewhere half
of that distance is a defect. A normal distribution says how far, not how much the distance itself varies: its tails
differ from site to site. A power of the distance at each site evens that out: log distances swing alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Evening", "evening"]

SWING = (0.16, 0.84)
"""Quantiles of the log distances of one site whose distance is its swing: as wide as two standard deviations of normal
ones, and a few anomalies do not move them."""
LEAST = 0.25
"""Quantile over sites of their swings; none is taken to be below it: where nothing moves, little would count much."""
FEW = 5.0
"""Images whose swings count half."""
LEAST_DISTANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Evening:
    """distance -> level (distance / level)^exponent, at each site."""

    exponents: NDArray[np.float32]
    """(S,); at most 1, that nothing an exported graph rounds is made larger: 1 where the distance swings least"""
    level: float
    """The distance that stays as it is"""

    def of(self, distances: NDArray[np.floating]) -> NDArray[np.float32]:
        """(N, S) -> (N, S)."""
        over = np.maximum(distances, LEAST_DISTANCE) / self.level
        evened: NDArray[np.float32] = (self.level * over**self.exponents).astype(np.float32)
        return evened


def evening(held_out: NDArray[np.floating]) -> Evening:
    """The powers for distances (n, S) of believed images from what was fitted without them."""
    logs = np.log(np.maximum(held_out.astype(np.float64), LEAST_DISTANCE))
    low, high = np.quantile(logs, SWING, axis=0)
    swing = np.maximum(high - low, max(float(np.quantile(high - low, LEAST)), LEAST_DISTANCE))
    exponents = (swing.min() / swing) ** (len(logs) / (len(logs) + FEW))
    return Evening(exponents.astype(np.float32), float(np.exp(np.median(logs.mean(axis=0)))))
