"""A threshold between normal frames and known defects, and how far both counts can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.metrics import wilson_interval

__all__ = ["Separation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Separation:
    """How a threshold parts normal frames from known defects; it was set on the same frames, which flatters it."""

    normal: int
    """Normal frames"""
    false_alarms: int
    """Of them above the threshold"""
    defects: int
    """Frames of known defects"""
    caught: int
    """Of them above the threshold"""

    @classmethod
    def between(cls, normal: Sequence[float], defects: Sequence[float]) -> tuple[float, Separation]:
        """The threshold and what it does: in the midst of the gap where one parts all, else the best balanced accuracy.

        Of thresholds that are equally good, that in the widest gap of scores. Raises DataError where there are none of
        either, or no threshold is better than chance.
        """
        good, bad = np.sort(np.asarray(normal, np.float64)), np.sort(np.asarray(defects, np.float64))
        if not len(good) or not len(bad):
            raise DataError(f"{len(good)} normal frames and {len(bad)} known defects, expected one or more of each")
        scores = np.unique(np.concatenate((good, bad)))
        candidates: NDArray[np.float64] = (scores[1:] + scores[:-1]) / 2.0
        passed = np.searchsorted(good, candidates, side="right") / len(good)
        caught = 1.0 - np.searchsorted(bad, candidates, side="right") / len(bad)
        accuracy = (passed + caught) / 2.0
        if not len(candidates) or accuracy.max() <= 0.5 + 1e-9:
            raise DataError(
                f"the scores of {len(bad)} known defects do not lie above those of {len(good)} normal frames (medians "
                f"{np.median(bad):.4g} and {np.median(good):.4g}): the bundle does not see these defects; nothing was "
                "changed"
            )
        best = np.flatnonzero(accuracy >= accuracy.max() - 1e-12)
        threshold = float(candidates[best[np.diff(scores)[best].argmax()]])
        found = cls(
            normal=len(good),
            false_alarms=int((good > threshold).sum()),
            defects=len(bad),
            caught=int((bad > threshold).sum()),
        )
        return threshold, found

    @property
    def parts_all(self) -> bool:
        """Whether every frame lies on its side."""
        return self.false_alarms == 0 and self.caught == self.defects

    def lines(self) -> list[str]:
        """What the threshold finds and what it costs, with Wilson's intervals."""
        rates = [wilson_interval(self.caught, self.defects), wilson_interval(self.false_alarms, self.normal)]
        (low, high), (fewest, most) = rates
        lies = "between the normal frames and the defects" if self.parts_all else "where the balanced accuracy is best"
        return [
            f"the threshold lies {lies}; it was set on these frames, so expect a little less of new ones",
            f"known defects found: {self.caught} of {self.defects}, TPR {self.caught / self.defects:.1%}, "
            f"{low:.1%} to {high:.1%} (95 %)",
            f"false alarms expected: {1000.0 * self.false_alarms / self.normal:.3g} per 1,000 good frames, "
            f"{1000.0 * fewest:.3g} to {1000.0 * most:.3g} (95 %), from {self.false_alarms} of {self.normal}",
        ]
