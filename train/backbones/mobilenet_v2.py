"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), with torchvision's names of tensors."""

from __future__ import annotations

from torch import nn

from train.backbones.normalisation import IMAGENET
from train.backbones.trunk import Architecture, FoldedConv2d, InvertedResidual

__all__ = ["MOBILENET_V2"]

EPS = 1e-5
STEM_CHANNELS, LAST_CHANNELS = 32, 1280
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels and number of the blocks of each stage, and the stride of the first: table 2 of the paper."""


def _layers() -> tuple[nn.Module, list[nn.Module]]:
    stem = nn.Sequential(_conv(3, STEM_CHANNELS, 3, "features.0.0", "features.0.1", stride=2), nn.ReLU6())
    blocks: list[nn.Module] = []
    channels = STEM_CHANNELS
    for expansion, out, repeats, stride in STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            wide, name = channels * expansion, f"features.{len(blocks) + 1}.conv"
            at = 1 if expansion > 1 else 0
            block = InvertedResidual(
                _conv(channels, wide, 1, f"{name}.0.0", f"{name}.0.1") if expansion > 1 else None,
                _conv(wide, wide, 3, f"{name}.{at}.0", f"{name}.{at}.1", stride=step, groups=wide),
                _conv(wide, out, 1, f"{name}.{at + 1}", f"{name}.{at + 2}"),
            )
            blocks.append(block)
            channels = out
    name = f"features.{len(blocks) + 1}"
    blocks.append(nn.Sequential(_conv(channels, LAST_CHANNELS, 1, f"{name}.0", f"{name}.1"), nn.ReLU6()))
    return stem, blocks


def _conv(
    channels: int, out: int, kernel: int, conv: str, norm: str, *, stride: int = 1, groups: int = 1
) -> FoldedConv2d:
    padding = kernel // 2
    return FoldedConv2d(
        channels, out, kernel, conv=conv, norm=norm, eps=EPS, stride=stride, groups=groups, padding=padding
    )


MOBILENET_V2 = Architecture(
    name="mobilenet-v2",
    layers=_layers,
    first_block=1,
    taps=(6, 13),
    fine_taps=(1, 3, 6),
    head=("classifier.",),
    normalisation=IMAGENET,
)
