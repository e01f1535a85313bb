"""Grey levels of 16-bit images: which of them a camera uses, and how they become 8 bits."""

from __future__ import annotations

import logging
import struct
from functools import cache

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.image_files.parts import PNG, is_tiff, png_chunks, tiff_number

__all__ = [
    "FULL_RANGE",
    "HEAD_BYTES",
    "Levels",
    "check_levels",
    "is_deep",
    "levels_up_to",
    "significant_bits",
    "to_8_bit",
]

logger = logging.getLogger(__name__)

Levels = tuple[int, int]
"""The levels of a 16-bit image that become 0 and 255; what is below or above is cut off."""

FULL_RANGE: Levels = (0, 65535)
"""What images are read by unless something else is known."""

DEPTHS = (8, 10, 12, 14, 16)
"""Bits of sensors' converters"""

LARGEST_SAMPLE = 281
"""MaxSampleValue, a tag of a TIFF"""
HEAD_BYTES = 32


def check_levels(levels: Levels, called: str) -> None:
    """Raise ConfigError unless they are two whole numbers, 0 <= low < high <= 65535."""
    if (
        len(levels) != 2
        or not all(isinstance(level, int) and not isinstance(level, bool) for level in levels)
        or not 0 <= levels[0] < levels[1] <= FULL_RANGE[1]
    ):
        raise ConfigError(f"{called} is {levels}, expected LOW,HIGH of 16-bit images, 0 <= LOW < HIGH <= 65535")


def to_8_bit(image: NDArray[np.uint16], levels: Levels | None, *, called: str = "image") -> NDArray[np.uint8]:
    """A 16-bit image in 8 bits: floor(255 (x - low) / (high - low)), cut off at 0 and 255. None: FULL_RANGE.

    Says once for each pair of levels, in this process, that an image exceeds them; called: what the message calls it.
    """
    levels = levels or FULL_RANGE
    if levels[1] < FULL_RANGE[1] and (brightest := int(image.max())) > levels[1]:
        _say_exceeded(levels, brightest, called)
    converted: NDArray[np.uint8] = _table(levels)[image]
    return converted


@cache
def _table(levels: Levels) -> NDArray[np.uint8]:
    low, high = levels
    return np.clip((np.arange(FULL_RANGE[1] + 1) - low) * 255 // (high - low), 0, 255).astype(np.uint8)


_exceeded: set[Levels] = set()


def _say_exceeded(levels: Levels, brightest: int, called: str) -> None:
    if levels in _exceeded:
        return
    _exceeded.add(levels)
    logger.warning(
        "%s reaches level %d, above the %d that became white in training: what is brighter is cut off, and not said "
        "again; train with --levels 0,%d, or set the camera as it was",
        called, brightest, levels[1], levels_up_to(brightest)[1],
    )  # fmt: skip


def levels_up_to(brightest: int, n_bits: int | None = None) -> Levels:
    """(0, largest level) of the fewest bits that a converter may have had: 8, 10, 12, 14 or 16.

    n_bits: those that the files state; taken where the brightest level fits them.
    """
    if n_bits is not None and brightest < 1 << n_bits:
        return 0, (1 << n_bits) - 1
    return 0, (1 << min(depth for depth in DEPTHS if brightest < 1 << depth)) - 1


def is_deep(head: bytes) -> bool:
    """Whether a file may hold more than 8 bits a sample, from its first HEAD_BYTES bytes; any TIFF may."""
    return (head.startswith(PNG) and head[24:25] == b"\x10") or is_tiff(head)


def significant_bits(content: bytes) -> int | None:
    """How many bits of a 16-bit sample carry light, as the file states it: sBIT of a PNG, MaxSampleValue of a TIFF.

    None where it states nothing. Samples of a PNG that are scaled up to 16 bits state it too: see levels_up_to.
    """
    if content.startswith(PNG):
        for name, (begin, end) in png_chunks(content):
            if name == b"sBIT" and end > begin:
                return _depth(max(content[begin:end][: 3 if end - begin >= 3 else 1]))
            if name == b"IDAT":
                return None
    elif is_tiff(content):
        try:
            largest = tiff_number(content, LARGEST_SAMPLE)
        except struct.error:
            return None
        return None if largest is None else _depth(largest.bit_length())
    return None


def _depth(n_bits: int) -> int | None:
    return n_bits if DEPTHS[0] <= n_bits <= DEPTHS[-1] else None
