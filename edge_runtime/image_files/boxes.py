"""Boxes that files of the MP4 family are made of (ISO/IEC 14496-12, 4.2): whether the last one lies in the file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["boxes_end_beyond"]

MOST_BOXES = 100_000
"""Boxes at the top of a file that are looked at."""


def boxes_end_beyond(file: Path) -> bool:
    """Whether a box at the top ends beyond the end of the file, which was cut then. Raises OSError."""
    n_bytes = file.stat().st_size
    position = 0
    with file.open("rb") as content:
        for _ in range(MOST_BOXES):
            content.seek(position)
            head = content.read(16)
            if len(head) < 8:
                return False
            length, least = int.from_bytes(head[:4], "big"), 8
            if length == 1:
                length, least = int.from_bytes(head[8:16], "big"), 16
            if length == 0:  # up to the end, wherever that is
                return False
            if length < least or position + length > n_bytes:
                return True
            position += length
    return False
