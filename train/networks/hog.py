"""Histograms of oriented gradients as fixed, traceable operations: channels that a network reads and reconstructs.

After Dalal and Triggs 2005, without block normalisation, on operators that TensorRT's ONNX parser takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

__all__ = ["BINS", "OrientedGradients", "cell_histograms", "grey"]

BINS = 8
"""Orientations over the full circle: dark-to-light and light-to-dark edges differ."""

MAGNITUDE_EPSILON = 1e-12
"""Under the root of the squared gradient, whose slope is infinite where an image is flat."""
HISTOGRAM_EPSILON = 1e-6
"""Under the root of a histogram's entry; a thousandth of one grey level's step in one pixel."""

GREY_WEIGHTS = (0.114, 0.587, 0.299)
"""Of blue, green and red: ITU-R BT.601, as OpenCV's BGR2GRAY has them."""


def grey(x: Tensor) -> Tensor:
    """(B, 1, H, W) luminance of (B, 1, H, W) grey or (B, 3, H, W) BGR images."""
    if x.shape[1] == 1:
        return x
    blue, green, red = GREY_WEIGHTS
    return blue * x[:, 0:1] + green * x[:, 1:2] + red * x[:, 2:3]


class OrientedGradients(nn.Module):
    """Gradient magnitude shared out over orientations: (B, 1, H, W) in [0, 1] -> (B, BINS, H, W), >= 0.

    Central differences, zero at the border. Each bin takes the part of the gradient that points at most 45 degrees
    away from its direction, falling from all to nothing: with eight bins, two neighbours share each gradient.
    """

    def forward(self, x: Tensor) -> Tensor:
        """The oriented magnitudes of each pixel."""
        dx = pad(x[..., :, 2:] - x[..., :, :-2], (1, 1, 0, 0))
        dy = pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
        magnitude = (dx * dx + dy * dy + MAGNITUDE_EPSILON).sqrt()
        edge = math.cos(2.0 * math.pi / BINS)
        shares = [
            torch.relu(math.cos(angle) * dx + math.sin(angle) * dy - edge * magnitude) / (1.0 - edge)
            for angle in (2.0 * math.pi * index / BINS for index in range(BINS))
        ]
        return torch.cat(shares, dim=1)


def cell_histograms(oriented: Tensor, cell: tuple[int, int]) -> Tensor:
    """Square roots of the sums over cells: (B, BINS, H, W) -> (B, BINS * H/ch * W/cw).

    cell: (ch, cw) pixels; sides are multiples of it. The root makes a strong edge count less than its contrast.
    """
    ch, cw = cell
    histograms = avg_pool2d(oriented, (ch, cw)) * float(ch * cw)
    return (histograms + HISTOGRAM_EPSILON).sqrt().flatten(1)
