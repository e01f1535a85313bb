"""Whether scores still look as they did when the threshold was made: light, lenses and parts change slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores
from edge_runtime.errors import ConfigError

__all__ = ["DriftWatch", "Window"]

FALSE_ALARM_RATE = 1e-4
"""Share of the windows in which undisturbed, independent scores may be called drifted, at most."""

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


class DriftWatch:
    """Compares each window of scores with the usual ones by the Kolmogorov-Smirnov distance.

    The limit is that of the Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant (1990),
    P(D > e) <= 2 exp(-2 n e^2), which holds for any distribution and any n, for independent scores. Frames of a camera
    that follow each other are not quite that: take long windows.
    """

    def __init__(self, usual: KeptScores, window: int, *, false_alarm_rate: float = FALSE_ALARM_RATE) -> None:
        """usual: normal scores; window: frames, LEAST_WINDOW or more."""
        if window < LEAST_WINDOW:
            raise ConfigError(f"drift is watched over {window} frames, expected {LEAST_WINDOW} or more")
        self._usual = np.asarray(usual.quantiles, dtype=np.float64)
        self._scores: list[float] = []
        self._window = window
        self.limit = math.sqrt(math.log(2.0 / false_alarm_rate) / (2.0 * window))
        self.last: Window | None = None
        """The window that ended last"""

    def add(self, score: float) -> Window | None:
        """Take one score; a window that it fills, else None."""
        self._scores.append(score)
        if len(self._scores) < self._window:
            return None
        scores = np.sort(self._scores)
        self._scores = []
        usual = np.interp(scores, self._usual, SCORE_QUANTILES)
        ranks = np.arange(len(scores) + 1) / len(scores)
        distance = float(max((ranks[1:] - usual).max(), (usual - ranks[:-1]).max()))
        middle = float(np.interp(0.5, SCORE_QUANTILES, self._usual))
        self.last = Window(distance > self.limit, distance, self.limit, len(scores), float(np.median(scores)), middle)
        return self.last
