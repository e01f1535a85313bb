"""Frames of one synthetic part, a wedge with a thick end, turned and shifted, with a defect at a known place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["BACKGROUND", "DEFECT", "PART", "defect_place", "part_frame"]

BACKGROUND, PART, DEFECT = 60, 140, 250
"""Grey levels"""

OUTLINE = np.array([(-70, -12), (50, -30), (50, 30), (-70, 12)], dtype=np.float64)
"""Corners around the frame's middle, pixels, long axis along x; the thin end is at -70."""

DEFECT_AT = (25.0, 14.0)
"""Middle of the defect in the part's own coordinates."""


def part_frame(
    angle: float = 0.0,
    middle: tuple[float, float] = (150.0, 120.0),
    *,
    shape: tuple[int, ...] = (240, 300, 3),
    defect: bool = False,
    scale: float = 1.0,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """A frame with the part turned by so many degrees about `middle` (x, y), and a little grain."""
    import cv2

    frame = np.full(shape, BACKGROUND, dtype=np.uint8)
    _fill(cv2, frame, scale * OUTLINE, angle, middle, PART)
    if defect:
        side = 5.0
        square = np.array(DEFECT_AT) + np.array([(-side, -side), (side, -side), (side, side), (-side, side)])
        _fill(cv2, frame, scale * square, angle, middle, DEFECT)
    grain = np.random.default_rng(seed).integers(-3, 4, shape[:2])
    grain = grain if len(shape) == 2 else grain[:, :, None]
    return (frame.astype(np.int16) + grain).astype(np.uint8)


def defect_place(angle: float, middle: tuple[float, float], scale: float = 1.0) -> tuple[float, float]:
    """x, y of the defect's middle in the frame."""
    x, y = _turned(scale * np.array([DEFECT_AT]), angle, middle)[0]
    return float(x), float(y)


def _turned(points: NDArray[np.float64], angle: float, middle: tuple[float, float]) -> NDArray[np.float64]:
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return points @ np.array([(c, s), (-s, c)]) + np.array(middle)


def _fill(
    cv2: object,
    frame: NDArray[np.uint8],
    points: NDArray[np.float64],
    angle: float,
    middle: tuple[float, float],
    level: int,
) -> None:
    corners = np.rint(16 * (_turned(points, angle, middle) - 0.5)).astype(np.int32)
    cv2.fillPoly(frame, [corners], (level,) * 3, shift=4)  # type: ignore[attr-defined]
