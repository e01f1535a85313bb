"""Losses that compare structure where pixel errors see brightness alone: gradients at several scales.

Called by patch_network.py, in training and in the exported graph: plain operators only.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

__all__ = ["gradient_dissimilarity", "multi_scale_dissimilarity", "valid_blocks"]

SCALES = 3
"""Full, half and quarter resolution."""
STABILITY = 0.0026
"""c of Xue et al. 2014, arXiv 1308.3052: 170 for images of 0..255, over 255 squared."""
ROOT_EPSILON = 1e-6
"""Under the root of the gradient's square, whose slope is infinite at zero. Exporters drop a term of 1e-8."""


def gradient_dissimilarity(x: Tensor, x_hat: Tensor) -> Tensor:
    """1 - gradient magnitude similarity of each pixel but the outermost, Xue et al. 2014, arXiv 1308.3052, eq. 4.

    x, x_hat: (B, 1, H, W) in [0, 1]. Returns (B, 1, H - 2, W - 2), 0 to 1, higher = less alike.
    """
    first, second = _magnitude(x), _magnitude(x_hat)
    similarity = (2.0 * first * second + STABILITY) / (first.square() + second.square() + STABILITY)
    return 1.0 - similarity


def multi_scale_dissimilarity(x: Tensor, x_hat: Tensor, valid: Tensor) -> list[Tensor]:
    """gradient_dissimilarity at each of SCALES, after Zavrtanik et al. 2021 (RIAD), times what is valid there.

    x, x_hat, valid: (B, 1, H, W), sides multiples of four. Padding has no structure to compare: where any of the
    pixels that a gradient reads is not valid, the value is 0. For each scale s: (B, 1, H / 2^s - 2, W / 2^s - 2).
    """
    found = []
    for scale in range(SCALES):
        if scale:
            x, x_hat, valid = avg_pool2d(x, 2), avg_pool2d(x_hat, 2), valid_blocks(valid)
        rows = valid[:, :, :-2] * valid[:, :, 1:-1] * valid[:, :, 2:]
        surrounded = rows[..., :-2] * rows[..., 1:-1] * rows[..., 2:]
        found.append(gradient_dissimilarity(x, x_hat) * surrounded)
    return found


def valid_blocks(valid: Tensor) -> Tensor:
    """1 for each block of 2x2 whose pixels are all valid: (..., H, W) of 0 and 1 -> (..., H / 2, W / 2).

    A product: ten times faster on a CPU than pooling, which is made for many channels.
    """
    rows = valid[..., ::2, :] * valid[..., 1::2, :]
    return rows[..., ::2] * rows[..., 1::2]


def _magnitude(x: Tensor) -> Tensor:
    """Length of the Prewitt gradient."""
    across = x.new_tensor([[1.0, 0.0, -1.0]] * 3)[None, None] / 3.0
    both = torch.cat((across, across.transpose(2, 3)))  # (2, 1, 3, 3)
    return (conv2d(x, both).square().sum(dim=1, keepdim=True) + ROOT_EPSILON).sqrt()
