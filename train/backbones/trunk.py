"""Trunks that this repository defines: blocks in a row, taps among them, batch normalisation folded while loading.

A definition has no batch normalisation of its own, so nothing in it differs between training and evaluation, and every
runtime is spared the layers. Its convolutions know under which names a checkpoint holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from edge_runtime.errors import ConfigError
from train.backbones.normalisation import Normalisation

__all__ = [
    "Architecture",
    "FoldedConv2d",
    "InvertedResidual",
    "Trunk",
    "checkpoint_shapes",
    "empty_trunk",
    "folded_weights",
]

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


class FoldedConv2d(nn.Conv2d):
    """A convolution that holds the batch normalisation behind it in its weights and bias."""

    def __init__(self, channels: int, out: int, size: int, *, conv: str, norm: str, eps: float, **options: Any) -> None:
        """conv, norm: names of both layers in a checkpoint; eps: the normalisation's; options: nn.Conv2d's."""
        super().__init__(channels, out, size, **options)
        self.conv, self.norm, self.eps = conv, norm, eps


class Trunk(nn.Module):
    """A frozen network up to its deepest tap: features of several strides in one pass."""

    def __init__(
        self, stem: nn.Module, blocks: Sequence[nn.Module], taps: Sequence[int], fine_taps: Sequence[int] = ()
    ) -> None:
        """taps, fine_taps: places in `blocks`, ascending; of the fine ones those above the last tap are left out."""
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleList(blocks[: taps[-1] + 1])
        self.taps = tuple(taps)
        self.fine_taps = tuple(tap for tap in fine_taps if tap <= taps[-1])
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One (B, c, h, w) a tap, for normalised x (B, 3, H, W)."""
        return self.read(x, self.taps)

    def read(self, x: Tensor, taps: Sequence[int]) -> list[Tensor]:
        """One (B, c, h, w) for each place in `blocks`, for normalised x (B, 3, H, W); blocks behind them do not run."""
        features = {}
        x = self.stem(x)
        for index, block in enumerate(self.blocks[: max(taps) + 1]):
            x = block(x)
            if index in taps:
                features[index] = x
        return [features[tap] for tap in taps]


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where the shape stays (arXiv 1801.04381)."""

    def __init__(self, expand: nn.Conv2d | None, depthwise: nn.Conv2d, project: nn.Conv2d) -> None:
        super().__init__()
        widened = [] if expand is None else [expand, nn.ReLU6()]
        self.layers = nn.Sequential(*widened, depthwise, nn.ReLU6(), project)
        channels = (expand or depthwise).in_channels
        self.is_residual = depthwise.stride[0] == 1 and channels == project.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(B, out, ceil(H / stride), ceil(W / stride))."""
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """A network that weights can be given for."""

    name: str
    layers: Callable[[], tuple[nn.Module, list[nn.Module]]]
    """Makes the stem and all blocks"""
    first_block: int
    """What the network's own naming calls the first of them"""
    taps: tuple[int, ...]
    """Default taps, in the network's own naming"""
    fine_taps: tuple[int, ...]
    """Of strides 2, 4 and 8, in the network's own naming: where structure stands that deeper taps have averaged over"""
    head: tuple[str, ...]
    """How names of tensors begin that come after the last block: a checkpoint may hold them, and they are not read"""
    normalisation: Normalisation


def empty_trunk(architecture: Architecture, taps: Sequence[int] | None = None) -> Trunk:
    """The trunk up to its deepest tap, without memory for weights: load_state_dict with assign=True gives them.

    taps: in the architecture's own naming; None taps the last block. Raises ConfigError where they name no blocks or
    do not ascend.
    """
    with torch.device("meta"):
        stem, blocks = architecture.layers()
    first, last = architecture.first_block, architecture.first_block + len(blocks) - 1
    chosen = [last] if taps is None else list(taps)
    if not chosen or chosen != sorted(set(chosen)) or chosen[0] < first or chosen[-1] > last:
        raise ConfigError(
            f"taps of {architecture.name} are {tuple(chosen)}, expected numbers of blocks from {first} to {last}, "
            "each above the one before"
        )
    fine_taps = [tap - first for tap in architecture.fine_taps]
    return Trunk(stem, blocks, [tap - first for tap in chosen], fine_taps)


def checkpoint_shapes(trunk: Trunk) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a checkpoint must hold for a trunk."""
    shapes: dict[str, tuple[int, ...]] = {}
    for _, layer in _folded(trunk):
        shapes[f"{layer.conv}.weight"] = tuple(layer.weight.shape)
        shapes.update({f"{layer.norm}.{name}": (layer.out_channels,) for name in NORM_TENSORS})
    return shapes


def folded_weights(trunk: Trunk, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's own state from a checkpoint that has every tensor of `checkpoint_shapes`; float32, contiguous."""
    state = {}
    for path, layer in _folded(trunk):
        weight, bias = fuse_conv_bn_weights(
            checkpoint[f"{layer.conv}.weight"].double(),
            None,
            bn_rm=checkpoint[f"{layer.norm}.running_mean"].double(),
            bn_rv=checkpoint[f"{layer.norm}.running_var"].double(),
            bn_eps=layer.eps,
            bn_w=checkpoint[f"{layer.norm}.weight"].double(),
            bn_b=checkpoint[f"{layer.norm}.bias"].double(),
        )
        state[f"{path}.weight"] = weight.detach().float().contiguous()
        state[f"{path}.bias"] = bias.detach().float().contiguous()
    return state


def _folded(trunk: Trunk) -> Iterator[tuple[str, FoldedConv2d]]:
    return ((path, module) for path, module in trunk.named_modules() if isinstance(module, FoldedConv2d))
