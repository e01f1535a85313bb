"""Backbones in an exported graph: the same numbers through onnxruntime, and only operators that every engine takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.graphs import OPSET, export_module
from train.backbones.backbone import Backbone
from train.backbones.checkpoint import ARCHITECTURES
from train.backbones.loading import load_backbone
from train.backbones.trunk import Architecture

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

PARITY_ATOL = 1e-4
"""Of float32 features, onnxruntime against torch, both on a CPU."""


class Pooled(nn.Module):
    """A larger module round a backbone: frames as the product has them, and one number a tap and channel."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frame: Tensor) -> Tensor:
        x = frame.float().permute(0, 3, 1, 2) / 255.0
        return torch.cat([feature.flatten(2).mean(dim=2) for feature in self.backbone(x)], dim=1)


def exported(backbone: Backbone, height: int, width: int, channels: int = 3) -> tuple[onnx.ModelProto, Tensor, Tensor]:
    """The graph, a frame, and how far onnxruntime's outputs lie from torch's."""
    module = Pooled(backbone)
    frame = torch.randint(0, 256, (1, height, width, channels), dtype=torch.uint8)
    content = export_module(module, frame, ["frame"], ["pooled"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"frame": frame.numpy()})
    with torch.no_grad():
        expected = module(frame)
    np.testing.assert_allclose(found, expected.numpy(), atol=PARITY_ATOL, rtol=PARITY_ATOL)
    return onnx.load_from_string(content), frame, expected


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def uneven(model: onnx.ModelProto) -> list[list[int]]:
    """Paddings of convolutions that are larger below or right."""
    pads = [list(a.ints) for node in model.graph.node for a in node.attribute if a.name == "pads"]
    return [sides for sides in pads if sides[:2] != sides[2:]]


@pytest.mark.parametrize(
    ("size", "channels", "taps", "n_convolutions", "n_uneven"),
    [((64, 96), 3, (4, 10), 33, 4), ((65, 65), 3, (1,), 6, 0), ((64, 64), 1, (1,), 6, 2)],
    ids=["even", "odd", "grey"],
)
def test_the_shipped_trunk_exports_to_fixed_shapes_with_every_padding_in_its_convolution(
    size: tuple[int, int],
    channels: int,
    taps: tuple[int, ...],
    n_convolutions: int,
    n_uneven: int,
    shipped: dict[str, Tensor],
) -> None:
    model, _, _ = exported(load_backbone(taps=taps), *size, channels)
    found = operators(model)
    assert model.opset_import[0].version == OPSET
    assert len(uneven(model)) == n_uneven  # the stem and the blocks of stride 2: 1, 3, 5
    assert found["Conv"] == n_convolutions  # the stem, two of block 0, and three of each block after it
    assert set(found) <= {"Cast", "Transpose", "Div", "Gather", "Mul", "Add", "Conv", "Clip"} | POOLING


POOLING = {"Reshape", "ReduceMean", "Concat"}
"""What `Pooled` adds."""


@pytest.mark.parametrize(("name", "taps"), [("resnet18", (1, 2)), ("mobilenet-v2", (3,))])
def test_the_other_architectures_export(
    name: str, taps: tuple[int, ...], random_checkpoint: Callable[[Architecture], dict[str, Tensor]], tmp_path: Path
) -> None:
    save_file(random_checkpoint(ARCHITECTURES[name]), tmp_path / "w.safetensors")
    model, _, _ = exported(load_backbone(tmp_path / "w.safetensors", taps=taps), 64, 64)
    known = {"Cast", "Transpose", "Div", "Gather", "Mul", "Add", "Conv", "Clip", "Relu", "MaxPool"}
    assert set(operators(model)) <= known | POOLING


@pytest.mark.parametrize("kind", ["one", "any"])
def test_a_program_exports_as_part_of_a_larger_module(kind: str, programs: dict[str, Path]) -> None:
    model, _, _ = exported(load_backbone(programs[kind]), 32, 32)
    assert operators(model)["Conv"] == 2
