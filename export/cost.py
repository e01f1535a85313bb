"""What a frame costs a detector: multiply-adds, and bytes of weights and activations."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from torch.utils.flop_counter import FlopCounterMode

from edge_runtime.preprocess import Preprocess
from edge_runtime.prior import Prior
from export.graphs import DetectorGraph
from train.autoencoder import Autoencoder

__all__ = ["bytes_of", "macs_of"]


def macs_of(autoencoder: Autoencoder, prior: Prior, preprocess: Preprocess) -> int:
    """Multiply-adds of one network input in convolutions and matrix products, as PyTorch's FlopCounterMode counts them.

    Elementwise operations, sorting and pooling are not among them.
    """
    frame = torch.zeros(1, *preprocess.input_shape, dtype=torch.uint8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        DetectorGraph(autoencoder, prior)(frame)
    return int(counter.get_total_flops()) // 2


def bytes_of(graph: bytes) -> dict[str, int]:
    """weight_bytes: of all constants; activation_bytes: of every other tensor of one network input, each once.

    An engine that fuses layers writes fewer of them: an upper reading. Between QuantizeLinear and DequantizeLinear the
    INT8 tensor counts alone.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph))
    weights = sum(
        int(np.prod(item.dims)) * onnx.helper.tensor_dtype_to_np_dtype(item.data_type).itemsize
        for item in model.graph.initializer
    )
    values = {value.name: value for value in (*model.graph.value_info, *model.graph.input, *model.graph.output)}
    kept = [value for name, value in values.items() if name not in _float_sides(model)]
    return {"weight_bytes": weights, "activation_bytes": sum(map(_bytes_of_value, kept))}


def _float_sides(model: onnx.ModelProto) -> set[str]:
    """Tensors that only lead into a QuantizeLinear or come out of a DequantizeLinear."""
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, set()).add(node.op_type)
    outputs = {value.name for value in model.graph.output}
    only_quantized = {name for name, kinds in readers.items() if kinds == {"QuantizeLinear"}} - outputs
    return only_quantized | {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}


def _bytes_of_value(value: Any) -> int:
    tensor = value.type.tensor_type
    dims = [dim.dim_value or 1 for dim in tensor.shape.dim]  # a dynamic batch counts one input
    return int(np.prod(dims)) * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize)
