"""The size of the network's input for a view: its own aspect, a budget of pixels, the smallest defect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edge_runtime.errors import ConfigError

__all__ = ["SizePolicy", "Span", "view_size"]

DEFECT_SPAN = 8.0
"""Pixels of the network's input that the smallest defect is to span: one cell of a map at an eighth of the input."""

MOST_PIXELS = 640 * 640
"""Of an input, however small the defect: six times the usual budget, in training time and on the device."""

MULTIPLE = 16
FINE_MULTIPLE = 4
"""Where the budget is that of thumbnails."""
THUMBNAIL = 64 * 64

SQUEEZE_WEIGHT = 4.0
"""Of another aspect against another number of pixels: 5 % of squeeze for 20 % of pixels."""


def view_size(
    aspect: float,
    budget_pixels: int = 256 * 256,
    multiple: int = MULTIPLE,
    takes: Callable[[int, int], bool] = lambda height, width: True,
) -> tuple[int, int]:
    """Height and width of an input with the aspect (width to height) and about so many pixels, multiples of `multiple`.

    takes: whether the network can have a height and width; of those it can, the nearest is given. Raises ConfigError
    where it takes none within a factor of four.
    """
    longest = math.ceil(2 * math.sqrt(budget_pixels * max(aspect, 1 / aspect)))
    sides = range(multiple, max(longest, multiple) + 1, multiple)

    def distance(size: tuple[int, int]) -> tuple[float, int]:
        squeeze = abs(math.log(size[1] / size[0] / aspect))
        return SQUEEZE_WEIGHT * squeeze + abs(math.log(size[0] * size[1] / budget_pixels)), size[0]

    near = [(height, width) for height in sides for width in sides if height * width <= 4 * budget_pixels]
    for size in sorted(near, key=distance):
        if takes(*size):
            return size
    raise ConfigError(
        f"the network takes no input of about {budget_pixels} pixels and aspect {aspect:.2f}; name one with --imgsz"
    )


@dataclass(frozen=True, slots=True)
class Span:
    """What the smallest defect comes to in the network's input."""

    pixels: float
    """Of the input"""
    hint: str
    """What to do where that is less than DEFECT_SPAN; empty where it is not"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SizePolicy:
    """How large the input is where a view is known."""

    budget_pixels: int = 256 * 256
    """Unless the smallest defect needs more."""
    imgsz: tuple[int, int] | None = None
    """Height and width that the user named."""
    smallest_defect: float | None = None
    """Its extent in pixels of the photograph."""
    takes: Callable[[int, int], bool] = lambda height, width: True
    """Whether the network can have a height and width."""

    def size_of(self, height: float, width: float) -> tuple[int, int]:
        """Height and width of the input for a view of so many pixels of the photograph; raises ConfigError."""
        if self.imgsz is not None:
            return self.imgsz
        budget = self.budget_pixels
        if self.smallest_defect is not None:
            # Never larger than the photograph: what is enlarged shows nothing new.
            scale = min(1.0, DEFECT_SPAN / self.smallest_defect)
            budget = round(min(max(budget, scale**2 * height * width), max(budget, MOST_PIXELS)))
        return view_size(width / height, budget, MULTIPLE if budget >= THUMBNAIL else FINE_MULTIPLE, self.takes)

    def span(self, size: tuple[int, int], height: float, width: float) -> Span | None:
        """What the smallest defect comes to in an input of this size of such a view; None where it is not known."""
        if self.smallest_defect is None:
            return None
        pixels = self.smallest_defect * min(size[0] / height, size[1] / width)
        if pixels >= 0.95 * DEFECT_SPAN:  # sizes are rounded
            return Span(pixels, "")
        if self.smallest_defect < DEFECT_SPAN and size[0] >= 0.9 * height:
            return Span(pixels, "the photographs hold no more: take them from nearer")
        return Span(pixels, "cut what matters out with --roi, or take --network patch, which keeps the scale in tiles")
