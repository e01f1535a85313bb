"""The limit on the score for an asked false-alarm rate, from scores of images that may be contaminated.

Split conformal (edge_runtime/model/conformal.py), with scores of images that no network was trained on. Anomalies among
the n raise the limit, so the rate stays below what was asked (Bashari, Sesia, Romano 2025, arXiv 2502.04807).
Out-of-fold scores of K networks stand for one held-out set (Barber et al. 2021, arXiv 1905.02928): the last network saw
more images than each of them, which errs to the safe side.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.conformal import conformal_rank, rate_interval

__all__ = ["ConformalLimit", "conformal_limit"]

TAIL_SHARE = 0.1
MIN_TAIL = 20
"""The tail is fitted on the highest tenth of the scores, at least 20 of them where there are as many."""

LEAST_SHAPE = 1e-6
"""Below it the tail is taken for exponential."""


@dataclass(frozen=True, slots=True)
class ConformalLimit:
    """A limit and how far it can be trusted."""

    limit: float
    target_fpr: float
    n: int
    """Scores it came from"""
    extrapolated: bool
    """Whether the asked rate is below 1 / (n + 1), so that no score is high enough and a fitted tail decides"""
    realised_fpr: tuple[float, float] | None
    """Interval of the realised rate on new normal images, 90 %, if none of the n is anomalous; None if extrapolated"""

    def to_json(self) -> dict[str, Any]:
        """The limit as JSON values."""
        return asdict(self)


def conformal_limit(scores: NDArray[np.float64], target_fpr: float) -> ConformalLimit:
    """The limit that new normal images exceed at most at the asked rate. scores: (N,), higher = more anomalous."""
    n = len(scores)
    rank = conformal_rank(n, target_fpr)
    if rank > n:
        return ConformalLimit(_extrapolated(scores, target_fpr), target_fpr, n, True, None)
    ordered = np.sort(scores)
    return ConformalLimit(float(ordered[rank - 1]), target_fpr, n, False, rate_interval(n, rank))


def _extrapolated(scores: NDArray[np.float64], target_fpr: float) -> float:
    """The quantile of a generalised Pareto tail (Pickands 1975) over the highest scores; an assumption, not a bound.

    Never below the highest score, which is the limit at 1 / (n + 1): a stricter rate may not lower it.
    """
    ordered = np.sort(scores)
    if len(ordered) == 1:
        return float(ordered[0])  # no tail; the caller finds that the limit is not above the median
    n_tail = min(len(scores) - 1, max(MIN_TAIL, round(TAIL_SHARE * len(scores))))
    start = ordered[-n_tail - 1]
    excess = ordered[-n_tail:] - start
    stats = require("scipy.stats", extra="train", purpose="tail fits")
    shape, _, scale = stats.genpareto.fit(excess, floc=0.0)
    beyond = target_fpr / (n_tail / len(scores))
    if shape < LEAST_SHAPE:
        # A negative shape would end the tail at a finite score, which few images cannot tell: at least exponential,
        # with the scale that is likeliest for that shape and not for the one that was fitted.
        quantile = -math.log(beyond) * float(excess.mean())
    else:
        quantile = float(scale) * (beyond ** -float(shape) - 1.0) / float(shape)
    return float(max(start + quantile, ordered[-1]))
