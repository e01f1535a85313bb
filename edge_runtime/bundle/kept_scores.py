"""The distribution of normal scores that a calibration keeps, and what it can promise: thresholds at other rates.

Kept are quantiles, not every score, so a rank is answered by the next quantile at or above it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.conformal import conformal_rank

__all__ = ["SCORE_QUANTILES", "KeptScores", "scores_needed", "threshold_from"]

SCORE_QUANTILES = tuple(i / 200 for i in range(201))
"""Levels at which the distribution of normal scores is kept: for thresholds at other rates, and to watch drift."""

STEPS = len(SCORE_QUANTILES) - 1
MANIFEST_LIMIT = 1.0
"""A bundle's limit on the fused score, which is scaled by it"""

ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class KeptScores:
    """Quantiles of n normal scores, and the one rank that is known exactly."""

    quantiles: tuple[float, ...]
    """Scores at SCORE_QUANTILES, between two where a level falls between them"""
    n: int
    """Scores that they are of"""
    rank: int = 0
    """The rank among the n, 1 the lowest, whose score is known exactly; 0 knows none"""
    score: float = 0.0
    """The score of that rank, where one is known"""

    @classmethod
    def of_manifest(cls, calibration: Mapping[str, Any]) -> KeptScores | None:
        """What a bundle's or run's calibration keeps; None where it keeps no distribution, as that of a union rule.

        Raises BundleError where it cannot be used.
        """
        quantiles, n = (calibration.get(key) for key in ("score_quantiles", "n_images"))
        limit = calibration.get("limit") or {}
        if quantiles is None or n is None:
            return None
        try:
            kept = cls(tuple(map(float, quantiles)), int(n))
            # Bundles of before know the conformal rule alone; a limit by another rule promises nothing of a rank.
            of_rank = limit and limit.get("rule", "conformal") == "conformal" and not limit["extrapolated"]
            rank = conformal_rank(kept.n, limit["target_fpr"]) if of_rank else 0
            low, high = (kept.quantiles[level] for level in kept.levels_around(rank))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise BundleError(f"the calibration's scores cannot be used: {error!r}; export the bundle again") from error
        if not 0 < rank <= kept.n or not low - ROUNDING <= MANIFEST_LIMIT <= high + ROUNDING:
            return kept
        return cls(kept.quantiles, kept.n, rank, MANIFEST_LIMIT)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> KeptScores:
        """Read back; KeyError, TypeError or ValueError where it cannot be."""
        return cls(
            tuple(map(float, values["quantiles"])), int(values["n"]), int(values["rank"]), float(values["score"])
        )

    def threshold_at(self, rate: float) -> float:
        """A score that a new normal image exceeds with probability at most `rate`: the next that is known at or above
        the rank of split conformal calibration, so that the rate may be lower by half a percent.

        Raises ConfigError where the rate is finer than the quantiles, or n scores are too few to show it.
        """
        finest = SCORE_QUANTILES[1]
        if not finest <= rate < 1.0:
            raise ConfigError(
                f"a false-alarm rate of {rate:g} was asked for, expected {finest:g} to below 1: the kept distribution "
                "is no finer; `edge-aae calibrate --target-fpr` takes frames for a lower one"
            )
        rank = conformal_rank(self.n, rate)
        if rank > self.n:
            raise ConfigError(
                f"the calibration keeps {self.n} normal scores, a rate of {rate:g} needs {scores_needed(rate)} or "
                f"more; ask for {math.ceil(1e4 / (self.n + 1)) / 1e4:g} or more, or calibrate with more frames"
            )
        quantile = self.quantiles[self.levels_around(rank)[1]]
        return min(quantile, self.score) if self.rank >= rank else quantile

    def levels_around(self, rank: int) -> tuple[int, int]:
        """Indices of the highest quantile at or below a rank and of the lowest at or above it, 0 < rank <= n."""
        # The quantile of index i lies at rank 1 + (n - 1) i / STEPS, between two ranks where that is not whole.
        below, rest = divmod(STEPS * (min(max(rank, 1), self.n) - 1), max(self.n - 1, 1))
        return below, below + (rest > 0)

    def counts_at(self, index: int) -> tuple[int, int]:
        """How many of the n lie below the quantile of an index, at most, and how many at or below it, at least."""
        below, rest = divmod((self.n - 1) * index, STEPS)
        return below + (rest > 0), below + 1


def threshold_from(kept: KeptScores | None, rate: float) -> float:
    """KeptScores.threshold_at of what a bundle keeps; raises ConfigError too where that is nothing."""
    if kept is None:
        raise ConfigError("the bundle keeps no distribution of scores; run `edge-aae calibrate`, or give --threshold")
    return kept.threshold_at(rate)


def scores_needed(rate: float) -> int:
    """How many normal scores can show a rate: of fewer, no rank is high enough."""
    return math.ceil(1.0 / rate - 1e-9) - 1
