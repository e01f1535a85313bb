"""Training batches for `patch`: crops of whole self-referenced photographs, half of them with a synthetic defect.

Medians are taken of the whole photograph with the defect in it, as on the device, never of a crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.model.self_reference import MASK, self_referenced
from train.synthesis.defects import DefectKind, SynthesisSettings, draw_defect

__all__ = ["Augmentation", "Batch", "crop", "draw_batch", "varied"]

Photograph = NDArray[np.uint8]
"""(h, w) scaled grey"""

ON_DEFECT_SHARE = 0.95
"""Of the crops of a photograph with a defect: those that are placed on it; the rest may or may not show it."""


class Batch(NamedTuple):
    """What a step of training works on."""

    tiles: Tensor
    """(B, 4, H, W) uint8"""
    masks: Tensor
    """(B, H, W) bool, where the defect is"""
    sources: Tensor
    """(B,) int64, which photograph each tile was cut from"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """How photographs vary from one view to the next."""

    zoom: float = 0.18
    """Sides change by up to this, as a natural logarithm."""
    gain: float = 0.25
    """Brightness changes by up to this, as a natural logarithm."""
    gamma: float = 0.15
    """Exponent of the grey levels changes by up to this, as a natural logarithm."""
    flips: bool = True
    """Left to right and top to bottom, half of the time each."""


def draw_batch(
    photographs: Sequence[Photograph],
    chosen: Sequence[int],
    n_defects: int,
    tile: tuple[int, int],
    kinds: Sequence[DefectKind],
    rng: np.random.Generator,
    *,
    synthesis: SynthesisSettings,
    augmentation: Augmentation,
    ease: float,
    patches: Sequence[int] = (),
) -> Batch:
    """Crops of the chosen photographs, the first n_defects of them with a defect.

    tile: rows and columns; kinds, ease: see draw_defect. patches: photographs that pasted textures come from.
    """
    height, width = tile
    tiles = np.empty((len(chosen), height, width, 4), dtype=np.uint8)
    masks = np.zeros((len(chosen), height, width), dtype=np.bool_)
    sources = [photographs[index] for index in patches]
    for position, index in enumerate(chosen):
        grey = varied(photographs[index], rng, augmentation)
        mask = np.zeros(grey.shape, dtype=np.bool_)
        if position < n_defects:
            defect = draw_defect(grey, sources, kinds, rng, synthesis, ease)
            grey, mask = defect.grey.astype(np.uint8), defect.mask
        tiles[position], masks[position] = crop(self_referenced(grey), mask, tile, rng)
    return Batch(torch.from_numpy(tiles).permute(0, 3, 1, 2), torch.from_numpy(masks), torch.tensor(list(chosen)))


def varied(photograph: Photograph, rng: np.random.Generator, augmentation: Augmentation) -> Photograph:
    """A photograph (h, w) flipped, zoomed and lit differently."""
    if augmentation.flips:
        if rng.random() < 0.5:
            photograph = photograph[:, ::-1]
        if rng.random() < 0.5:
            photograph = photograph[::-1]
    height, width = photograph.shape
    factor = math.exp(rng.uniform(-augmentation.zoom, augmentation.zoom))
    stretch = math.exp(rng.uniform(-augmentation.zoom, augmentation.zoom) / 3.0)
    size = max(8, round(width * factor * stretch)), max(8, round(height * factor / stretch))
    zoomed = cv2.resize(np.ascontiguousarray(photograph), size, interpolation=cv2.INTER_LINEAR)
    gain = math.exp(rng.uniform(-augmentation.gain, augmentation.gain))
    gamma = math.exp(rng.uniform(-augmentation.gamma, augmentation.gamma))
    middle = max(float(photograph.mean()), 1.0)
    levels = middle * gain * (np.arange(256) / middle) ** gamma
    return np.asarray(cv2.LUT(zoomed, np.clip(np.round(levels), 0, 255).astype(np.uint8)), dtype=np.uint8)


def crop(
    channels: NDArray[np.uint8], mask: NDArray[np.bool_], tile: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A tile of a photograph's channels (h, w, 4) and the mask's same part, on the defect where there is one.

    A photograph smaller than a tile is continued as on the device; what is added is not valid.
    """
    missing = [max(0, side - length) for side, length in zip(tile, mask.shape, strict=True)]
    if any(missing):
        rows, columns = mask.shape
        channels = np.pad(channels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        channels[rows:, :, MASK] = 0
        channels[:, columns:, MASK] = 0
        mask = np.pad(mask, ((0, missing[0]), (0, missing[1])))
    room = [length - side for length, side in zip(mask.shape, tile, strict=True)]
    start = [int(rng.integers(most + 1)) for most in room]
    if mask.any() and rng.random() < ON_DEFECT_SHARE:
        pixels = np.argwhere(mask)
        on = pixels[rng.integers(len(pixels))]
        start = [
            int(rng.integers(max(0, place - side + 1), min(most, place) + 1))
            for place, side, most in zip(on, tile, room, strict=True)
        ]
    rows_part, columns_part = (slice(first, first + side) for first, side in zip(start, tile, strict=True))
    return channels[rows_part, columns_part], mask[rows_part, columns_part]
