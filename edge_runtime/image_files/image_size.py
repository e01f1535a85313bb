"""How large an image is, from the first bytes of its file: what decoding it would take is known before it is decoded.

PNG, JPEG, BMP and TIFF, and WebP, which some cameras' software saves under their names. A format that is not read here
is not decoded either.
"""

from __future__ import annotations

import struct

__all__ = ["image_size"]

PNG = b"\x89PNG\r\n\x1a\n"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG that hold its size; the three are tables"""
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers of a JPEG without a length"""

WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT = 256, 257, 322, 323
"""Tags of a TIFF: of the image, and of the tiles that it is decoded by"""
TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}
MOST_TAGS = 4096
"""That are read, and markers likewise"""


def image_size(content: bytes) -> tuple[int, int] | None:
    """Height and width, >= 0, of the first picture of a file; None where it is none of the formats, or damaged.

    Of a TIFF the larger of image and tile on each axis.
    """
    try:
        if content.startswith(PNG):
            return _png(content)
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content.startswith(b"BM"):
            return _bmp(content)
        if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return _tiff(content)
        if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
            return _webp(content)
    except struct.error:
        pass  # it ends too early
    return None


def _png(content: bytes) -> tuple[int, int] | None:
    if content[12:16] != b"IHDR":
        return None
    width, height = struct.unpack_from(">II", content, 16)
    return height, width


def _jpeg(content: bytes) -> tuple[int, int] | None:
    position = 2
    for _ in range(MOST_TAGS):
        position = content.find(b"\xff", position)
        if not 0 <= position < len(content) - 1:
            return None
        marker = content[position + 1]
        position += 1 if marker == 0xFF else 2
        if marker in FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", content, position + 3)
            return height, width
        if marker not in ALONE and marker not in (0x00, 0xFF):
            (length,) = struct.unpack_from(">H", content, position)
            position += length
    return None


def _bmp(content: bytes) -> tuple[int, int]:
    (header_bytes,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if header_bytes == 12 else "<ii", content, 18)
    return abs(height), abs(width)


def _tiff(content: bytes) -> tuple[int, int] | None:
    order, is_big = "<" if content[:1] == b"I" else ">", content[2:4] in (b"+\0", b"\0+")
    count, entry, number, entry_bytes = ("Q", "HHQ", "Q", 20) if is_big else ("H", "HHI", "I", 12)
    (position,) = struct.unpack_from(order + number, content, 8 if is_big else 4)
    (n_tags,) = struct.unpack_from(order + count, content, position)
    position += struct.calcsize(order + count)
    sides: dict[int, int] = {}
    for index in range(min(n_tags, MOST_TAGS)):
        begin = position + index * entry_bytes
        tag, kind, _ = struct.unpack_from(order + entry, content, begin)
        if tag in (WIDTH, HEIGHT, TILE_WIDTH, TILE_HEIGHT) and kind in TIFF_NUMBERS:
            (side,) = struct.unpack_from(order + TIFF_NUMBERS[kind], content, begin + struct.calcsize(order + entry))
            sides[tag] = max(side, sides.get(tag, 0))
    if WIDTH not in sides or HEIGHT not in sides:
        return None
    return max(sides[HEIGHT], sides.get(TILE_HEIGHT, 0)), max(sides[WIDTH], sides.get(TILE_WIDTH, 0))


def _webp(content: bytes) -> tuple[int, int] | None:
    kind = content[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        return int.from_bytes(content[27:30], "little") + 1, width
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None
