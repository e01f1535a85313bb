"""The head of `patch`: a map of defects out of the encoder's features, and the one number that a tile is judged by."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pixel_shuffle

__all__ = ["BLOCK", "DefectHead", "conv_layer", "pooled_tops", "top_mean"]

TOP_SHARES = (0.001, 0.01, 0.03, 0.1, 0.3)
"""Of a tile's blocks, highest first, over which the map is averaged: no one share suits a pinhole and a large stain."""
LEAST_SPREAD = 0.01
"""Of a pooled top over normal photographs, in log odds."""
BLOCK = 4
"""Pixels along the side of a block of the map, of which the highest cell counts."""
MOST_SORTED = 3840
"""Elements that TensorRT's TopK takes at the most; larger maps are reduced to the highest of 2x2 until they fit."""


class DefectHead(nn.Module):
    """Shared features to a map of defects and one number for the tile."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        _, quarter, eighth, sixteenth = widths
        self.sixteenth = nn.Sequential(*conv_layer(eighth, sixteenth, stride=2), *conv_layer(sixteenth, sixteenth))
        self.context = nn.Conv2d(sixteenth, sixteenth, 1)
        self.joined_eighth = nn.Sequential(*conv_layer(sixteenth + eighth, eighth))
        self.narrowed = nn.Sequential(*conv_layer(eighth, quarter, kernel=1))
        self.joined_quarter = nn.Sequential(*conv_layer(2 * quarter, quarter), *conv_layer(quarter, quarter))
        self.to_map = nn.Conv2d(quarter, 4, 1)
        if self.to_map.bias is not None:
            nn.init.constant_(self.to_map.bias, -3.0)  # defects are rare
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.pooling = nn.Parameter(torch.tensor([[1.0] * len(TOP_SHARES), [0.0] * len(TOP_SHARES)]))
        self.register_buffer("usual", torch.tensor([[0.0] * len(TOP_SHARES), [1.0] * len(TOP_SHARES)]))

    usual: Tensor
    """(2, S) median and standard deviation of each pooled top over photographs without a known defect"""

    def forward(self, quarter: Tensor, eighth: Tensor) -> Tensor:
        """Log odds of a defect, (B, H/2, W/2)."""
        deep = self.sixteenth(eighth)
        # The tile as a whole is what a large pale area differs from.
        deep = deep + self.context(deep.mean(dim=(2, 3), keepdim=True))
        joined = self.joined_eighth(torch.cat((self.up(deep), eighth), dim=1))
        joined = self.joined_quarter(torch.cat((self.up(self.narrowed(joined)), quarter), dim=1))
        return pixel_shuffle(self.to_map(joined), 2)[:, 0]

    def whole(self, logits: Tensor) -> Tensor:
        """Log odds (B,) that there is a defect anywhere in the map (B, H/2, W/2), for training.

        The sum of the odds that each pooled top gives, slope and offset learnt: a defect shows in one of them.
        """
        slopes, offsets = self.pooling
        return (pooled_tops(logits) * slopes.abs() + offsets).logsumexp(dim=1)

    def fit_usual(self, tops: Tensor) -> None:
        """Learn what is usual from the pooled tops of photographs (N, S), the largest over each one's tiles."""
        middle, spread = tops.median(dim=0).values, tops.std(dim=0, correction=0).clamp(min=LEAST_SPREAD)
        self.usual.copy_(torch.stack((middle, spread)))

    def most_outstanding(self, logits: Tensor) -> Tensor:
        """The pooled top (B,) of a map (B, H/2, W/2) that lies furthest above what is usual, in standard deviations.

        What the tile is judged by: the odds of `whole` are learnt on synthetic defects and their sizes.
        """
        middle, spread = self.usual
        return ((pooled_tops(logits) - middle) / spread).amax(dim=1)


def pooled_tops(logits: Tensor) -> Tensor:
    """Means over the highest TOP_SHARES of blocks of a map (B, H/2, W/2): (B, S)."""
    blocks = max_pool2d(logits[:, None], BLOCK // 2)[:, 0]
    return torch.stack([top_mean(blocks, share) for share in TOP_SHARES], dim=1)


def top_mean(values: Tensor, share: float) -> Tensor:
    """Mean over the highest share of each map, at least one value: (B, h, w) -> (B,)."""
    while values.shape[1] * values.shape[2] > MOST_SORTED:
        values = max_pool2d(values[:, None], 2)[:, 0]
    flat = values.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(dim=1)


def conv_layer(n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution, normalised and rectified; with the padding that keeps the size at stride 1 and odd kernels."""
    return [
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    ]
