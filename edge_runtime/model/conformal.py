"""The rank of split conformal calibration: which of n normal scores a new normal one exceeds at most so often.

Vovk et al. 2005; Bates et al. 2023, arXiv 2104.08279. Used in training and in calibration on site.
"""

from __future__ import annotations

import math

import numpy as np

__all__ = ["INTERVAL_LEVEL", "conformal_rank", "rate_interval"]

INTERVAL_LEVEL = 0.9
"""Of the interval in which a realised rate lies"""

BISECTIONS = 60
"""Halvings of the unit interval: beyond what float64 tells apart"""


def conformal_rank(n: int, rate: float) -> int:
    """k = ceil((n + 1)(1 - rate)): above the k-th smallest of n exchangeable normal scores lies a new one with
    probability at most `rate`, 0 < rate < 1. Greater than n where n scores are too few to show so low a rate.
    """
    return math.ceil((n + 1) * (1.0 - rate) - 1e-9)


def rate_interval(n: int, rank: int, level: float = INTERVAL_LEVEL) -> tuple[float, float]:
    """Where the share of new normal scores above the rank-th smallest of n lies, 1 <= rank <= n: which came is chance.

    The share is Beta(n + 1 - rank, rank) distributed for continuous scores, without a tool for that distribution.
    """
    tail = (1.0 - level) / 2.0
    return _beta_quantile(tail, n + 1 - rank, rank), _beta_quantile(1.0 - tail, n + 1 - rank, rank)


def _beta_quantile(probability: float, a: int, b: int) -> float:
    """The quantile of Beta(a, b) for whole a and b: below x lies P(at least a of a + b - 1 draws fall below x)."""
    draws = a + b - 1
    counts = np.arange(a, draws + 1)
    log_factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, draws + 1)))))
    log_ways = log_factorials[draws] - log_factorials[counts] - log_factorials[draws - counts]
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        x = (low + high) / 2.0
        below = np.exp(log_ways + counts * math.log(x) + (draws - counts) * math.log1p(-x)).sum()
        low, high = (x, high) if below < probability else (low, x)
    return (low + high) / 2.0
