"""What of a camera's frame counts where the camera stands: a region of interest and a mask.

What is masked cannot move the score: its pixels are replaced before the network sees them, by what the bundle's own
samples show at that place of the network's input, or, where the input has a valid mask of its own (self_reference),
by padding as in training. Scores of masked frames have a distribution of their own: calibrate with the mask.
"""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, FrameError
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.self_reference import BARS
from edge_runtime.model.tiling import Tiling

__all__ = ["WHOLE_FRAME", "Masking", "View", "read_seen_mask"]

logger = logging.getLogger(__name__)

Mask = NDArray[np.bool_]

LEAST_SEEN = 128
"""Grey levels of a mask image from here on count; below, a pixel is left out."""

SEEN = 255

GREY = (64, 192)
"""Levels neither near black nor near white"""

MANY_GREYS, MANY_PIXELS = 8, 0.05
"""So many of these levels, and such a share of the pixels, are a photograph's: a mask has a few at smoothed edges"""

MOST_PIXELS = 1 << 30
"""Of a mask; OpenCV decodes no larger image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Region and mask, in pixels of the whole frame."""

    roi: tuple[int, int, int, int] | None = None
    """x, y, width, height, cut out first; None leaves it at the bundle's"""
    mask: Mask | None = None
    """(H, W), False where a pixel is left out; None leaves out none"""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, View):
            return NotImplemented
        same = self.mask is other.mask or (
            self.mask is not None and other.mask is not None and np.array_equal(self.mask, other.mask)
        )
        return self.roi == other.roi and same

    def __hash__(self) -> int:
        return hash((self.roi, None if self.mask is None else self.mask.tobytes()))

    def __bool__(self) -> bool:
        return self.roi is not None or self.mask is not None

    def __str__(self) -> str:
        if not self:
            return "the whole frame"
        parts = [] if self.roi is None else ["region " + ",".join(map(str, self.roi))]
        if self.mask is not None:
            rows, columns = self.mask.shape
            parts.append(f"a mask of {columns}x{rows} that leaves out {1.0 - self.mask.mean():.1%}")
        return " and ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the mask as base64 of its zlib-compressed bits."""
        packed = None
        if self.mask is not None:
            bits = zlib.compress(np.packbits(self.mask).tobytes(), 9)
            packed = {"shape": list(self.mask.shape), "bits": base64.b64encode(bits).decode("ascii")}
        return {"roi": None if self.roi is None else list(self.roi), "mask": packed}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> View:
        """Read back; raises ValueError, KeyError or TypeError for anything that to_json would not write."""
        roi, packed = values["roi"], values["mask"]
        mask: Mask | None = None
        if packed is not None:
            rows, columns = (int(number) for number in packed["shape"])
            if min(rows, columns) < 1 or rows * columns > MOST_PIXELS:
                raise ValueError(f"its mask has {rows} rows and {columns} columns")
            try:
                n_bytes = (rows * columns + 7) // 8
                bits = zlib.decompressobj().decompress(base64.b64decode(packed["bits"], validate=True), n_bytes)
            except zlib.error as error:
                raise ValueError(f"its mask is damaged: {error}") from error
            if len(bits) != n_bytes:
                raise ValueError(f"its mask has {len(bits)} bytes, expected {n_bytes}")
            flags = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=rows * columns)
            mask = flags.reshape(rows, columns).astype(np.bool_)
        return cls(roi=None if roi is None else _four(*map(int, roi)), mask=mask)


WHOLE_FRAME = View()


def _four(x: int, y: int, width: int, height: int) -> tuple[int, int, int, int]:
    return x, y, width, height


def read_seen_mask(path: Path) -> Mask:
    """(H, W) from an image: dark pixels (grey below 128) are left out. A photograph is warned of. Raises DataError,
    ConfigError."""
    image = read_image(path)
    levels = image if image.ndim == 2 else image.max(axis=2)
    seen: Mask = levels >= LEAST_SEEN
    if not seen.any():
        raise ConfigError(f"{path} is dark everywhere and leaves nothing of the frame; what counts must be white")
    if seen.all():
        raise ConfigError(f"{path} is bright everywhere and leaves nothing out; paint what does not count black")
    between = np.bincount(levels.ravel(), minlength=256)[slice(*GREY)]
    if np.count_nonzero(between) >= MANY_GREYS and between.sum() >= MANY_PIXELS * levels.size:
        logger.warning(
            "%s has many grey levels, expected black and white alone; is it the mask? What is darker than %d is "
            "left out, %.0f%% of it",
            path,
            LEAST_SEEN,
            100.0 * (1.0 - seen.mean()),
        )
    return seen


class Masking:
    """One mask, made ready for one preprocessing: the network's inputs of a frame without what is left out."""

    def __init__(self, preprocess: Preprocess, mask: Mask, usual: Frame) -> None:
        """usual: (height, width, channels) uint8, what stands for masked pixels; not used with self_reference.

        Raises ConfigError where the region of interest leaves the mask, or is masked altogether.
        """
        self._preprocess = preprocess
        self.mask = mask
        self._self_referenced = preprocess.self_reference != "none"
        self._usual = np.array(BARS, dtype=np.uint8) if self._self_referenced else usual
        try:
            scaled = replace(preprocess, channels=1).scaled(np.where(mask, SEEN, 0).astype(np.uint8))
        except FrameError as error:
            raise ConfigError(f"the mask does not fit: {error}") from error
        # A pixel of the network's input counts where every pixel of the frame it is made of does.
        self._seen = scaled[:, :, 0] == SEEN
        # One network input a tile, in which padding is left to the network, and bars are bars.
        plain = replace(preprocess, channels=1, self_reference="none")
        self.tiling = preprocess.tiling(mask.shape)
        content = plain.tiles_of(np.where(self._seen, SEEN, 0).astype(np.uint8)[:, :, None], self.tiling)
        self._hidden = content == 0  # (T, height, width, 1)
        inside = np.zeros(self._hidden.shape[:3], dtype=np.bool_)
        for index in range(len(self.tiling)):
            inside[index][self.tiling.inside(index)[1]] = True
        self.scored = np.flatnonzero((inside & ~self._hidden[:, :, :, 0]).any(axis=(1, 2)))
        """(S,) the tiles of which anything is seen"""
        if len(self.scored) == 0:
            raise ConfigError("the mask leaves nothing of the region of interest; expected some of it white")
        # Half of a column's masked pixels above and half below everything: its median is that of the others.
        self._balanced = (np.indices(self._seen.shape).sum(axis=0) % 2 * SEEN).astype(np.uint8)[:, :, None]

    def tiles(self, frame: Frame) -> tuple[Frame, Tiling]:
        """As Preprocess.tiles, with the `scored` tiles alone: (S, height, width, channels), and all tiles' places."""
        if frame.shape[:2] != self.mask.shape:
            rows, columns = self.mask.shape
            raise FrameError(
                f"frame has {frame.shape[0]} rows and {frame.shape[1]} columns, the mask {rows} and {columns}; "
                "make the mask from a frame of this camera, in the size it gives"
            )
        seen = self.mask if frame.ndim == 2 else self.mask[:, :, None]
        scaled = self._preprocess.scaled(np.where(seen, frame, 0).astype(np.uint8, copy=False))
        if self._self_referenced:
            scaled = np.where(self._seen[:, :, None], scaled, self._balanced)
        tiles = self._preprocess.tiles_of(scaled, self.tiling)[self.scored]
        return np.where(self._hidden[self.scored], self._usual, tiles), self.tiling
