"""Parameter types: how values are written on a command line and in a configuration, checked before a command begins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.errors import expected_name

if TYPE_CHECKING:
    from edge_runtime.model.defect_size import Area

__all__ = [
    "ALARM_RULE",
    "AREA",
    "BACKEND",
    "CLASSES",
    "CONTAMINATE",
    "COUNT_OR_INF",
    "ENGINE",
    "FINITE",
    "LEVELS",
    "MM_PER_PIXEL",
    "NO_ALARM",
    "PERCENT",
    "PRECISION",
    "PRECISION_NAMES",
    "ROI",
    "SECONDS_RANGE",
    "SIZE",
    "THREADS",
    "WIDTH_HEIGHT_CHANNELS",
]


class _Named(click.ParamType[str]):
    """One of some names, which are looked up when a value comes: their modules need not be loaded before."""

    def __init__(self, name: str, known: Callable[[], tuple[str, ...]]) -> None:
        self.name = name
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self._known():
            self.fail(f"{value!r}, {expected_name(self._known(), str(value))}", param, ctx)
        return str(value)


def _backends() -> tuple[str, ...]:
    from edge_runtime.backends.selection import BACKEND_NAMES

    return BACKEND_NAMES


def _precision_names() -> tuple[str, ...]:
    from edge_runtime.bundle.budgets import PRECISIONS

    return tuple(PRECISIONS)


def _engines() -> tuple[str, ...]:
    from edge_runtime.backends.selection import BACKENDS

    return tuple(BACKENDS)


class _Finite(click.ParamType[float]):
    """A number; not nan, and not infinite."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r}, expected a finite number", param, ctx)
        return float(number)


BACKEND = _Named("backend", _backends)
"""What a run may be asked for, `auto` among it"""
ENGINE = _Named("backend", _engines)
"""One that is meant by its name"""
FINITE = _Finite()
THREADS = click.IntRange(min=0)
PRECISION = _Named("precision", _precision_names)


class _Parsed(click.ParamType[Any]):
    """A parameter type around a function that raises ValueError for what it cannot read."""

    def __init__(self, name: str, expected: str, parse: Callable[[str], Any], show: Callable[[Any], str] = str) -> None:
        """show: writes a value so that parse reads it."""
        self.name = name
        self.show = show
        self._expected = expected
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (int, float)):  # of a configuration file, or from Python
            value = f"{value:.17g}" if isinstance(value, float) else str(value)
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r}, expected {self._expected}", param, ctx)


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError
    return sides[0], sides[-1]


def _classes(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(label) for label in text.split(",")))


def _contaminate(text: str) -> tuple[tuple[int, float], ...]:
    parts = [part.split(":") for part in text.split(",")]
    return tuple((int(label), float(share)) for label, share in parts)


def _precisions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= {"fp32", "fp16", "int8"}:
        raise ValueError
    return names


def _percent(text: str) -> float:
    return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)


def _area(text: str) -> Area:
    from edge_runtime.model.defect_size import Area

    return Area.parse(text)


def _mm_per_pixel(text: str) -> float:
    from edge_runtime.model.defect_size import mm_per_pixel_from

    return mm_per_pixel_from(text)


def _roi(text: str) -> tuple[int, int, int, int]:
    x, y, width, height = (int(number) for number in text.split(","))
    return x, y, width, height


def _joined(mark: str) -> Callable[[Any], str]:
    return lambda values: mark.join(f"{value:g}" for value in values)


def _shares(values: Any) -> str:
    return ",".join(f"{label}:{share!r}" for label, share in values)


SIZE = _Parsed("size", "pixels such as 128, or ROWSxCOLUMNS such as 96x256", _size, _joined("x"))
CLASSES = _Parsed("classes", "class numbers such as 0 or 0,3", _classes, _joined(","))
CONTAMINATE = _Parsed("class:share", "CLASS:SHARE such as 2:0.05", _contaminate, _shares)
PRECISION_NAMES = _Parsed("precisions", "fp32, fp16 or int8, comma-separated", _precisions)


def _count_or_inf(text: str) -> float:
    return math.inf if text == "inf" else float(int(text))


def _seconds_range(text: str) -> tuple[float, float]:
    first, _, most = text.partition(":")
    return float(first), float(most or first)


def _alarm_rule(text: str) -> tuple[int, int]:
    n, _, m = ("0", "/", "0") if text == "none" else text.partition("/")
    return int(n), int(m)


def _width_height_channels(text: str) -> tuple[int, int, int]:
    width, height, channels = (int(number) for number in text.lower().split("x"))
    return width, height, channels


def _levels(text: str) -> tuple[int, int]:
    from edge_runtime.image_files.levels import check_levels

    low, high = (int(level) for level in text.split(","))
    check_levels((low, high), "--levels")
    return low, high


COUNT_OR_INF = _Parsed("count", "a whole number, or inf", _count_or_inf, lambda count: f"{count:g}")
SECONDS_RANGE = _Parsed("first:most", "seconds such as 1:30", _seconds_range, _joined(":"))
NO_ALARM = (0, 0)
"""What --alarm none gives, told from an --alarm that was not given"""
ALARM_RULE = _Parsed(
    "n/m", "N/M such as 3/5, or none", _alarm_rule, lambda rule: f"{rule[0]}/{rule[1]}" if any(rule) else "none"
)
WIDTH_HEIGHT_CHANNELS = _Parsed(
    "wxhxc", "WIDTHxHEIGHTxCHANNELS such as 640x480x3", _width_height_channels, _joined("x")
)
PERCENT = _Parsed("percent", "a share such as 1% or 0.01", _percent)
AREA = _Parsed("area", "a number with its unit, px or mm2, such as 12px or 0.5mm2", _area)
MM_PER_PIXEL = _Parsed("mm", "millimetres above 0, such as 0.05", _mm_per_pixel)
LEVELS = _Parsed(
    "low,high", "LOW,HIGH of 16-bit images, 0 <= LOW < HIGH <= 65535, such as 0,4095", _levels, _joined(",")
)
ROI = _Parsed("x,y,w,h", "X,Y,WIDTH,HEIGHT in frame pixels", _roi, _joined(","))
