"""Cutting a frame of any size into overlapping tiles of one size, and stitching their maps together again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FrameError
from edge_runtime.extras import require

__all__ = ["Tiling", "starts"]

MOST_TILES = 1 << 16
MOST_TILED_PIXELS = 1 << 28
"""Of one frame's tiles: a hundred megapixels, each in two tiles, and some."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tiling:
    """Where the network's inputs lie in the scaled frame; the one input of a stretched frame is a tile too.

    The scaled frame is the region of interest after resizing, before any padding.
    """

    height: int
    """Rows of the scaled frame, pixels."""
    width: int
    """Columns of the scaled frame, pixels."""
    tile_height: int
    tile_width: int
    positions: tuple[tuple[int, int], ...]
    """Top and left of each tile in the scaled frame, row by row. Negative in a letterbox, whose bars come first."""

    @classmethod
    def covering(cls, shape: tuple[int, int], tile: tuple[int, int], overlap: int) -> Tiling:
        """The fewest tiles that cover a scaled frame with at least `overlap` pixels in common, evenly spread.

        shape, tile: height, width. The last tile ends at the frame's edge; a frame smaller than a tile has one that
        starts at its edge and reaches beyond the other. Raises FrameError where they would be too many.
        """
        tops = starts(shape[0], tile[0], overlap)
        lefts = starts(shape[1], tile[1], overlap)
        n_tiles = len(tops) * len(lefts)
        if n_tiles > MOST_TILES or n_tiles * tile[0] * tile[1] > MOST_TILED_PIXELS:
            raise FrameError(
                f"a frame scaled to {shape[0]}x{shape[1]} gives {n_tiles} tiles of {tile[0]}x{tile[1]}, expected at "
                f"most {MOST_TILES}, and {MOST_TILED_PIXELS / 1e6:.0f} megapixels in all; lower scale or overlap"
            )
        return cls(
            height=shape[0],
            width=shape[1],
            tile_height=tile[0],
            tile_width=tile[1],
            positions=tuple((top, left) for top in tops for left in lefts),
        )

    def __len__(self) -> int:
        """Number of tiles, T."""
        return len(self.positions)

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The tiles of a padded frame: (H, W, C) -> (T, tile height, tile width, C), C-contiguous.

        image: the scaled frame, with what its padding adds on each side so that every tile lies within it.
        """
        before = [max(0, -min(firsts)) for firsts in zip(*self.positions, strict=True)]
        return np.stack(
            [
                image[top : top + self.tile_height, left : left + self.tile_width]
                for top, left in ((top + before[0], left + before[1]) for top, left in self.positions)
            ]
        )

    def assemble(self, tiles: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The scaled frame that was cut: (T, tile height, tile width, C) -> (H, W, C); later tiles win in overlaps."""
        frame = np.zeros((self.height, self.width, tiles.shape[3]), dtype=tiles.dtype)
        for index, tile in enumerate(tiles):
            covered, within = self.inside(index)
            frame[covered] = tile[within]
        return frame

    def stitch(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """The tiles' maps as one over the scaled frame: (T, h, w) -> (H, W) float32.

        Maps of lower resolution are enlarged bilinearly. Where tiles overlap, the mean is taken with weights that
        fall linearly to a tile's border: no seam shows, and what a network sees least of, its border, counts least.
        """
        weight = _hat(self.tile_height)[:, None] * _hat(self.tile_width)
        total = np.zeros((self.height, self.width), dtype=np.float32)
        weights = np.zeros_like(total)
        for index, small in enumerate(maps):
            covered, within = self.inside(index)
            total[covered] += (self._enlarged(small) * weight)[within]
            weights[covered] += weight[within]
        stitched: NDArray[np.float32] = total / weights
        return stitched

    def inside(self, index: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """What a tile holds of the frame: its rows and columns in the scaled frame, and the same in the tile."""
        top, left = self.positions[index]
        bottom = min(top + self.tile_height, self.height)
        right = min(left + self.tile_width, self.width)
        first_row, first_column = max(top, 0), max(left, 0)
        covered = slice(first_row, bottom), slice(first_column, right)
        return covered, (slice(first_row - top, bottom - top), slice(first_column - left, right - left))

    def _enlarged(self, small: NDArray[np.float32]) -> NDArray[np.float32]:
        if small.shape == (self.tile_height, self.tile_width):
            return small
        cv2 = require("cv2", extra="camera", purpose="heatmaps")
        enlarged: Any = cv2.resize(small, (self.tile_width, self.tile_height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(enlarged, dtype=np.float32)


def starts(length: int, tile: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the fewest tiles that cover a length, at least `overlap` in common, evenly spread, rounded.

    length, tile: pixels, at least 1; overlap: 0 to tile - 1. The last tile ends at the end; one tile starts at 0
    where the length is not above it.
    """
    if length <= tile:
        return (0,)
    gaps = -(-(length - overlap) // (tile - overlap)) - 1  # one less than the quotient rounded up
    return tuple((2 * index * (length - tile) + gaps) // (2 * gaps) for index in range(gaps + 1))


def _hat(length: int) -> NDArray[np.float32]:
    """Weights 1, 2, ... up to the middle and down again to 1."""
    ramp = np.arange(1, length + 1, dtype=np.float32)
    return np.minimum(ramp, ramp[::-1])
