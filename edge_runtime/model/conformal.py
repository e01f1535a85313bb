"""The rank of split conformal calibration: which of n normal scores a new normal one exceeds at most so often.

Vovk et al. 2005; Bates et al. 2023, arXiv 2104.08279. Used in training and in calibration on site.
"""

from __future__ import annotations

import math

__all__ = ["conformal_rank"]


def conformal_rank(n: int, rate: float) -> int:
    """k = ceil((n + 1)(1 - rate)): above the k-th smallest of n exchangeable normal scores lies a new one with
    probability at most `rate`, 0 < rate < 1. Greater than n where n scores are too few to show so low a rate.
    """
    return math.ceil((n + 1) * (1.0 - rate) - 1e-9)
