"""Photographs of any size, scaled, and the tiles that a network reads of them; what a tiled training set holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import DataError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.tiling import Tiling
from train.data.image_store import MemoryStore

__all__ = ["PhotographStore"]


class PhotographStore(MemoryStore):
    """N scaled photographs, each with one of its tiles, the middle one, standing for it where one image is asked for.

    As an ImageStore it holds those N tiles: for contact sheets, samples and the identity of the set.
    """

    def __init__(
        self, photographs: Sequence[NDArray[np.uint8]], preprocess: Preprocess, device: torch.device | None = None
    ) -> None:
        """photographs: (h, w) uint8 each, scaled grey, as Preprocess.scaled gives them. preprocess: with fit tile."""
        if not photographs:
            raise DataError("there is no image to train on")
        self.photographs = list(photographs)
        self.preprocess = preprocess
        super().__init__(np.stack([self._middle(photograph) for photograph in photographs]), device)

    def tiles(self, photograph: NDArray[np.uint8]) -> Tensor:
        """All tiles of a scaled photograph (h, w): (T, C, H, W) uint8, as the detector cuts them."""
        return torch.from_numpy(self.preprocess.tiles_of(photograph[:, :, None], self._tiling(photograph))).permute(
            0, 3, 1, 2
        )

    def batches(self, photographs: Iterator[NDArray[np.uint8]], size: int) -> Iterator[tuple[Tensor, list[int]]]:
        """Tiles of many photographs, about `size` at a time, and how many of them belong to each photograph."""
        parts: list[Tensor] = []
        for photograph in photographs:
            parts.append(self.tiles(photograph))
            if sum(map(len, parts)) >= size:
                yield torch.cat(parts), [len(part) for part in parts]
                parts = []
        if parts:
            yield torch.cat(parts), [len(part) for part in parts]

    def on(self, device: torch.device) -> PhotographStore:
        """The same photographs, their tiles given on another device."""
        return PhotographStore(self.photographs, self.preprocess, device)

    def _tiling(self, photograph: NDArray[np.uint8]) -> Tiling:
        height, width = self.preprocess.height, self.preprocess.width
        return Tiling.covering(photograph.shape, (height, width), self.preprocess.overlap)

    def _middle(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        tiles = self.preprocess.tiles_of(photograph[:, :, None], self._tiling(photograph))
        middle: NDArray[np.uint8] = tiles[len(tiles) // 2]
        return middle
