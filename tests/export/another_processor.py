"""A graph as another processor would round it: the same function, its sums in another order or rounded less often."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.backends import run_session
from edge_runtime.bundle.comparison import Outputs

__all__ = ["fused", "reordered", "unoptimised"]

WEIGHTED = ("MatMul", "Gemm", "Conv")
FUSED = ("MatMul", "Gemm", "ReduceSum", "Mul", "Add", "Sub")


def reordered(content: bytes, seed: int) -> bytes:
    """The graph with the summands of every product with weights, and of every sum over an axis, in another order.

    Other processors sum in blocks as wide as their registers; a permutation is as far from the given order.
    """
    rng = np.random.default_rng(seed)
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = model.graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    sizes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.input)}
    nodes: list[onnx.NodeProto] = []
    numbers = itertools.count()

    def constant(array: NDArray[Any]) -> str:
        name = f"reordered_{next(numbers)}"
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def gathered(node: onnx.NodeProto, axis: int, order: NDArray[np.int64]) -> None:
        name = f"reordered_{next(numbers)}"
        nodes.append(helper.make_node("Gather", [node.input[0], constant(order)], [name], axis=axis))
        node.input[0] = name

    for node in graph.node:
        if node.op_type in WEIGHTED and node.input[1] in constants and _attribute(node, "group", 1) == 1:
            weights = constants[node.input[1]]
            axis = 1 if node.op_type == "Conv" or _attribute(node, "transB", 0) else weights.ndim - 2
            assert not _attribute(node, "transA", 0), "the exporter transposes no activations"
            order = rng.permutation(weights.shape[axis])
            gathered(node, 1 if node.op_type == "Conv" else -1, order)
            node.input[1] = constant(weights.take(order, axis))
        elif node.op_type in ("ReduceSum", "ReduceMean"):
            axis = int(constants[node.input[1]].flat[-1])
            n = sizes[node.input[0]][axis].dim_value
            if n > 1:
                gathered(node, axis, rng.permutation(n))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def fused(content: bytes) -> bytes:
    """The graph with products, sums and a product under a sum rounded once, as fused multiply-add does at best."""
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = model.graph
    floats = {item.name for item in graph.initializer if item.data_type == TensorProto.FLOAT}
    values = (*graph.value_info, *graph.input, *graph.output)
    floats |= {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    uses = Counter(name for node in graph.node for name in node.input)
    added = {name for node in graph.node if node.op_type in ("Add", "Sub") for name in node.input}
    nodes: list[onnx.NodeProto] = []
    wide: dict[str, str] = {}

    def widened(name: str) -> str:
        if name in floats and name not in wide:
            wide[name] = f"{name}_wide"
            nodes.append(helper.make_node("Cast", [name], [wide[name]], to=TensorProto.DOUBLE))
        return wide.get(name, name)

    for node in graph.node:
        if node.op_type in FUSED and node.output[0] in floats:
            node.input[:] = [widened(name) for name in node.input]
            output = node.output[0]
            node.output[0] = f"{output}_exact"
            nodes.append(node)
            if node.op_type == "Mul" and uses[output] == 1 and output in added:
                wide[output] = node.output[0]
            else:
                nodes.append(helper.make_node("Cast", [node.output[0]], [output], to=TensorProto.FLOAT))
        else:
            nodes.append(node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def unoptimised(content: bytes, inputs: NDArray[np.uint8]) -> Outputs:
    """The detector's outputs for (N, H, W, C) network inputs, every operator of the graph run as it stands there."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    raw = [run_session(session, {"frame": frame[None]}) for frame in inputs]
    return Outputs(*(np.concatenate(column) for column in zip(*raw, strict=True)))


def _attribute(node: onnx.NodeProto, name: str, otherwise: int) -> int:
    return next((int(item.i) for item in node.attribute if item.name == name), otherwise)
