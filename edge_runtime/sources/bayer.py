"""Bayer-coded frames, one colour a pixel as the sensor gives them, in colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["BAYER", "demosaiced", "mosaic_of"]

BAYER = {"RGGB": "BG", "BGGR": "RG", "GRBG": "GB", "GBRG": "GR"}
"""The colours of the first row's and the second row's first two pixels, and OpenCV's name, which is of the second row's
second and third."""


def demosaiced(mosaic: NDArray[Any], pattern: str) -> NDArray[Any]:
    """(H, W) uint8 or uint16 in colour: (H, W, 3) BGR, what is between two pixels of a colour by linear interpolation.

    pattern: a name of BAYER. Raises DataError below 4x4 pixels, which OpenCV does not take.
    """
    if min(mosaic.shape) < 4:
        raise DataError(f"a Bayer-coded frame is {mosaic.shape}, expected at least 4x4 pixels")
    cv2 = quiet_cv2()
    colour: NDArray[Any] = cv2.cvtColor(mosaic, getattr(cv2, f"COLOR_Bayer{BAYER[pattern]}2BGR"))
    return colour


def mosaic_of(raw: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(height, width) uint8 or uint16 of a buffer as V4L2 fills it, of whatever shape OpenCV gives it.

    Samples of 10 to 16 bits lie in two bytes, the lower one first. Raises DataError for another number of bytes.
    """
    if raw.nbytes == height * width:
        return np.ascontiguousarray(raw).view(np.uint8).reshape(height, width)
    if raw.nbytes == 2 * height * width:
        return np.ascontiguousarray(raw).view(np.dtype("<u2")).reshape(height, width)
    raise DataError(
        f"a Bayer-coded frame has {raw.nbytes} bytes, expected {height * width} or twice as many for "
        f"{width}x{height}; ask for a raw format with --fourcc, such as BA81 or RG10, not a packed one"
    )
