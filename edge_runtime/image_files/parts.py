"""The parts that image files are made of, found without decoding: segments of a JPEG, chunks of a PNG and of a WebP.

A part that leaves the file is not given, nor what would come after it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

__all__ = [
    "END",
    "JPEG",
    "PNG",
    "SCAN",
    "START",
    "is_tiff",
    "is_webp",
    "jpeg_segments",
    "png_chunks",
    "tiff_number",
    "webp_chunks",
]

Part = tuple[int, int]
"""Where a part's content begins and ends, bytes from the start of the file"""

JPEG = b"\xff\xd8"
PNG = b"\x89PNG\r\n\x1a\n"

START, END, SCAN = 0xD8, 0xD9, 0xDA
"""Markers of a JPEG: its start, its end, and compressed pixels"""
WITHOUT_LENGTH = 0x01

TAG_BYTES, SHORT = 12, 3
"""Of a TIFF: an entry of a directory, and the type of a number of 16 bits"""

MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""In compressed pixels 0xFF stands before 0 where it is data, and before a restart, which is no end of them."""


def jpeg_segments(content: bytes | bytearray) -> Iterator[tuple[int, Part]]:
    """(marker, content) of each segment after the first START; a START or END has none, and is the last one given.

    Pixels are passed over, pictures within segments (thumbnails) with them.
    """
    position = len(JPEG)
    while found := MARKER.search(content, position):
        marker, position = content[found.end() - 1], found.end()
        if marker in (START, END):
            yield marker, (position, position)
            return
        if marker == WITHOUT_LENGTH:
            continue
        if position + 2 > len(content):
            return
        (length,) = struct.unpack_from(">H", content, position)
        end = position + length
        if length < 2 or end > len(content):
            return
        yield marker, (position + 2, end)
        position = end


def png_chunks(content: bytes) -> Iterator[tuple[bytes, Part]]:
    """(type, content) of each chunk whose content and checksum lie in the file."""
    position = len(PNG)
    while position + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, position)
        begin = position + 8
        if begin + length + 4 > len(content) or not name.isalpha():
            return
        yield name, (begin, begin + length)
        position = begin + length + 4


def webp_chunks(content: bytes) -> Iterator[tuple[bytes, Part]]:
    """(type, content) of each chunk that lies in the file."""
    position = 12
    while position + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, position)
        begin = position + 8
        if begin + length > len(content):
            return
        yield name, (begin, begin + length)
        position = begin + length + length % 2


def tiff_number(content: bytes, wanted: int) -> int | None:
    """A 16-bit number in the first directory of a TIFF, or of EXIF, by its tag; the first where it has several.

    None where there is none; raises struct.error where the file ends too early.
    """
    if not is_tiff(content):
        return None
    order = "<" if content[:1] == b"I" else ">"
    (position,) = struct.unpack_from(order + "I", content, 4)
    (n_tags,) = struct.unpack_from(order + "H", content, position)
    for index in range(n_tags):
        begin = position + 2 + TAG_BYTES * index
        tag, kind, count = struct.unpack_from(order + "HHI", content, begin)
        if tag == wanted and kind == SHORT and count:
            where = begin + 8 if count <= 2 else struct.unpack_from(order + "I", content, begin + 8)[0]
            return int(struct.unpack_from(order + "H", content, where)[0])
    return None


def is_tiff(content: bytes) -> bool:
    """Whether a file begins as a TIFF does."""
    return content[:4] in (b"II*\0", b"MM\0*")


def is_webp(content: bytes) -> bool:
    """Whether a file begins as a WebP does."""
    return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
