"""Whether scores still look as they did when the threshold was made: light, lenses and parts change slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores
from edge_runtime.errors import ConfigError

__all__ = ["DriftWatch", "Window"]

FALSE_ALARM_RATE = 1e-4
"""Share of the windows in which undisturbed, independent scores may be called drifted, at most, over calibrations"""

LEAST_WINDOW = 50


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of scores showed."""

    drifted: bool
    distance: float
    """Kolmogorov-Smirnov distance to the usual scores, 0 to 1"""
    limit: float
    frames: int
    median: float
    usual_median: float

    def __str__(self) -> str:
        medians = f"median {self.median:.4g}, {self.usual_median:.4g} when it was calibrated"
        if not self.drifted:
            return f"the last {self.frames} scores are as the calibration's again: {medians}"
        return (
            f"the last {self.frames} scores are not as the calibration's: {medians}, distance {self.distance:.2g} "
            f"above {self.limit:.2g}, so that its false-alarm rate no longer holds; look whether light, lens or "
            "parts have changed, and if that is to stay, `edge-aae calibrate` with frames of now"
        )


class DriftWatch:
    """Compares each window of scores with the usual ones by the Kolmogorov-Smirnov distance.

    Both are samples, m scores of a window and n that calibrated, so the limit is that of two: P(D > e) <=
    C exp(-2 e^2 mn / (m + n)), the Dvoretzky-Kiefer-Wolfowitz inequality for two samples, with C = 2.718 for any
    distribution and independent scores (Wei, Dudley 2012, Stat. Probab. Lett. 82, 636-644: proven for m = n; for others
    they found 2 to do wherever they tried). Frames of a camera that follow each other are not quite that: take long
    windows. The share holds over calibrations: after one that drew unusual frames, more windows are called drifted.
    """

    def __init__(self, usual: KeptScores, window: int, *, false_alarm_rate: float = FALSE_ALARM_RATE) -> None:
        """usual: normal scores; window: frames, LEAST_WINDOW or more."""
        if window < LEAST_WINDOW:
            raise ConfigError(f"drift is watched over {window} frames, expected {LEAST_WINDOW} or more")
        self._usual = np.asarray(usual.quantiles, dtype=np.float64)
        around = np.array([usual.counts_at(index) for index in range(len(SCORE_QUANTILES))])  # (201, 2)
        self._below, self._up_to = around[:, 0] / usual.n, around[:, 1] / usual.n
        self._scores: list[float] = []
        self._window = window
        self.limit = math.sqrt((1.0 - math.log(false_alarm_rate)) * (1.0 / window + 1.0 / usual.n) / 2.0)
        self.last: Window | None = None
        """The window that ended last"""

    def add(self, score: float) -> Window | None:
        """Take one score; a window that it fills, else None."""
        self._scores.append(score)
        if len(self._scores) < self._window:
            return None
        scores = np.sort(self._scores)
        self._scores = []
        distance = self._distance(scores)
        middle = float(np.interp(0.5, SCORE_QUANTILES, self._usual))
        self.last = Window(distance > self.limit, distance, self.limit, len(scores), float(np.median(scores)), middle)
        return self.last

    def _distance(self, scores: NDArray[np.float64]) -> float:
        """What the kept quantiles show for certain of the distance: never above it, at most half a percent below."""
        lower = np.searchsorted(scores, self._usual, side="left") / len(scores) - self._below
        higher = self._up_to - np.searchsorted(scores, self._usual, side="right") / len(scores)
        return max(0.0, float(lower.max()), float(higher.max()))
