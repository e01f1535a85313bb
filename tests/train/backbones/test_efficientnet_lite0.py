"""EfficientNet-Lite0: padding, architecture, and the features that the shipped weights give."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, pad

from train.backbones.checkpoint import trunk_from_checkpoint
from train.backbones.efficientnet_lite0 import EFFICIENTNET_LITE0, SameConv2d
from train.backbones.loading import load_backbone
from train.backbones.trunk import Architecture, checkpoint_shapes, empty_trunk

FOLDED_ATOL = 1e-4
"""Of float32 features up to about 30, with batch normalisation folded against one of its own."""

DIGEST = [(0.37336, 8.60719), (-0.34434, 7.76272), (0.17982, 4.79192)]
"""Mean and mean magnitude of taps 2, 4 and 10 on `wave`, by the prototype that the published figures came from."""

BLOCKS = [(1, 3, 1, 16), (6, 3, 2, 24), (6, 3, 1, 24), (6, 5, 2, 40), (6, 5, 1, 40)]
BLOCKS += [(6, 3, 2, 80)] + 2 * [(6, 3, 1, 80)] + 3 * [(6, 5, 1, 112)] + [(6, 5, 2, 192)] + 3 * [(6, 5, 1, 192)]
BLOCKS += [(6, 3, 1, 320)]
"""Expansion, kernel, stride, channels of all sixteen."""


def same_by_definition(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """TensorFlow's SAME, output by output: the window of output i begins at i * stride - padding // 2."""
    kernel = weight.shape[-1]
    out = [math.ceil(side / stride) for side in x.shape[-2:]]
    before = [max((n - 1) * stride + kernel - side, 0) // 2 for n, side in zip(out, x.shape[-2:], strict=True)]
    wide = pad(x, (kernel, kernel, kernel, kernel))
    rows = []
    for i in range(out[0]):
        top = kernel + i * stride - before[0]
        lefts = [kernel + j * stride - before[1] for j in range(out[1])]
        windows = [wide[..., top : top + kernel, left : left + kernel] for left in lefts]
        rows.append(torch.cat([conv2d(window, weight, groups=groups) for window in windows], dim=3))
    return torch.cat(rows, dim=2)


def reference(x: Tensor, state: dict[str, Tensor], last: int) -> list[Tensor]:
    """Normalised x through stem and blocks, as published: batch normalisation by itself."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{conv}.weight"]
        kernel = weight.shape[-1]
        wanted = [max(0, (math.ceil(n / stride) - 1) * stride + kernel - n) for n in x.shape[-2:]]
        top, left = (n // 2 for n in wanted)
        x = conv2d(pad(x, (left, wanted[1] - left, top, wanted[0] - top)), weight, stride=stride, groups=groups)
        kept = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(x, *kept, eps=1e-3)

    x = layer(x, "_conv_stem", "_bn0", stride=2).clamp(0, 6)
    found = []
    for index, (expansion, _, stride, channels) in enumerate(BLOCKS[: last + 1]):
        name, y = f"_blocks.{index}", x
        if expansion > 1:
            y = layer(y, f"{name}._expand_conv", f"{name}._bn0").clamp(0, 6)
        y = layer(y, f"{name}._depthwise_conv", f"{name}._bn1", stride, groups=y.shape[1]).clamp(0, 6)
        y = layer(y, f"{name}._project_conv", f"{name}._bn2")
        x = x + y if stride == 1 and x.shape[1] == channels else y
        found.append(x)
    return found


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 11), (7, 10), (3, 2)])
def test_padding_is_tensorflows(kernel: int, stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = SameConv2d(4, 4, kernel, conv="", norm="", eps=1e-3, stride=stride, groups=4)
    assert layer.bias is not None
    layer.bias.data.zero_()
    x = torch.randn(2, 4, *size)
    torch.testing.assert_close(layer(x), same_by_definition(x, layer.weight, stride, 4))


def test_architecture_has_the_published_tensors_and_parameters() -> None:
    shapes = checkpoint_shapes(empty_trunk(EFFICIENTNET_LITE0))
    assert len(shapes) == 240
    learned = [shape for name, shape in shapes.items() if "running" not in name]
    head = 320 * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    assert sum(map(math.prod, learned)) + head == 4_652_008
    for index, (expansion, kernel, _, channels) in enumerate(BLOCKS):
        assert (f"_blocks.{index}._expand_conv.weight" in shapes) == (expansion > 1)
        assert shapes[f"_blocks.{index}._depthwise_conv.weight"][2:] == (kernel, kernel)
        assert shapes[f"_blocks.{index}._project_conv.weight"][0] == channels


@pytest.mark.parametrize("size", [(64, 64), (65, 47)])
def test_folded_trunk_gives_what_the_published_layers_give(
    size: tuple[int, int], random_checkpoint: Callable[[Architecture], dict[str, Tensor]]
) -> None:
    state = random_checkpoint(EFFICIENTNET_LITE0)
    trunk = trunk_from_checkpoint(EFFICIENTNET_LITE0, (0, 4, 10, 15), state, source="random")
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = reference(x, state, 15)
    for tap, features in zip((0, 4, 10, 15), trunk(x), strict=True):
        torch.testing.assert_close(features, expected[tap], atol=FOLDED_ATOL, rtol=1e-4)


def wave(height: int, width: int) -> Tensor:
    """(1, 3, H, W) in [0, 1]: three different plane waves, so that a mixed-up channel shows."""
    y, x = torch.meshgrid(torch.arange(height) / 16.0, torch.arange(width) / 16.0, indexing="ij")
    return torch.stack([(x + y).sin(), (x - 2 * y).cos(), (3 * x).sin()])[None] * 0.5 + 0.5


def test_the_shipped_weights_give_the_features_that_were_measured_with(shipped: dict[str, Tensor]) -> None:
    backbone = load_backbone(taps=(2, 4, 10))
    features = backbone(wave(96, 128))
    assert [tuple(feature.shape) for feature in features] == [(1, 24, 24, 32), (1, 40, 12, 16), (1, 112, 6, 8)]
    digest = [(feature.mean().item(), feature.abs().mean().item()) for feature in features]
    assert digest == [pytest.approx(numbers, abs=1e-3) for numbers in DIGEST]


def test_the_shipped_trunk_folded_equals_the_unfolded_and_takes_bgr(shipped: dict[str, Tensor]) -> None:
    x = wave(75, 130)
    expected = reference((x.flip(1) * 255 - 127) / 128, shipped, 10)
    for tap, features in zip((4, 10), load_backbone()(x), strict=True):
        torch.testing.assert_close(features, expected[tap], atol=FOLDED_ATOL, rtol=1e-4)
