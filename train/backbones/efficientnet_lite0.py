"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, for integer arithmetic.

Tan and Le 2019 (arXiv 1905.11946); Lite: tensorflow/tpu, models/official/efficientnet/lite. Names of tensors are those
of lukemelas/EfficientNet-PyTorch, which the shipped weights have.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import pad

from train.backbones.normalisation import Normalisation
from train.backbones.trunk import Architecture, FoldedConv2d, InvertedResidual

__all__ = ["EFFICIENTNET_LITE0", "SameConv2d"]

EPS = 1e-3
"""Of every batch normalisation, as TensorFlow has it; PyTorch's default is 1e-5."""

STEM_CHANNELS = 32
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""Expansion, kernel, stride of the first, channels and number of the blocks of each stage."""


class SameConv2d(FoldedConv2d):
    """A convolution that pads as TensorFlow's SAME does: where stride 2 leaves an odd pixel, it stands below and right.

    An even padding is the convolution's own; only an uneven one becomes an operator before it.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, ceil(H / stride), ceil(W / stride))."""
        height, width = x.shape[-2:]
        vertical, horizontal = self._padding(height), self._padding(width)
        if vertical % 2 or horizontal % 2:
            left, top = horizontal // 2, vertical // 2
            x = pad(x, (left, horizontal - left, top, vertical - top))
            return nn.functional.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        around = (vertical // 2, horizontal // 2)
        return nn.functional.conv2d(x, self.weight, self.bias, self.stride, around, groups=self.groups)

    def _padding(self, side: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        return max(0, (-(-side // stride) - 1) * stride + kernel - side)


def _layers() -> tuple[nn.Module, list[nn.Module]]:
    stem = nn.Sequential(_conv(3, STEM_CHANNELS, 3, "_conv_stem", "_bn0", stride=2), nn.ReLU6())
    blocks: list[nn.Module] = []
    channels = STEM_CHANNELS
    for expansion, kernel, stride, out, repeats in STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            wide, name = channels * expansion, f"_blocks.{len(blocks)}"
            block = InvertedResidual(
                _conv(channels, wide, 1, f"{name}._expand_conv", f"{name}._bn0") if expansion > 1 else None,
                _conv(wide, wide, kernel, f"{name}._depthwise_conv", f"{name}._bn1", stride=step, groups=wide),
                _conv(wide, out, 1, f"{name}._project_conv", f"{name}._bn2"),
            )
            blocks.append(block)
            channels = out
    return stem, blocks


def _conv(
    channels: int, out: int, kernel: int, conv: str, norm: str, *, stride: int = 1, groups: int = 1
) -> SameConv2d:
    return SameConv2d(channels, out, kernel, conv=conv, norm=norm, eps=EPS, stride=stride, groups=groups)


EFFICIENTNET_LITE0 = Architecture(
    name="efficientnet-lite0",
    layers=_layers,
    first_block=0,
    taps=(4, 10),
    fine_taps=(0, 2, 4),
    head=("_conv_head.", "_bn1.", "_fc."),
    normalisation=Normalisation(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), range=255),
)
