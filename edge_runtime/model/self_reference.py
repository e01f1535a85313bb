"""Channels that show a photograph against its own normal: log grey without its column and row medians.

Textures and lighting differ between photographs; the median of each column and row is the photograph's own normal.
Integers from end to end, so that every machine gives the same bytes. TensorRT has no median, hence not in the graph.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["BARS", "MASK", "N_CHANNELS", "STEPS_PER_LOG", "medians", "self_referenced", "unclipped_levels"]

STEPS_PER_LOG = 100
"""k: channel levels for one natural logarithm of (1 + grey).

As large as leaves 99.9 % of the pixels of the 762 normal magnetic tiles unclipped: 0.096 % clip in channel 2 at native
scale, 0.081 % at half scale, 0.060 % and 0.049 % in channel 1 (benchmarks/runtime/self_reference_range.py). One grey
level is then a whole channel level or more up to grey 99, and 0.9 at 110, the median photograph's median.
"""

NEUTRAL = 128
"""Level of a pixel that equals its medians."""

VALID = 255
"""The mask inside the frame."""

N_CHANNELS = 4
"""Grey; without column and row medians; without column medians, which keeps horizontal steps; valid mask."""

MASK = 3
"""Index of the valid mask."""

BARS = (114, NEUTRAL, NEUTRAL, 0)
"""The four channels in a letterbox's bars: their grey, nothing unusual, not valid."""

FRACTION_BITS = 4
"""Medians are worked in sixteenths of a channel level: 2 x 16 x 100 x log(256) = 17744 still fits int16."""

LOG_TABLE = np.array(
    [round((STEPS_PER_LOG << FRACTION_BITS) * math.log1p(grey)) for grey in range(256)], dtype=np.int16
)
"""16 k log(1 + grey), rounded. No entry lies nearer than 0.0025 to a half, so any libm gives the same table."""


def self_referenced(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The four channels of a whole grey frame: (H, W) uint8 -> (H, W, 4) uint8.

    0: grey. 1: 128 + k (log(1 + grey) - column medians - row medians of what remains). 2: the same with the column
    medians alone. 3: 255. Channels 1 and 2 are rounded half up and clipped to 0..255. k is STEPS_PER_LOG.
    """
    without_both, without_columns = (np.clip(levels, 0, 255).astype(np.uint8) for levels in unclipped_levels(grey))
    valid = np.full(grey.shape, VALID, dtype=np.uint8)
    channels: NDArray[np.uint8] = _cv2().merge((grey, without_both, without_columns, valid))
    return channels


def unclipped_levels(grey: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Channels 1 and 2 before they are clipped to 0..255: (H, W) uint8 -> twice (H, W) int16."""
    log_grey: NDArray[np.int16] = _cv2().LUT(np.ascontiguousarray(grey), LOG_TABLE)
    without_columns = log_grey - medians(log_grey, axis=0)
    without_both = without_columns - medians(without_columns, axis=1)
    return _levels(without_both), _levels(without_columns)


def medians(values: NDArray[np.int16], *, axis: int) -> NDArray[np.int16]:
    """The median of each column (axis 0) or row (axis 1), kept as (1, W) or (H, 1), exact.

    values: (H, W) int16, within +-16383. An even count gives the mean of both middle values, rounded down.
    Found by bisection on the value: a dozen counting passes are about five times faster than np.partition.
    """
    count = values.shape[axis]
    low: NDArray[np.int16] = values.min(axis=axis, keepdims=True)
    high: NDArray[np.int16] = values.max(axis=axis, keepdims=True)
    up_to = np.empty(values.shape, dtype=np.bool_)
    # The smallest value with more than (count - 1) // 2 values up to it is the (lower) middle one.
    while (low < high).any():
        middle = (low + high) >> 1
        enough = _counts(np.less_equal(values, middle, out=up_to), axis) > (count - 1) // 2
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    if count % 2:
        return low
    # The upper middle is the same value again, or the next larger one there is.
    repeated = _counts(np.less_equal(values, low, out=up_to), axis) > count // 2
    if repeated.all():
        return low
    # Values up to `low` wrap around to the far end of uint16, so that the smallest is the step to the next larger.
    step = (values - (low + 1)).view(np.uint16).min(axis=axis, keepdims=True)
    upper = np.where(repeated, low, low + 1 + step.view(np.int16))
    middle_of_both: NDArray[np.int16] = (low + upper) >> 1
    return middle_of_both


def _counts(flags: NDArray[np.bool_], axis: int) -> NDArray[np.int32]:
    cv2 = _cv2()
    counts: Any = cv2.reduce(flags.view(np.uint8), axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(counts, dtype=np.int32).reshape((1, -1) if axis == 0 else (-1, 1))


def _levels(sixteenths: NDArray[np.int16]) -> NDArray[np.int16]:
    half = np.int16(1 << (FRACTION_BITS - 1))
    levels: NDArray[np.int16] = ((sixteenths + half) >> FRACTION_BITS) + np.int16(NEUTRAL)
    return levels


def _cv2() -> Any:
    """OpenCV, imported at first use; its counts and look-ups are several times faster than numpy's."""
    return require("cv2", extra="camera", purpose="self-referenced channels")
