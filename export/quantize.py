"""INT8 detectors: onnxruntime's static quantisation, with the options that TensorRT parses (tried, see DESIGN).

Symmetric, weights per channel, no quantised bias, layers with weights alone; score, prior and statistics stay FP32.
Layers that cost the most are left out, by measurement, until the gate passes or too few are left. Backbones have a
scheme of their own (trunk_int8.py).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["SYMMETRIC", "Quantized", "Scheme", "body_layers", "quantized", "quantized_by_measurement"]

QUANTIZED_OPS = ("Conv", "ConvTranspose", "Gemm")
LEAST_QUANTIZED = 0.5
"""Share of the layers that must stay INT8: below it the graph is hardly smaller or faster than FP16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scheme:
    """What integers stand for, and which operators compute with them."""

    operators: tuple[str, ...]
    symmetric: bool
    """Activations are int8 about zero, which is all that TensorRT takes; else uint8 from a zero point of their own"""
    seven_bits: bool = False
    """Of weights: products with uint8 then fit the 16 bits that processors without VNNI sum pairs in, so that all
    give the same"""


SYMMETRIC = Scheme(operators=QUANTIZED_OPS, symmetric=True)


@dataclass(frozen=True, slots=True)
class Quantized:
    """An INT8 detector and which layers it left in FP32."""

    graph: bytes
    layers: tuple[str, ...]
    """Names of the nodes in INT8"""
    left_out: tuple[str, ...]
    """Names of the nodes left in FP32, most costly first"""


def body_layers(graph: bytes) -> list[str]:
    """Names of the nodes that may become INT8: layers of the network, not the filters and distances of its score.

    Without the first convolution, which reads the image: it has few weights and moves scores the most, and OpenVINO
    2026.4.1 gives other numbers altogether for that of `patch` in INT8.
    """
    model = onnx.load_from_string(graph)
    weights = {item.name for item in model.graph.initializer if item.name.startswith("autoencoder.")}
    layers = [
        node
        for node in model.graph.node
        if node.op_type in QUANTIZED_OPS and len(node.input) > 1 and node.input[1] in weights
        if ".exposure." not in node.input[1] and ".statistics." not in node.input[1]
    ]
    return [node.name for node in layers if node is not layers[0] or node.op_type != "Conv"]


def quantized(graph: bytes, frames: NDArray[np.uint8], layers: Sequence[str], scheme: Scheme = SYMMETRIC) -> bytes:
    """The graph with the nodes of these names in INT8, ranges from frames (N, H, W, C) uint8."""
    quantization = require("onnxruntime.quantization", extra="export", purpose="INT8 exports")
    kinds = quantization.QuantType
    model = onnx.load_from_string(graph)
    others = [node.name for node in model.graph.node if node.op_type in scheme.operators and node.name not in layers]
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises a pre-processing that the exporter has done
    try:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "quantized.onnx"
            quantization.quantize_static(
                model,
                out,
                _Frames(frames),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=kinds.QInt8 if scheme.symmetric else kinds.QUInt8,
                weight_type=kinds.QInt8,
                per_channel=True,
                reduce_range=scheme.seven_bits,
                op_types_to_quantize=list(scheme.operators),
                nodes_to_exclude=others,
                extra_options={
                    "ActivationSymmetric": scheme.symmetric,
                    "WeightSymmetric": True,
                    "QuantizeBias": False,
                },
            )
            return out.read_bytes()
    finally:
        root.setLevel(level)


def quantized_by_measurement(
    graph: bytes,
    frames: NDArray[np.uint8],
    cost: Callable[[bytes], float],
    passes: Callable[[bytes], bool],
) -> Quantized:
    """The INT8 detector with the most layers in INT8 that passes; with all of them where none does.

    cost: how far a graph's scores lie from the reference's; measured with each layer alone in INT8, and only where the
    whole does not pass.
    """
    layers = body_layers(graph)
    whole = Quantized(quantized(graph, frames, layers), tuple(layers), ())
    if passes(whole.graph):
        return whole
    costs = {layer: cost(quantized(graph, frames, [layer])) for layer in layers}
    ordered = sorted(layers, key=lambda layer: -costs[layer])
    for n_left_out in range(1, int(len(layers) * (1.0 - LEAST_QUANTIZED)) + 1):
        left_out = ordered[:n_left_out]
        kept = [layer for layer in layers if layer not in left_out]
        found = Quantized(quantized(graph, frames, kept), tuple(kept), tuple(left_out))
        if passes(found.graph):
            return found
    return whole


class _Frames:
    """Feeds the quantiser one frame at a time; it has the shape of onnxruntime's CalibrationDataReader."""

    def __init__(self, frames: NDArray[np.uint8]) -> None:
        self._feeds = iter([{"frame": frame[None]} for frame in frames])

    def get_next(self) -> dict[str, Any] | None:
        """The next feed, None at the end."""
        return next(self._feeds, None)
