"""INT8 of a backbone's trunk: which nodes become integers, and that features keep their place."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from export.quantize import SYMMETRIC, Quantized, quantized
from export.trunk_int8 import UNSIGNED, quantized_trunk, trunk_nodes
from tests.export.conftest import made_up_part


@pytest.fixture(scope="module")
def graph(features_bundle: Bundle) -> bytes:
    return features_bundle.files["detector.onnx"]


@pytest.fixture(scope="module")
def frames(features_bundle: Bundle) -> NDArray[np.uint8]:
    return Golden.from_npz(features_bundle.files["golden.npz"]).inputs


@pytest.fixture(scope="module")
def small(graph: bytes, frames: NDArray[np.uint8]) -> Quantized:
    return quantized_trunk(graph, frames, lambda _: True)


def distances(graph: bytes, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,) site distances."""
    backend = OnnxRuntimeCpu(graph)
    return np.concatenate([backend.run(frame[None]).criteria for frame in frames])[:, 2]


def test_convolutions_of_coarse_maps_become_integers_and_nothing_behind_the_taps(graph: bytes) -> None:
    integers, left_out = trunk_nodes(graph, 4)
    nodes = {node.name: node for node in onnx.load_from_string(graph).graph.node}
    assert [nodes[name].op_type for name in left_out] == ["Conv"] * 5  # stem, block 0, what block 1 reads at stride 2
    assert {nodes[name].op_type for name in integers} == {"Conv", "Clip", "Add"}
    weights = [nodes[name].input[1] for name in integers if nodes[name].op_type == "Conv"]
    assert len(weights) == 28
    assert all(".backbone.trunk.blocks." in name for name in weights)
    coarser = [trunk_nodes(graph, stride)[0] for stride in (8, 16)]
    assert [sum(nodes[name].op_type == "Conv" for name in found) for found in coarser] == [22, 16]


def test_distances_of_unseen_images_hardly_move(graph: bytes, frames: NDArray[np.uint8], small: Quantized) -> None:
    rng = np.random.default_rng(1)
    unseen = np.stack([made_up_part(rng, number) for number in range(12)])
    expected = distances(graph, unseen)
    unmended = quantized(graph, frames, trunk_nodes(graph, 4)[0], UNSIGNED)
    as_others = quantized(graph, frames, trunk_nodes(graph, 1)[0], replace(SYMMETRIC, operators=("Conv",)))
    errors = [np.abs(np.log(distances(made, unseen) / expected)).mean() for made in (small.graph, unmended, as_others)]
    assert errors[0] < 0.1
    assert errors[0] < 0.8 * errors[1]
    assert errors[1] < 0.6 * errors[2]


def test_activations_are_part_of_the_integer_layers(small: Quantized) -> None:
    model = onnx.load_from_string(small.graph)
    assert sum(node.op_type == "Clip" for node in model.graph.node) == 4  # of stem, block 0 and two in block 1
    assert len(small.graph) < 0.8 * 5_000_000


def test_less_of_the_trunk_becomes_integers_where_more_does_not_pass(graph: bytes, frames: NDArray[np.uint8]) -> None:
    seen: list[bytes] = []

    def passes(made: bytes) -> bool:
        seen.append(made)
        return len(seen) == 3

    found = quantized_trunk(graph, frames[:4], passes)
    assert found.graph == seen[2]
    assert len(found.layers) == 16
    none = quantized_trunk(graph, frames[:4], lambda _: False, (8, 16))
    assert len(none.layers) == 22
