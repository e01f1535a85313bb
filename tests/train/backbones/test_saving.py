"""A backbone in a run folder: the same features without package or file, and nothing altered goes unseen."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edge_runtime.errors import DataError
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.backbones.resnet18 import RESNET18
from train.backbones.saving import save_backbone, saved_backbone
from train.backbones.trunk import Architecture


def assert_same(one: Backbone, other: Backbone) -> None:
    assert one.facts == other.facts
    x = torch.rand(2, 3, 32, 32)
    for feature, value in zip(one(x), other(x), strict=True):
        torch.testing.assert_close(feature, value, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_a_run_loads_the_shipped_backbone_without_its_package(
    shipped: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone()
    save_backbone(backbone, tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert_same(backbone, saved_backbone(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"backbone.json", "backbone.safetensors"}
    assert (tmp_path / "backbone.safetensors").stat().st_size < 3_000_000  # the trunk alone, of 18 MB


def test_a_run_keeps_the_users_program(programs: dict[str, Path], tmp_path: Path) -> None:
    backbone = load_backbone(programs["any"])
    save_backbone(backbone, tmp_path)
    assert (tmp_path / "backbone.pt2").read_bytes() == programs["any"].read_bytes()
    assert_same(backbone, saved_backbone(tmp_path))


def test_saving_twice_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    save_backbone(saved_backbone(saved), tmp_path)
    for name in ("backbone.json", "backbone.safetensors"):
        assert (tmp_path / name).read_bytes() == (saved / name).read_bytes()


@pytest.fixture
def saved(random_checkpoint: Callable[[Architecture], dict[str, Tensor]], tmp_path: Path) -> Path:
    save_file(random_checkpoint(RESNET18), tmp_path / "r.safetensors")
    folder = tmp_path / "run"
    folder.mkdir()
    save_backbone(load_backbone(tmp_path / "r.safetensors", taps=(1,)), folder)
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "has version 2, this release reads 1"),
        ({"file": "../r.safetensors"}, "names 'resnet18' in '../r.safetensors', which this release does not know"),
        ({"file_sha256": "0"}, r"has SHA-256 .*, backbone.json says 0"),
        ({"facts": {}}, "is not as it was written"),
    ],
)
def test_an_altered_description_is_refused(changes: dict[str, Any], message: str, saved: Path) -> None:
    path = saved / "backbone.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DataError, match=message):
        saved_backbone(saved)


def test_weights_that_are_not_the_trunks_are_refused(saved: Path) -> None:
    path = saved / "backbone.json"
    values = json.loads(path.read_text())
    values["facts"]["taps"] = [2]
    path.write_text(json.dumps(values))
    with pytest.raises(DataError, match="does not hold the weights of resnet18"):
        saved_backbone(saved)


def test_a_folder_without_a_backbone_says_so(saved: Path, tmp_path: Path) -> None:
    (saved / "backbone.safetensors").unlink()
    for folder in (saved, tmp_path):
        with pytest.raises(DataError, match=r"has no whole backbone: .*; train again"):
            saved_backbone(folder)
    (saved / "backbone.json").write_text("[]")
    with pytest.raises(DataError, match="is not as it was written"):
        saved_backbone(saved)
