"""INT8: which layers become integers, on whose frames, and which are left out by measurement."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edge_runtime.backends import OnnxRuntimeCpu
from export.graphs import graph_facts
from export.quantize import body_layers, quantized, quantized_by_measurement
from tests.export.conftest import rtx_engine_bytes
from train.runs.run_folder import TrainedRun

Graphs = dict[str, dict[str, bytes]]


def integer_layers(graph: bytes) -> int:
    """Layers whose weights go through a DequantizeLinear."""
    model = onnx.load_from_string(graph)
    producers = {output: node for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    return sum(getattr(producers.get(node.input[1]), "op_type", "") == "DequantizeLinear" for node in layers)


@pytest.mark.parametrize(("name", "n_layers"), [("mlp", 6), ("conv", 7), ("hog", 8)])
def test_layers_of_the_body_become_integers_and_the_score_does_not(
    graphs: Graphs, runs: dict[str, TrainedRun], name: str, n_layers: int
) -> None:
    graph = graphs[name]["detector.onnx"]
    layers = body_layers(graph)
    assert len(layers) == n_layers
    small = quantized(graph, runs[name].sample_inputs, layers)
    assert integer_layers(small) == n_layers
    assert graph_facts(small)["precision"] == "int8"
    assert graph_facts(small)["opset"] == 18
    assert len(small) < 0.5 * len(graph)
    model = onnx.load_from_string(small)
    assert not any(node.op_type == "MatMul" and "quantized" in node.input[1] for node in model.graph.node)
    # Errors stay near those of FP32: with a layer lost they would be another network's.
    frame = runs[name].sample_inputs[:1]
    expected, came = OnnxRuntimeCpu(graph).run(frame), OnnxRuntimeCpu(small).run(frame)
    np.testing.assert_allclose(came.criteria[0, 0], expected.criteria[0, 0], rtol=0.5)


@pytest.mark.parametrize("name", ["mlp", "conv", "conv-robust", "hog"])
def test_tensorrt_rtx_builds_the_int8_graph(graphs: Graphs, runs: dict[str, TrainedRun], name: str) -> None:
    graph = graphs[name]["detector.onnx"]
    assert rtx_engine_bytes(quantized(graph, runs[name].sample_inputs, body_layers(graph))) > 1000


def test_the_whole_is_kept_where_it_passes(graphs: Graphs, runs: dict[str, TrainedRun]) -> None:
    graph, frames = graphs["conv"]["detector.onnx"], runs["conv"].sample_inputs
    found = quantized_by_measurement(graph, frames, lambda _: pytest.fail("nothing to measure"), lambda _: True)
    assert found.layers == tuple(body_layers(graph))
    assert found.left_out == ()


def test_the_costliest_layers_are_left_out_until_it_passes(graphs: Graphs, runs: dict[str, TrainedRun]) -> None:
    graph, frames = graphs["conv"]["detector.onnx"], runs["conv"].sample_inputs
    layers = body_layers(graph)
    costs = dict(zip(layers, [0.1, 0.9, 0.2, 0.3, 0.8, 0.4, 0.5], strict=True))
    alone = {quantized(graph, frames, [layer]): cost for layer, cost in costs.items()}
    found = quantized_by_measurement(graph, frames, alone.__getitem__, lambda found: integer_layers(found) <= 5)
    assert found.left_out == (layers[1], layers[4])
    assert integer_layers(found.graph) == 5


def test_where_too_few_layers_would_be_left_the_whole_is_given_back(
    graphs: Graphs, runs: dict[str, TrainedRun]
) -> None:
    graph, frames = graphs["conv"]["detector.onnx"], runs["conv"].sample_inputs
    tried = []

    def passes(found: bytes) -> bool:
        tried.append(integer_layers(found))
        return False

    found = quantized_by_measurement(graph, frames, lambda _: 0.0, passes)
    assert tried == [7, 6, 5, 4]
    assert found.left_out == ()
    assert integer_layers(found.graph) == 7
