"""FP16: half precision in the layers, float32 at both ends and in the score, no casts for nothing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from edge_runtime.backends import OnnxRuntimeCpu
from export.graphs import graph_facts
from export.half import half_body, join_half_bodies
from tests.export.conftest import RUNS
from train.runs.run_folder import TrainedRun

Graphs = dict[str, dict[str, bytes]]


@pytest.mark.parametrize("name", RUNS)
def test_weights_are_half_and_inputs_outputs_and_score_are_not(graphs: Graphs, name: str) -> None:
    graph = graphs[name]["detector-fp16.onnx"]
    facts = graph_facts(graph)
    assert facts["precision"] == "fp16"
    assert [item["dtype"] for item in facts["inputs"]] == ["uint8"]
    assert [item["dtype"] for item in facts["outputs"]] == ["float32"] * 3
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    types = {item.name: item.type.tensor_type.elem_type for item in model.graph.value_info}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {types[node.output[0]] for node in layers} == {TensorProto.FLOAT16}
    sums = [node for node in model.graph.node if node.op_type in ("ReduceSum", "ReduceMean", "Sqrt", "Pow", "MatMul")]
    assert {types.get(node.output[0], TensorProto.FLOAT) for node in sums} == {TensorProto.FLOAT}
    assert len(graph) < 0.6 * len(graphs[name]["detector.onnx"])


@pytest.mark.parametrize("name", RUNS)
def test_scores_are_those_of_float32_to_a_thousandth(graphs: Graphs, runs: dict[str, TrainedRun], name: str) -> None:
    run = runs[name]
    full, half = (OnnxRuntimeCpu(graphs[name][file]) for file in ("detector.onnx", "detector-fp16.onnx"))
    for frame in run.sample_inputs:
        expected, came = (run.decision.score(backend.run(frame[None]).criteria) for backend in (full, half))
        # Below the median image lie logarithms of nearly nothing.
        np.testing.assert_allclose(np.maximum(came, 0.0), np.maximum(expected, 0.0), atol=5e-3, rtol=2e-3)


def test_the_trained_network_stays_as_it_is(runs: dict[str, TrainedRun]) -> None:
    before = {name: value.clone() for name, value in runs["conv"].autoencoder.state_dict().items()}
    half = half_body(runs["conv"].autoencoder)
    assert {value.dtype for value in half.state_dict().values()} == {torch.float16}
    for name, value in runs["conv"].autoencoder.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_a_cast_to_float_and_back_to_half_goes_and_others_stay() -> None:
    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Cast", ["x"], ["a"], to=TensorProto.FLOAT16),
            node("Relu", ["a"], ["b"]),
            node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
            node("Cast", ["c"], ["d"], to=TensorProto.FLOAT16),
            node("Relu", ["d"], ["e"]),
            node("Cast", ["e"], ["y"], to=TensorProto.FLOAT),
        ],
        "casts",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    join_half_bodies(model)
    assert [(item.op_type, item.output[0]) for item in model.graph.node] == [
        ("Cast", "a"),
        ("Relu", "b"),
        ("Relu", "e"),
        ("Cast", "y"),
    ]
    assert model.graph.node[2].input[0] == "b"
    onnx.checker.check_model(model, full_check=True)
