"""HEIC, in which telephones save photographs, through pi-heif; loaded when the first such file is read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["HeifPicture", "is_heif"]

BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
"""Of the file-type box, ISO/IEC 23008-12"""


def is_heif(content: bytes) -> bool:
    """Whether a file begins as HEIC or HEIF do."""
    return content[4:8] == b"ftyp" and content[8:12] in BRANDS


class HeifPicture:
    """The main picture of a file, as it is to be seen: what turns it is part of the format and done by the decoder."""

    def __init__(self, content: bytes) -> None:
        """Reads the header. Raises MissingExtraError, and ValueError for a file that is damaged or cut."""
        pi_heif = require("pi_heif", extra="heic", purpose="HEIC images")
        self._picture: Any = pi_heif.open_heif(content, convert_hdr_to_8bit=True)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        width, height = self._picture.size
        return int(height), int(width)

    def decoded(self) -> NDArray[np.uint8]:
        """(H, W) grey or (H, W, 3) BGR. Raises ValueError where it is damaged."""
        try:
            image = np.asarray(self._picture)
        except (RuntimeError, EOFError, OSError) as error:
            raise ValueError(str(error)) from error
        return image if image.ndim == 2 else np.ascontiguousarray(image[:, :, 2::-1])
