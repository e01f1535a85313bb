"""ResNet18 and MobileNetV2: torchvision's tensors by name and number, and its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm, conv2d, max_pool2d

from train.backbones.checkpoint import trunk_from_checkpoint
from train.backbones.mobilenet_v2 import MOBILENET_V2
from train.backbones.resnet18 import RESNET18
from train.backbones.trunk import Architecture, checkpoint_shapes, empty_trunk

NORM = ("weight", "bias", "running_mean", "running_var")


def norm_of(name: str) -> Iterator[str]:
    return (f"{name}.{tensor}" for tensor in NORM)


def resnet18_names() -> set[str]:
    names = {"conv1.weight", *norm_of("bn1")}
    for layer in (1, 2, 3, 4):
        for block in (0, 1):
            at = f"layer{layer}.{block}"
            names |= {f"{at}.conv1.weight", f"{at}.conv2.weight", *norm_of(f"{at}.bn1"), *norm_of(f"{at}.bn2")}
        if layer > 1:
            names |= {f"layer{layer}.0.downsample.0.weight", *norm_of(f"layer{layer}.0.downsample.1")}
    return names


def mobilenet_v2_names() -> set[str]:
    names = {f"features.{end}.0.weight" for end in (0, 18)} | {*norm_of("features.0.1"), *norm_of("features.18.1")}
    names |= {"features.1.conv.0.0.weight", *norm_of("features.1.conv.0.1")}
    names |= {"features.1.conv.1.weight", *norm_of("features.1.conv.2")}
    for block in range(2, 18):
        at = f"features.{block}.conv"
        names |= {f"{at}.0.0.weight", f"{at}.1.0.weight", f"{at}.2.weight"}
        names |= {*norm_of(f"{at}.0.1"), *norm_of(f"{at}.1.1"), *norm_of(f"{at}.3")}
    return names


@pytest.mark.parametrize(
    ("architecture", "names", "head", "parameters"),
    [
        (RESNET18, resnet18_names(), 512 * 1000 + 1000, 11_689_512),
        (MOBILENET_V2, mobilenet_v2_names(), 1280 * 1000 + 1000, 3_504_872),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
def test_tensors_are_torchvisions(architecture: Architecture, names: set[str], head: int, parameters: int) -> None:
    shapes = checkpoint_shapes(empty_trunk(architecture))
    assert set(shapes) == names
    assert sum(math.prod(shape) for name, shape in shapes.items() if "running" not in name) + head == parameters


class Layers:
    """Convolution and batch normalisation by their names in a checkpoint."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def __call__(self, x: Tensor, conv: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{conv}.weight"]
        x = conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        kept = [self.state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        return batch_norm(x, *kept, eps=1e-5)


def resnet18(x: Tensor, layer: Layers) -> list[Tensor]:
    """What torchvision's layer1 to layer4 give."""
    x = max_pool2d(layer(x, "conv1", "bn1", 2).relu(), 3, 2, 1)
    found = []
    for number in (1, 2, 3, 4):
        for block in (0, 1):
            at, stride = f"layer{number}.{block}", 2 if number > 1 and block == 0 else 1
            y = layer(layer(x, f"{at}.conv1", f"{at}.bn1", stride).relu(), f"{at}.conv2", f"{at}.bn2")
            if stride == 2:
                x = layer(x, f"{at}.downsample.0", f"{at}.downsample.1", 2)
            x = (x + y).relu()
        found.append(x)
    return found


def mobilenet_v2(x: Tensor, layer: Layers) -> list[Tensor]:
    """What torchvision's features 1 to 18 give."""
    x = layer(x, "features.0.0", "features.0.1", 2).clamp(0, 6)
    found = []
    strides = {2: 2, 4: 2, 7: 2, 14: 2}
    for index in range(1, 18):
        at, y, stride, first = f"features.{index}.conv", x, strides.get(index, 1), 0
        if index > 1:
            y, first = layer(y, f"{at}.0.0", f"{at}.0.1").clamp(0, 6), 1
        y = layer(y, f"{at}.{first}.0", f"{at}.{first}.1", stride, groups=y.shape[1]).clamp(0, 6)
        y = layer(y, f"{at}.{first + 1}", f"{at}.{first + 2}")
        x = x + y if stride == 1 and x.shape == y.shape else y
        found.append(x)
    found.append(layer(x, "features.18.0", "features.18.1").clamp(0, 6))
    return found


@pytest.mark.parametrize(
    ("architecture", "reference", "taps", "channels"),
    [
        (RESNET18, resnet18, (1, 2, 3, 4), (64, 128, 256, 512)),
        (MOBILENET_V2, mobilenet_v2, (1, 3, 6, 13, 18), (16, 24, 32, 96, 1280)),
    ],
    ids=lambda value: value.name if isinstance(value, Architecture) else "",
)
@pytest.mark.parametrize("size", [(64, 64), (65, 47)])
def test_features_are_torchvisions(
    architecture: Architecture,
    reference: Callable[[Tensor, Layers], list[Tensor]],
    taps: tuple[int, ...],
    channels: tuple[int, ...],
    size: tuple[int, int],
    random_checkpoint: Callable[[Architecture], dict[str, Tensor]],
) -> None:
    state = random_checkpoint(architecture)
    trunk = trunk_from_checkpoint(architecture, taps, state, source="random")
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = [reference(x, Layers(state))[tap - 1] for tap in taps]
    found = trunk(x)
    assert tuple(feature.shape[1] for feature in found) == channels
    for features, value in zip(found, expected, strict=True):
        torch.testing.assert_close(features, value, atol=1e-4, rtol=1e-4)
