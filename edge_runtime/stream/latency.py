"""Latencies counted into buckets, so that a run of years takes no more memory than one of a minute."""

from __future__ import annotations

import bisect

__all__ = ["BUCKETS_S", "LatencyHistogram"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds, seconds: from a small network on a GPU to a frame of many tiles on a slow CPU."""


class LatencyHistogram:
    """How many latencies lay below each bound, and their sum."""

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency."""
        self._counts[bisect.bisect_left(BUCKETS_S, latency_s)] += 1
        self.sum_s += latency_s

    def cumulative(self) -> list[tuple[str, int]]:
        """(bound as text, number at or below it), as Prometheus wants them; the last bound is +Inf."""
        total, result = 0, []
        for bound, count in zip([*map(str, BUCKETS_S), "+Inf"], self._counts, strict=True):
            total += count
            result.append((bound, total))
        return result
