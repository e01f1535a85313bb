"""INT8 detectors of networks that read a backbone: its convolutions in integers, what follows from them in FP32.

What integers move all features of a site by is measured on training images and taken off where the site's mean is:
distances are told from features whitened by a narrow distribution, in which a step of an activation is large.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_runtime.backends import onnx_session, run_session
from export.quantize import Quantized, Scheme, quantized

__all__ = ["quantized_trunk", "trunk_nodes"]

UNSIGNED = Scheme(operators=("Conv", "Clip", "Relu", "Add"), symmetric=False, seven_bits=True)
"""An unsigned range from 0 to 6 is a ReLU6: onnxruntime drops the operator, which would take what integers gain."""
ACTIVATIONS = ("Clip", "Relu")

FINEST = (4, 8, 16)
"""Pixels from one site of a map to the next: a convolution that reads a finer map stays FP32. In the finest lies what
tells a defect: with stem and blocks 0 and 1 of EfficientNet-Lite0 in INT8 features moved by 15 times what they vary by
at their site, without them by a tenth."""

PROJECTION = "autoencoder.encoder.statistics.projection"
SITE_MEAN = "autoencoder.encoder.statistics.site_mean"
CENTER = "autoencoder.statistics.center"


def quantized_trunk(
    graph: bytes, frames: NDArray[np.uint8], passes: Callable[[bytes], bool], finest: tuple[int, ...] = FINEST
) -> Quantized:
    """The INT8 detector with the most of its trunk in INT8 that passes; the one with the most where none does.

    frames: (N, H, W, C) uint8 training images, for ranges and for what features are moved by.
    """
    made = (_mended(graph, frames, stride) for stride in finest)
    first = next(made)
    if passes(first.graph):
        return first
    return next((found for found in made if found.layers and passes(found.graph)), first)


def trunk_nodes(graph: bytes, finest: int) -> tuple[list[str], list[str]]:
    """Names of the nodes before the projection that become integers, and of the convolutions that do not.

    The former: convolutions that read maps of `finest` pixels or more from site to site, activations of their outputs,
    and sums of such.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    values = [*model.graph.input, *model.graph.value_info]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    before = _before(model, _projection(model))
    height = max(shapes[node.input[0]][2] for node in before if node.op_type == "Conv")  # the trunk may see it reduced
    integers: list[str] = []
    left_out: list[str] = []
    outputs: set[str] = set()
    for node in before:
        if node.op_type == "Conv" and shapes[node.input[0]][2] * finest > height:
            left_out.append(node.name)
        elif (
            node.op_type == "Conv"
            or (node.op_type in ACTIVATIONS and node.input[0] in outputs)
            or (node.op_type == "Add" and outputs.issuperset(node.input))
        ):
            integers.append(node.name)
            outputs.update(node.output)
    return integers, left_out


def _mended(graph: bytes, frames: NDArray[np.uint8], finest: int) -> Quantized:
    """The detector with its trunk in INT8 from maps of that fineness on, the shift of its features taken off."""
    integers, left_out = trunk_nodes(graph, finest)
    operators = {node.name: node.op_type for node in onnx.load_from_string(graph).graph.node}
    small = quantized(graph, frames, integers, UNSIGNED)
    moved = _mean_projected(small, frames) - _mean_projected(graph, frames)  # (d, h, w)
    convolutions = tuple(name for name in integers if operators[name] == "Conv")
    return Quantized(_shifted(small, moved), convolutions, tuple(left_out))


def _mean_projected(graph: bytes, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Projected features (d, h, w) at each site, their mean over frames."""
    model = onnx.load_from_string(graph)
    name = _projection(model).output[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnx_session(model.SerializeToString())
    sums = sum(run_session(session, {"frame": frame[None]})[0][0].astype(np.float64) for frame in frames)
    return np.asarray(sums) / len(frames)


def _shifted(graph: bytes, moved: NDArray[np.float64]) -> bytes:
    """The graph that takes `moved` (d, h, w) off projected features, within the constants that it takes off anyway."""
    model = onnx.load_from_string(graph)
    constants = {item.name: item for item in model.graph.initializer}
    at_sites = moved.reshape(len(moved), -1).T  # (S, d)
    for name, by in ((SITE_MEAN, moved), (CENTER, at_sites)):
        array = (numpy_helper.to_array(constants[name]) + by).astype(np.float32)
        constants[name].CopyFrom(numpy_helper.from_array(array, name))
    outdated = [value for value in model.graph.value_info if value.name == CENTER]
    for value in outdated:
        model.graph.value_info.remove(value)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _projection(model: onnx.ModelProto) -> onnx.NodeProto:
    """The convolution that reduces the trunk's features."""
    return next(node for node in model.graph.node if PROJECTION in node.input)


def _before(model: onnx.ModelProto, last: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes whose outputs a node is computed from, in the graph's order."""
    needed = set(last.input)
    found = []
    for node in reversed(model.graph.node):
        if needed.intersection(node.output) and node.name != last.name:
            needed.update(node.input)
            found.append(node)
    return found[::-1]
