"""The head of `features`: a map of defects out of a backbone's fine taps, learnt from synthetic ones.

What is usual at a site says nothing where photographs differ from each other there, as circuit boards and textures do.
There the shapes of defects have to be known. DRAEM (Zavrtanik et al. 2021, arXiv 2108.07610) learns them from synthetic
ones on pixels; here the features are a pretrained trunk's, frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, max_pool2d

from train.heads.patch_head import conv_layer

__all__ = ["CELL", "StructureHead"]

CELL = 4
"""Pixels along the side of a cell of the map."""
UNITS = 32
RARE = -3.0
"""Log odds of a defect in a cell before anything is learnt."""
LEAST_SPREAD = 0.05
"""Of the highest cells over photographs, in log odds."""
LEAST_DEVIATION = 1e-3
"""Of a channel."""
LOWER_QUANTILE = 0.16


class StructureHead(nn.Module):
    """Fine taps (strides up to 4, and 8) to log odds of a defect in each cell, and to one number for the image."""

    usual: Tensor
    """(2,) median over photographs of their highest cells, and its distance from a lower quantile"""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        """channels, strides: of the fine taps."""
        super().__init__()
        self.strides = tuple(strides)
        n_cells = sum(
            n * (2 if stride < CELL else 1) for n, stride in zip(channels, strides, strict=True) if stride <= CELL
        )
        n_coarse = sum(n for n, stride in zip(channels, strides, strict=True) if stride > CELL)
        self.standard_cells = ChannelStandard(n_cells)
        self.standard_coarse = ChannelStandard(n_coarse)
        self.cells = nn.Conv2d(n_cells, UNITS, 1)
        self.coarse = nn.Conv2d(n_coarse, UNITS, 1)
        self.around = nn.Sequential(
            nn.ReLU(),
            *conv_layer(UNITS, UNITS, stride=2),
            *conv_layer(UNITS, UNITS),
            nn.Upsample(scale_factor=2, mode="bilinear"),
        )
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.joined = nn.Sequential(
            nn.ReLU(), *conv_layer(2 * UNITS, UNITS), *conv_layer(UNITS, UNITS), nn.Conv2d(UNITS, 1, 1)
        )
        self.set_rare()
        self.register_buffer("usual", torch.tensor([0.0, 1.0]))

    def set_rare(self) -> None:
        """Have fresh weights say that defects are rare."""
        last = self.joined[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.constant_(last.bias, RARE)

    def gathered(self, taps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fine taps put together: (B, c, H/4, W/4) and (B, c', H/8, W/8)."""
        cells, coarse = [], []
        for tap, stride in zip(taps, self.strides, strict=True):
            if stride > CELL:
                coarse.append(tap)
            elif stride == CELL:
                cells.append(tap)
            else:
                step = CELL // stride
                cells += [avg_pool2d(tap, step), max_pool2d(tap, step)]
        return torch.cat(cells, dim=1), torch.cat(coarse, dim=1)

    def forward(self, cells: Tensor, coarse: Tensor) -> Tensor:
        """Log odds of a defect (B, H/4, W/4), of what `gathered` gave."""
        fine = self.cells(self.standard_cells(cells))
        deep = self.coarse(self.standard_coarse(coarse))
        deep = self.up(deep + self.around(deep))
        logits: Tensor = self.joined(torch.cat((fine, deep), dim=1))
        return logits[:, 0]

    def outstanding(self, logits: Tensor) -> Tensor:
        """Each cell's log odds, with its neighbours', in spreads above what the highest of an image usually are."""
        smooth = avg_pool2d(logits[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
        return (smooth - self.usual[0]) / self.usual[1]

    def fit_channels(self, cells: Tensor, coarse: Tensor) -> None:
        """Learn by what channels are standardised, from what `gathered` gave of photographs."""
        self.standard_cells.fit(cells)
        self.standard_coarse.fit(coarse)

    def fit_usual(self, highest: Tensor) -> None:
        """Learn what is usual from the numbers (N,) that `outstanding` led to while (0, 1) was usual."""
        middle = highest.median()
        spread = (middle - highest.quantile(LOWER_QUANTILE)).clamp(min=LEAST_SPREAD)
        self.usual.copy_(torch.stack((middle, spread)))


class ChannelStandard(nn.Module):
    """Channels by their own mean and deviation over photographs."""

    statistics: Tensor
    """(2, c, 1, 1) mean, and one over the deviation"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("statistics", torch.stack((torch.zeros(channels, 1, 1), torch.ones(channels, 1, 1))))

    def fit(self, maps: Tensor) -> None:
        """maps: (B, c, h, w)."""
        mean = maps.mean(dim=(0, 2, 3))
        deviation = maps.std(dim=(0, 2, 3)) + LEAST_DEVIATION
        self.statistics.copy_(torch.stack((mean, 1.0 / deviation))[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w), each channel about mean 0 and deviation 1."""
        return (x - self.statistics[0]) * self.statistics[1]
