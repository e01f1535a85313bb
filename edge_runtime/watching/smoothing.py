"""Smoothing scores over time, so that one odd frame is not an alarm."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from typing import Protocol, TypeVar

from edge_runtime.errors import ConfigError

__all__ = ["Ema", "Median", "Smoothing", "smoothing_from"]

Number = TypeVar("Number", int, float)


class Smoothing(Protocol):
    """Takes scores in order and gives each one smoothed."""

    def __call__(self, score: float) -> float:
        """The smoothed score."""
        ...


class Ema:
    """Exponential moving average; the first score stands for itself."""

    def __init__(self, alpha: float) -> None:
        """alpha: weight of the newest score, above 0 to 1; 1 smooths nothing."""
        if not 0 < alpha <= 1:
            raise ConfigError(f"--smooth is ema:{alpha:g}, expected a weight above 0 and at most 1, such as ema:0.3")
        self._alpha = alpha
        self._mean: float | None = None

    def __call__(self, score: float) -> float:
        """The average with this score in it."""
        self._mean = score if self._mean is None else self._mean + self._alpha * (score - self._mean)
        return self._mean


class Median:
    """Median of the last scores, of those there are at the start."""

    def __init__(self, length: int) -> None:
        if length < 1:
            raise ConfigError(f"--smooth is median:{length}, expected 1 or more scores, such as median:5")
        self._last: deque[float] = deque(maxlen=length)

    def __call__(self, score: float) -> float:
        """The median with this score in it."""
        self._last.append(score)
        return float(statistics.median(self._last))


def smoothing_from(text: str) -> Smoothing:
    """Smoothing as the command line names it: none, ema:WEIGHT or median:LENGTH. Raises ConfigError."""
    kind = text.partition(":")[0]
    if text == "none":
        return Ema(1.0)
    if kind == "ema":
        return Ema(_number(float, text))
    if kind == "median":
        return Median(_number(int, text))
    raise ConfigError(f"--smooth is {text!r}, expected none, ema:WEIGHT or median:LENGTH")


def _number(kind: Callable[[str], Number], text: str) -> Number:
    """What stands behind the colon; apart from the checks of its range, whose errors are ValueErrors too."""
    value = text.partition(":")[2]
    try:
        return kind(value)
    except ValueError as error:
        wanted = "whole number" if kind is int else "number"
        raise ConfigError(f"--smooth is {text!r}: {value!r} is no {wanted}; expected ema:0.3 or median:5") from error
