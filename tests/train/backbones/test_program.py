"""Programs of torch.export as trunks: same numbers, any batch, and what is said where one does not fit."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError, DataError
from train.backbones.loading import load_backbone

SIDE = 32
WriteProgram = Callable[..., Path]


@pytest.mark.parametrize("kind", ["one", "any"])
@pytest.mark.parametrize("n_images", [1, 3])
def test_a_program_gives_what_the_network_gave(
    kind: str, n_images: int, programs: dict[str, Path], two_taps: nn.Module
) -> None:
    backbone = load_backbone(programs[kind])
    x = torch.rand(n_images, 3, SIDE, SIDE)
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    with torch.no_grad():
        expected = two_taps((x.flip(1) - mean) / std)
    for feature, value in zip(backbone(x), expected, strict=True):
        torch.testing.assert_close(feature, value)


def test_a_program_tells_its_facts_and_its_one_size(programs: dict[str, Path]) -> None:
    backbone = load_backbone(programs["one"])
    facts = backbone.facts
    assert (facts.name, facts.architecture, facts.licence, facts.origin) == ("one", "program", "MIT", "the tests")
    assert (facts.taps, facts.strides, facts.channels, facts.size) == ((0, 1), (2, 4), (8, 12), (SIDE, SIDE))
    backbone.check_size(SIDE, SIDE)
    with pytest.raises(ConfigError, match=r"input of 64x64: the program one takes 32x32 alone; set --imgsz"):
        backbone.check_size(64, 64)


def test_a_program_is_frozen_and_can_be_copied_moved_and_asked_to_train(programs: dict[str, Path]) -> None:
    backbone = load_backbone(programs["one"])
    outer = nn.Sequential(backbone).train()
    assert not backbone.training
    assert not any(parameter.requires_grad for parameter in outer.parameters())
    twice = copy.deepcopy(backbone).double().eval()
    x = torch.rand(1, 3, SIDE, SIDE)
    for single, double in zip(backbone(x), twice(x.double()), strict=True):
        assert double.dtype == torch.float64  # constants too
        torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": [2, 8]}, r"gives outputs of strides \[2, 4\], its JSON says \[2, 8\]"),
        ({"size": [64, 32]}, r"takes \(1, 3, 32, 32\), its JSON says \(B, 3, 64, 32\)"),
        ({"size": 32}, r"size is 32, expected \[height, width\]"),
        ({"strides": []}, r"strides is \[\], expected a list"),
        ({"strides": [2, True]}, r"strides is \[2, True\]"),
        ({"licence": ""}, "licence is '', expected a text"),
        ({"normalisation": {}}, r"one.pt2.json: normalisation is \{\}"),
        ({"taps": 2}, "holds licence, normalisation, origin, size, strides, taps; expected an object with strides"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, programs: dict[str, Path], description: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "one.pt2"
    path.write_bytes(programs["one"].read_bytes())
    (tmp_path / "one.pt2.json").write_text(json.dumps({**description, **changes}))
    with pytest.raises((ConfigError, DataError), match=message):
        load_backbone(path)


def test_a_program_without_its_description_is_refused(programs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "one.pt2"
    path.write_bytes(programs["one"].read_bytes())
    with pytest.raises(ConfigError, match=r"one.pt2.json is missing: a .pt2 program needs it beside it"):
        load_backbone(path)
    (tmp_path / "one.pt2.json").write_text("{")
    with pytest.raises(ConfigError, match="is no JSON"):
        load_backbone(path)


def test_taps_of_a_program_are_its_outputs(programs: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match="is a program, whose taps are its outputs"):
        load_backbone(programs["one"], taps=(1,))


def test_a_program_of_a_fixed_larger_batch_is_refused(
    two_taps: nn.Module, write_program: WriteProgram, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="takes a batch of 4; export it with a batch of 1"):
        load_backbone(write_program(two_taps, tmp_path / "four.pt2", batch=4))


def test_a_program_in_training_mode_is_refused(write_program: WriteProgram, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)).train()
    path = write_program(network, tmp_path / "training.pt2", batch=None, strides=[2])
    with pytest.raises(DataError, match=r"exported in training mode .*call .eval\(\) on the network"):
        load_backbone(path)


class Pooled(nn.Module):
    """Ends in a vector, as a whole classifier does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class Stretched(nn.Module):
    """Has another stride down than across."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2]


class Named(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"a": x + 1}


class Pair(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sort(dim=1).values + 1.0


def test_one_tensor_alone_is_one_tap(write_program: WriteProgram, tmp_path: Path) -> None:
    assert load_backbone(write_program(Pair(), tmp_path / "one.pt2", strides=[1])).facts.strides == (1,)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Pooled(), r"output 0 is torch.float32 \(1, 3\), expected finite float32 features"),
        (Stretched(), "output 0 is 16x32 for an image of 32x32, expected the same whole stride"),
        (Named(), "takes or gives builtins.dict"),
    ],
)
def test_outputs_that_are_no_feature_maps_are_refused(
    network: nn.Module, message: str, write_program: WriteProgram, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        load_backbone(write_program(network, tmp_path / "p.pt2", strides=[1]))
