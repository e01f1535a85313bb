"""Which levels 16-bit training images use: 12 bits in 16 are a sixteenth of the range, and would be all but black."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.image_files.levels import HEAD_BYTES, Levels, is_deep, levels_up_to, significant_bits
from edge_runtime.model.images import decoded, read_bytes

__all__ = ["found_levels"]

logger = logging.getLogger(__name__)


def found_levels(files: Sequence[Path], *, told: bool = True) -> Levels | None:
    """(0, largest level) of the bits that the files use; None where none has 16 bits a sample, or none can be read.

    Reads every file that may have them. What the files state counts where their brightest pixel fits it; else the
    fewest bits of a sensor that hold it. told: whether the log says what was found.
    """
    brightest, stated, n_deep = 0, None, 0
    for file in files:
        try:
            with file.open("rb") as stream:
                if not is_deep(stream.read(HEAD_BYTES)):
                    continue
            content = read_bytes(file)
            image = decoded(content, called=str(file))
        except (DataError, OSError):
            continue  # loading lists what cannot be read
        if image.dtype != np.uint16:
            continue
        n_deep += 1
        brightest = max(brightest, int(image[..., :3].max() if image.ndim == 3 else image.max()))
        stated = max(stated or 0, significant_bits(content) or 0) or None
    if not n_deep:
        return None
    levels = levels_up_to(brightest, stated)
    if told:
        said = "" if stated is None else f", the files state {stated} bits"
        logger.info(
            "%d images have 16 bits a sample, of which level %d is the brightest%s: 0 to %d become black to white; "
            "--levels LOW,HIGH sets others",
            n_deep, brightest, said, levels[1],
        )  # fmt: skip
    return levels
