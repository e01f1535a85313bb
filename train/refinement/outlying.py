"""What a run of `features` believes of its images: rejected is what is among the highest scores and lies far out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.data.guidance import REJECT, UNGUIDED
from train.refinement.itsr import Verdict
from train.refinement.robust import RobustRefinement

__all__ = ["OUTLYING", "OutlyingRefinement"]

OUTLYING = 5.0
"""Spreads above the median from which an image may be rejected. On four development sets, clean and with 10 and 20 %
of defects mixed in: at 3, clean pills lost .02 of AUROC for rare but normal images; at 5 no clean set lost."""


class OutlyingRefinement(RobustRefinement):
    """Rejects at most the settings' share, and of that only what lies OUTLYING spreads above the median."""

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
