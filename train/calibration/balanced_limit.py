"""The limit on the score that weighs defects missed against false alarms, from scores of unsorted images.

Conformal limits (conformal_limit.py) hold whatever is mixed in, for anomalies among the images raise them: on six
development sets with one defect in twenty they missed 40 to 87 % of the defects. Here the lower three quarters of the
scores, which a few anomalies leave alone, say where the normal ones end.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.model.conformal import conformal_rank
from train.calibration.contamination import Contamination

__all__ = ["BALANCED_FPR", "BalancedLimit", "balanced_limit", "balanced_rate"]

BALANCED_FPR = 0.05
"""False alarms that the limit stands for where no rate is asked for: from 3 to 10 % balanced accuracy hardly changes,
below it is lost quickly."""
MOST_FPR = 0.25
READINGS = (0.1, 0.16, 0.75)
"""Quantiles whose distance from the median, over a normal distribution's, gives the spread: their mean."""
TAIL = 1.15
"""By how much the normal scores' upper tail is longer than the spread says: on six development sets, clean and with 5 %
of defects, with 30 photographs and with all, .043 of balanced accuracy is lost (1.0: .039, a quarter
more false alarms; 1.35: .051)."""
SLACK = 0.05
ROOM = 1.0
"""Share of the images, and images, that may lie above the limit beyond the rate: room for the anomalies among them. Of
thirty photographs SLACK is one and a half: with two defects among them the limit lay above all that were normal, .130
of balanced accuracy was lost on five development sets, and .023 with one more; clean ones lose .006."""
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancedLimit:
    """A limit and what is to be expected of it."""

    limit: float
    target_fpr: float | None
    """Asked for; None: no rate was"""
    stands_for: float
    """The rate that it was set for: what was asked for, or the least that so many images can show"""
    n: int
    """Scores it came from"""
    expected_fpr: float
    """Share of the scores above it, those that are surely anomalies left out, and no less than what it stands for:
    thirty images show nothing finer. Leaving out those that only may be anomalies too made it .04 too low on five
    development sets, for normal images have a tail of their own"""
    realised_fpr: tuple[float, float]
    """Interval of the realised rate on new normal images, at `level`: its lower end without the images that look
    anomalous, its upper end with them"""
    rule: str = field(default="balanced", init=False)
    extrapolated: bool = field(default=False, init=False)
    level: float = field(default=LEVEL, init=False)

    def to_json(self) -> dict[str, Any]:
        """The limit as JSON values."""
        return asdict(self)


def balanced_rate(cost_miss: float, cost_false_alarm: float) -> float:
    """The rate for what a missed defect and a false alarm cost, in any unit: BALANCED_FPR where they cost the same.

    In proportion to the costs, at most MOST_FPR. Raises ConfigError for costs that are not above zero.
    """
    for option, cost in (("--cost-miss", cost_miss), ("--cost-false-alarm", cost_false_alarm)):
        if not (math.isfinite(cost) and cost > 0.0):
            raise ConfigError(f"{option} is {cost:g}, expected a cost above 0, in the unit of the other")
    return min(MOST_FPR, BALANCED_FPR * cost_miss / cost_false_alarm)


def balanced_limit(
    scores: NDArray[np.float64],
    rate: float,
    asked: float | None,
    anomalous: Contamination,
    stretch: NDArray[np.integer] | None = None,
) -> BalancedLimit:
    """The limit that about the share `rate` of new normal images exceeds. scores: (N,), higher = more anomalous.

    asked: the rate as a user gave it. anomalous: of the scores, as estimate_contamination reads them. stretch: (N,) of
    the images' order, where they change along it: the interval then holds the rate of the next stretch.
    """
    n = len(scores)
    stands_for = max(rate, 1.0 / (n + 1))
    ordered, middle = np.sort(scores), float(np.median(scores))
    normal = NormalDist()
    readings = [(float(np.quantile(scores, q)) - middle) / normal.inv_cdf(q) for q in READINGS]
    limit = middle + TAIL * normal.inv_cdf(1.0 - stands_for) * float(np.mean(readings))
    # Never above the conformal limit of the rate, and hardly below that of SLACK more.
    loosest = min(0.5, stands_for + SLACK + ROOM / (n + 1))
    most, least = (ordered[min(n, conformal_rank(n, rate)) - 1] for rate in (stands_for, loosest))
    limit = float(np.clip(limit, least, most))
    above = int((scores > limit).sum())
    fewest, likely = (max(0, above - round(share * n)) for share in (anomalous.share, anomalous.low))
    low, high = _interval(fewest, above, n)
    if stretch is not None:
        of_next = _next_stretch(scores > limit, stretch)
        low, high = min(low, of_next[0]), max(high, of_next[1])
    return BalancedLimit(
        limit=limit,
        target_fpr=asked,
        stands_for=stands_for,
        n=n,
        expected_fpr=max(stands_for, (likely + 0.5) / (n + 1.0)),
        realised_fpr=(low, high),
    )


def _interval(fewest: int, most: int, n: int) -> tuple[float, float]:
    """Of the rate of which so many of n were seen (Jeffreys; Brown, Cai, DasGupta 2001)."""
    beta = require("scipy.stats", extra="train", purpose="false-alarm intervals").beta
    tail = (1.0 - LEVEL) / 2.0
    low = float(beta.ppf(tail, fewest + 0.5, n - fewest + 0.5)) if fewest else 0.0
    return low, float(beta.ppf(1.0 - tail, most + 0.5, n - most + 0.5))


def _next_stretch(above: NDArray[np.bool_], stretch: NDArray[np.integer]) -> tuple[float, float]:
    """Prediction interval of the rate of one more stretch, by Student's t (Hahn, Meeker 1991, section 4.7)."""
    rates = np.array([above[stretch == number].mean() for number in np.unique(stretch)])
    student = require("scipy.stats", extra="train", purpose="false-alarm intervals").t
    reach = float(student.ppf(0.5 + LEVEL / 2.0, len(rates) - 1)) * float(rates.std(ddof=1))
    reach *= math.sqrt(1.0 + 1.0 / len(rates))
    middle = float(rates.mean())
    return max(0.0, middle - reach), min(1.0, middle + reach)
