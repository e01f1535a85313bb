"""How a picture lies in its file: EXIF orientation, which cameras that were held upright write in place of turning.

Read here because OpenCV reads it, by release, of some formats and not of others, and not with IMREAD_UNCHANGED.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.image_files.parts import JPEG, PNG, SCAN, is_webp, jpeg_segments, png_chunks, tiff_number, webp_chunks

__all__ = ["UPRIGHT", "orientation_of", "upright"]

UPRIGHT = 1
"""The orientation of a picture whose first row is its top and whose first column its left side."""

ORIENTATION = 0x0112
"""EXIF's tag"""
EXIF = b"Exif\0\0"
APP1 = 0xE1


def orientation_of(content: bytes) -> int:
    """1 to 8 as EXIF 2.32, tag 274, numbers them; 1 where a file says nothing.

    Of JPEG (APP1), PNG (eXIf) and WebP (EXIF). 1 for a TIFF: OpenCV turns those itself, with any flag.
    """
    exif = _exif(content)
    if exif is None:
        return UPRIGHT
    try:
        value = tiff_number(exif.removeprefix(EXIF), ORIENTATION)
    except struct.error:
        return UPRIGHT  # it ends too early
    return value if value is not None and UPRIGHT <= value <= 8 else UPRIGHT


def upright(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The picture as it is to be seen: (H, W) or (H, W, C), or with H and W changed places from orientation 5 on."""
    if orientation >= 5:
        image = np.swapaxes(image, 0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _exif(content: bytes) -> bytes | None:
    if content.startswith(JPEG):
        for marker, (begin, end) in jpeg_segments(content):
            if marker == SCAN:
                return None
            if marker == APP1 and content[begin : begin + len(EXIF)] == EXIF:
                return content[begin:end]
    elif content.startswith(PNG):
        for name, (begin, end) in png_chunks(content):
            if name == b"eXIf":
                return content[begin:end]
    elif is_webp(content):
        for name, (begin, end) in webp_chunks(content):
            if name == b"EXIF":
                return content[begin:end]
    return None
