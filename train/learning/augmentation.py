"""Augmentations that suit inspection: a part lies a little elsewhere, the light is a little other.

Off is what would hide or make defects: erasing, noise, blur, cropping, elastic changes. Flips are off unless asked for,
because a part the wrong way round can be the defect.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from edge_runtime.errors import ConfigError

__all__ = ["AUGMENTATIONS", "AugmentName", "AugmentSettings", "augment"]

AugmentName = Literal["none", "light"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentSettings:
    """How far each training image is changed, anew in every batch; the defaults change nothing."""

    shift_px: int = 0
    """Largest shift to each side, pixels of the network's input; the border's pixels are repeated."""
    gain: float = 0.0
    """Brightness times 1 - gain to 1 + gain."""
    gamma: float = 0.0
    """Brightness to the power of 1 / (1 + gamma) to 1 + gamma."""
    flips: bool = False
    """Left-right and top-bottom, each for half of the images."""

    def __post_init__(self) -> None:
        if self.shift_px < 0:
            raise ConfigError(f"augmentation's shift is {self.shift_px} pixels, expected 0 or more")
        if not 0.0 <= self.gain < 1.0:
            raise ConfigError(f"augmentation's gain is {self.gain}, expected from 0 to below 1")
        if not (math.isfinite(self.gamma) and self.gamma >= 0.0):
            raise ConfigError(f"augmentation's gamma is {self.gamma}, expected 0 or more")


AUGMENTATIONS: dict[AugmentName, AugmentSettings] = {
    "none": AugmentSettings(),
    # What a good fixture and a warm lamp leave: 2 of 128 pixels, a tenth of the light.
    "light": AugmentSettings(shift_px=2, gain=0.1, gamma=0.1),
}


def augment(
    x: Tensor,
    generator: Generator,
    settings: AugmentSettings,
    n_drawn: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """The images, each flipped, shifted and lit at random.

    x: (B, C, H, W) float in [0, 1]; the same shape, range and device comes back. generator: on the CPU, so that all
    devices see the same draws; what is off draws nothing. n_drawn, share: x is this part of a batch of n_drawn images
    that several processes share, all of whom draw for the whole of it.
    """
    n_images, _, height, width = x.shape
    n_drawn = n_images if n_drawn is None else n_drawn
    rows = torch.arange(height).expand(n_images, height)
    columns = torch.arange(width).expand(n_images, width)
    if settings.flips:
        flipped = torch.rand(n_drawn, 2, generator=generator)[share] < 0.5
        rows = torch.where(flipped[:, :1], height - 1 - rows, rows)
        columns = torch.where(flipped[:, 1:], width - 1 - columns, columns)
    if settings.shift_px:
        reach = settings.shift_px
        shifts = torch.randint(-reach, reach + 1, (n_drawn, 2), generator=generator)[share]
        # Positions are shifted and held at the border before the flip above is looked up through them.
        rows = rows.gather(1, (torch.arange(height) + shifts[:, :1]).clamp(0, height - 1))
        columns = columns.gather(1, (torch.arange(width) + shifts[:, 1:]).clamp(0, width - 1))
    if settings.flips or settings.shift_px:
        images = torch.arange(n_images, device=x.device)[:, None, None]
        moved = x[images, :, rows.to(x.device)[:, :, None], columns.to(x.device)[:, None, :]]  # (B, H, W, C)
        x = moved.permute(0, 3, 1, 2)
    if settings.gamma:
        spread = math.log1p(settings.gamma)
        x = x.pow(_between(-spread, spread, n_drawn, generator)[share].exp().to(x))
    if settings.gain:
        gains = _between(1.0 - settings.gain, 1.0 + settings.gain, n_drawn, generator)[share]
        x = (x * gains.to(x)).clamp(0.0, 1.0)
    return x


def _between(low: float, high: float, n: int, generator: Generator) -> Tensor:
    """(n, 1, 1, 1) even draws."""
    return low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)
