"""What a run of `features` believes of its images: rejected is what is among the highest scores and lies far out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data.guidance import REJECT, UNGUIDED
from train.refinement.itsr import Verdict
from train.refinement.robust import RobustRefinement
from train.refinement.settings import RobustSettings

__all__ = ["OUTLYING", "OutlyingRefinement"]

OUTLYING = 3.0
"""Spreads above the median from which an image may be rejected. On five development sets: at 5 half of what was mixed
in stayed (aliens with 10 and 20 % of defects: .985 and .975 of AUROC; at 3 .995 and .995). One usual image in twenty
goes at 3, which took at most .001 from a clean set."""


@dataclass(slots=True)
class OutlyingRefinement(RobustRefinement):
    """Rejects at most the settings' share, and of that only what lies OUTLYING spreads above the median."""

    synthetic: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), dtype=np.float32))
    """(M, K) as `criteria`, of copies of images with a synthetic defect; none until they were judged"""
    owners: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(M,) the image that each is a copy of"""
    groups: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """(N,) numbers, equal for images that show one object; none until they were looked for"""
    peaks: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    """(N,) largest distance of each image's sites from what was fitted without it; none of a checkpoint of before"""
    swell: float = 1.0
    """Times that distance of an image from what was fitted without it is that from what has seen it, the median"""
    change: float | None = None
    """Of the images along their order, in spreads; None: not looked for"""
    in_stretches: bool = False
    """Whether the folds are stretches of that order"""

    def keep_synthetic(self, distances: NDArray[np.floating], owners: NDArray[np.int64], *, first: int) -> None:
        """Keep the distances (M, k) of copies, columns of the criteria from the first on; the others become 0."""
        self.synthetic = np.zeros((len(distances), self.criteria.shape[1]), dtype=np.float32)
        self.synthetic[:, first : first + distances.shape[1]] = distances
        self.owners = owners

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """(N,) images believed anomalous."""
        if not self.screened:
            return self.guidance == REJECT
        far = (self.screening > OUTLYING) & (self.guidance == UNGUIDED)
        return RobustRefinement.candidates.fget(self) & (far | (self.guidance == REJECT))  # type: ignore[attr-defined]

    def verdict(self, index: int) -> Verdict:
        """What became of image `index`, and why."""
        found = RobustRefinement.verdict(self, index)
        if found.kept or self.guidance[index] == REJECT:
            return found
        reason = (
            f"screening score {self.screening[index]:.2f} spreads above the median, by distributions that had not seen "
            f"it: {OUTLYING:g} or more, and among the highest {self.settings.reject_share:.0%}"
        )
        return Verdict(False, 0.0, 1, reason)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a checkpoint."""
        order = {} if self.change is None else {"change": np.array([self.change, self.in_stretches], dtype=np.float64)}
        return {
            **RobustRefinement.to_arrays(self),
            "synthetic": self.synthetic,
            "owners": self.owners,
            "groups": self.groups,
            "peaks": self.peaks,
            "swell": np.array(self.swell),
            **order,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: RobustSettings) -> OutlyingRefinement:
        """The state read back from a checkpoint; those of before hold neither copies nor groups."""
        names = ("guidance", "fold", "screening", "criteria")
        guidance, fold, screening, criteria = (arrays[name].copy() for name in names)
        found = cls(settings, guidance, fold, screening, criteria)
        if "owners" in arrays:
            found.synthetic, found.owners = arrays["synthetic"].copy(), arrays["owners"].copy()
        if "groups" in arrays:
            found.groups = arrays["groups"].copy()
        if "peaks" in arrays:
            found.peaks, found.swell = arrays["peaks"].copy(), float(arrays["swell"])
        if "change" in arrays:
            found.change, found.in_stretches = float(arrays["change"][0]), bool(arrays["change"][1])
        return found
