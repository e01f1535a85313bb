"""What a whole photograph shows, as far as defects drawn on it need to know: its part and its palette.

Called by photograph_kinds.py and photograph_defects.py.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "Mask", "evident_foreground", "index_of_nearest", "nearest_value", "two_values"]

Frame = NDArray[np.uint8]
"""(H, W, 1) grey or (H, W, 3) BGR"""
Mask = NDArray[np.bool_]
"""(H, W)"""

LOOKED_AT_SIDE = 128
"""A part is looked for on the photograph with its longer side reduced to this: noise and fine texture average out."""
EVEN_BORDER = 20.0
"""Grey levels: a background is evident where nine tenths of the border lie this close to its median."""
LEAST_DISTANCE = 12.0
"""Grey levels between a part and its background; dark rubber on black has no more."""
PART_SHARES = (0.02, 0.9)
"""What covers less or more of the photograph is no part on a background."""

SAMPLED_SIDE = 256
"""Values are looked for in every second row and column of photographs of twice this side, and so on."""
TWO_VALUED_SHARE = 0.95
"""Of the pixels that lie at one of two values. Binary scans reduced to 256 pixels: .98; photographs: at most .94."""
VALUE_WIDTH = 12.0
"""Grey levels around a value that still count as it."""
LEAST_CONTRAST = 40.0
"""Grey levels between the two values; closer ones are the noise of a flat surface."""


def evident_foreground(frame: Frame) -> Mask | None:
    """(H, W), True on what stands out from a background that the frame's border shows, or None."""
    height, width = frame.shape[:2]
    factor = min(1.0, LOOKED_AT_SIDE / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    reduced = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    small = reduced.reshape(*reduced.shape[:2], -1).astype(np.float32)  # OpenCV drops the axis of a single channel
    rim = max(1, round(0.02 * min(size)))
    border = np.ones(small.shape[:2], dtype=np.bool_)
    border[rim:-rim, rim:-rim] = False
    background = np.median(small[border], axis=0)
    distance = np.abs(small - background).max(axis=2)
    spread = float(np.quantile(distance[border], 0.9))
    if spread > EVEN_BORDER:
        return None
    part = (distance > max(LEAST_DISTANCE, 2.0 * spread)).astype(np.uint8)
    part = cv2.morphologyEx(part, cv2.MORPH_CLOSE, np.ones((3, 3), dtype=np.uint8))
    if not PART_SHARES[0] <= part.mean() <= PART_SHARES[1]:
        return None
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST) > 0)


def two_values(frame: Frame) -> NDArray[np.uint8] | None:
    """The darker and the brighter value (2, C) of a frame that shows hardly anything else, as binary scans; or None."""
    step = max(1, min(frame.shape[:2]) // SAMPLED_SIDE)
    frame = frame[::step, ::step]
    grey = frame.mean(axis=2).astype(np.uint8)
    level, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)
    bright = grey > level
    if bright.all() or not bright.any():
        return None
    values = np.stack([np.median(frame[~bright], axis=0), np.median(frame[bright], axis=0)])
    if np.abs(values[1] - values[0]).max() < LEAST_CONTRAST:
        return None
    distance = np.abs(frame - values[bright.astype(np.intp)]).max(axis=2)
    return values.astype(np.uint8) if float((distance <= VALUE_WIDTH).mean()) >= TWO_VALUED_SHARE else None


def index_of_nearest(content: NDArray[np.float32] | Frame, values: NDArray[np.uint8]) -> NDArray[np.intp]:
    """(h, w), which of two values (2, C) is closer to each pixel (h, w, C)."""
    first, second = (np.abs(content - value.astype(np.float32)).sum(axis=2) for value in values)
    return (second < first).astype(np.intp)


def nearest_value(content: NDArray[np.float32], values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Each pixel (h, w, C) as the closer one of two values (2, C)."""
    return values[index_of_nearest(content, values)].astype(np.float32)
