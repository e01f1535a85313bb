"""How many of the training images are anomalies, as far as unlabelled scores can tell: a lower and an upper reading.

Without labels the share is not identified: normal images have a tail of their own. The lower reading counts what
stands out of an exponential tail (of the log-like fused score) that continues the upper bulk; the upper reading counts
everything in the upper half that the lower half, mirrored at the median, does not explain, a skewed normal class
included. Both are resampled; the interval runs from the low end of the one to the high end of the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["Contamination", "estimate_contamination"]

BULK = (0.5, 0.85)
"""Quantiles between which the exponential is fitted: above the mode, below where up to 15 % anomalies would lie."""
RESAMPLES = 100
TAILS = (0.05, 0.95)


@dataclass(frozen=True, slots=True)
class Contamination:
    """Share of anomalies among the training images."""

    share: float
    """What stands out of the normal tail"""
    low: float
    high: float
    """Beyond it even a symmetric normal class leaves nothing unexplained"""

    def to_json(self) -> dict[str, Any]:
        """The shares as JSON values."""
        return asdict(self)


def estimate_contamination(scores: NDArray[np.float64], seed: int) -> Contamination:
    """The readings for out-of-fold scores (N,) of all training images, higher = more anomalous."""
    rng = np.random.default_rng(seed)
    drawn = [np.sort(rng.choice(scores, len(scores))) for _ in range(RESAMPLES)]
    low = float(np.quantile([_beyond_exponential(ordered) for ordered in drawn], TAILS[0]))
    high = float(np.quantile([_beyond_mirror(ordered) for ordered in drawn], TAILS[1]))
    share = _beyond_exponential(np.sort(scores))
    return Contamination(share, min(low, share), max(high, share))


def _beyond_exponential(ordered: NDArray[np.float64]) -> float:
    """The largest excess of the upper scores over an exponential tail through the bulk. ordered: (N,), ascending."""
    n = len(ordered)
    start, end = np.quantile(ordered, BULK)
    if end <= start:
        return 0.0
    bulk = ordered[(ordered >= start) & (ordered <= end)]
    if not len(bulk):  # the quantiles of a few scores may have none between them
        return 0.0
    scale = _truncated_exponential_scale(float((bulk - start).mean()), float(end - start))
    tail = ordered[ordered > end]
    if not len(tail):
        return 0.0
    above = (n - np.searchsorted(ordered, tail)) / n
    expected = (1.0 - BULK[1]) * np.exp(-(tail - end) / scale)
    return float(max(0.0, (above - expected).max()))


def _truncated_exponential_scale(mean: float, width: float) -> float:
    """Maximum-likelihood scale of an exponential seen on [0, width] alone, with this mean of what was seen."""

    def excess(scale: float) -> float:
        return scale - width / float(np.expm1(width / scale)) - mean

    shortest, longest = 1e-2 * width, 1e3 * width
    # A bulk that does not fall off has no finite scale; the longest one makes the tail flat, the estimate zero. One
    # that sits on its start has none above zero.
    if excess(longest) <= 0.0:
        return longest
    if excess(shortest) >= 0.0:
        return shortest
    optimize = require("scipy.optimize", extra="train", purpose="contamination estimates")
    return float(optimize.brentq(excess, shortest, longest))


def _beyond_mirror(ordered: NDArray[np.float64]) -> float:
    """The largest excess of the upper half over the lower one mirrored at the median. ordered: (N,), ascending."""
    n = len(ordered)
    median = float(np.median(ordered))
    upper = ordered[ordered > median]
    if not len(upper):
        return 0.0
    above = (n - np.searchsorted(ordered, upper)) / n
    below = np.searchsorted(ordered, 2.0 * median - upper, side="right") / n
    return float(max(0.0, (above - below).max()))
