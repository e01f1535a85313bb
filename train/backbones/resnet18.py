"""ResNet18 (He et al. 2015, arXiv 1512.03385), with torchvision's names of tensors."""

from __future__ import annotations

from torch import Tensor, nn

from train.backbones.normalisation import IMAGENET
from train.backbones.trunk import Architecture, FoldedConv2d

__all__ = ["RESNET18"]

EPS = 1e-5
STEM_CHANNELS = 64
LAYERS = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels and stride of the two blocks of each layer."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, added to the input, or to its 1x1 projection where the shape changes."""

    def __init__(self, name: str, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _conv(channels, out, 3, f"{name}.conv1", f"{name}.bn1", stride=stride),
            nn.ReLU(),
            _conv(out, out, 3, f"{name}.conv2", f"{name}.bn2"),
        )
        self.projection: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.projection = _conv(channels, out, 1, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.layers(x) + self.projection(x)
        return y.relu()


def _layers() -> tuple[nn.Module, list[nn.Module]]:
    stem = nn.Sequential(
        _conv(3, STEM_CHANNELS, 7, "conv1", "bn1", stride=2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)
    )
    blocks: list[nn.Module] = []
    channels = STEM_CHANNELS
    for number, (out, stride) in enumerate(LAYERS, start=1):
        first = BasicBlock(f"layer{number}.0", channels, out, stride)
        blocks.append(nn.Sequential(first, BasicBlock(f"layer{number}.1", out, out, 1)))
        channels = out
    return stem, blocks


def _conv(channels: int, out: int, kernel: int, conv: str, norm: str, *, stride: int = 1) -> FoldedConv2d:
    return FoldedConv2d(channels, out, kernel, conv=conv, norm=norm, eps=EPS, stride=stride, padding=kernel // 2)


RESNET18 = Architecture(
    name="resnet18",
    layers=_layers,
    first_block=1,
    taps=(1, 2, 3),
    fine_taps=(1, 2),
    head=("fc.",),
    normalisation=IMAGENET,
)
