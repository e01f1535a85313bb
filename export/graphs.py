"""Networks to ONNX: encoder, decoder and the fused detector, as TensorRT's parser wants them.

opset 18, weights inside the file, Cast first (tried rules: the parser takes uint8 only as input of a Cast).
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from edge_runtime.bundle.bundle import SCHEMA_VERSION
from edge_runtime.errors import EdgeAaeError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.prior import Prior
from export.half import half_body, join_half_bodies
from train.networks.autoencoder import Autoencoder, Measured

__all__ = [
    "DetectorGraph",
    "ExportError",
    "OPSET",
    "export_graphs",
    "export_half_detector",
    "export_module",
    "graph_facts",
    "identified",
    "table_of_operators",
]

OPSET = 18
"""The newest that onnx-tensorrt 10.0 to 11.x, TensorRT-RTX and onnxruntime 1.17 to 1.32 all take."""

MAX_BATCH = 1024
"""Upper bound of the dynamic batch of encoder and decoder, for the exporter's shape analysis."""


class ExportError(EdgeAaeError, RuntimeError):
    """The exporter did not write what was asked for."""


class DetectorGraph(nn.Module):
    """The fused detector: network input in, raw criteria, latent and anomaly map out."""

    def __init__(self, autoencoder: Autoencoder, prior: Prior) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.prior = prior

    def forward(self, frame: Tensor) -> Measured:
        """criteria (B, K), latent (B, D), anomaly_map (B, h, w) for frame (B, H, W, C) uint8."""
        # A body in half precision casts for itself; float64 goes through everything.
        dtype = torch.promote_types(next(self.autoencoder.parameters()).dtype, torch.float32)
        x = frame.to(dtype).permute(0, 3, 1, 2) / 255.0  # (B, C, H, W) in [0, 1]
        return self.autoencoder.measure(x, self.prior)


def export_graphs(
    autoencoder: Autoencoder, prior: Prior, preprocess: Preprocess, *, batch: int | None = None
) -> dict[str, bytes]:
    """encoder.onnx, decoder.onnx (dynamic batch) and detector.onnx (static batch 1) by name.

    autoencoder: on the CPU, in evaluation mode. batch: the largest of an additional detector-batch.onnx, 2 or more.
    Raises ExportError where the written graph breaks the rules.
    """
    height, width, channels = preprocess.input_shape
    dynamic = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    # Two examples, not one: the exporter specialises a dimension whose example is 1.
    x = torch.zeros(2, channels, height, width)
    with torch.inference_mode():
        latent_shape = autoencoder.encoder(x).shape[1:]
    z = torch.zeros(2, *latent_shape)
    frame = torch.zeros(1, height, width, channels, dtype=torch.uint8)
    detector = DetectorGraph(autoencoder, prior)
    graphs = {
        "encoder.onnx": _export(autoencoder.encoder, x, ["x"], ["latent"], dynamic),
        "decoder.onnx": _export(autoencoder.decoder, z, ["z"], ["x_hat"], dynamic),
        "detector.onnx": _export(detector, frame, ["frame"], list(Measured._fields), None),
    }
    if batch is not None:
        frames = torch.zeros(2, height, width, channels, dtype=torch.uint8)
        up_to = {0: torch.export.Dim("batch", min=1, max=batch)}
        graphs["detector-batch.onnx"] = _export(detector, frames, ["frame"], list(Measured._fields), up_to)
    return graphs


def export_half_detector(autoencoder: Autoencoder, prior: Prior, preprocess: Preprocess) -> bytes:
    """detector-fp16.onnx: as detector.onnx, layers with weights in half precision; see export/half.py."""
    frame = torch.zeros(1, *preprocess.input_shape, dtype=torch.uint8)
    detector = DetectorGraph(half_body(autoencoder), prior)
    return _export(detector, frame, ["frame"], list(Measured._fields), None, join_half_bodies)


def identified(graphs: Mapping[str, bytes], *, model_id: str, criteria: Sequence[str]) -> dict[str, bytes]:
    """The graphs with metadata that names their model, the bundle's schema and the criteria's columns."""
    found = {}
    for name, content in graphs.items():
        model = onnx.load_from_string(content)
        del model.metadata_props[:]
        for key, value in (
            ("criteria", ",".join(criteria)),
            ("model_id", model_id),
            ("schema_version", str(SCHEMA_VERSION)),
        ):
            model.metadata_props.add(key=key, value=value)
        found[name] = model.SerializeToString()
    return found


def graph_facts(content: bytes) -> dict[str, Any]:
    """What the manifest says of a graph: opset, precision, names, shapes and dtypes of inputs and outputs."""
    model = onnx.load_from_string(content)

    def describe(values: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": value.name,
                "shape": [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim],
                "dtype": onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).name,
            }
            for value in values
        ]

    return {
        "precision": _precision(model),
        "opset": _opset(model),
        "inputs": describe(model.graph.input),
        "outputs": describe(model.graph.output),
    }


def _precision(model: onnx.ModelProto) -> str:
    """What the weights compute in."""
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return "int8"
    halves = any(item.data_type == onnx.TensorProto.FLOAT16 for item in model.graph.initializer)
    return "fp16" if halves else "fp32"


def export_module(module: nn.Module, example: Tensor, inputs: list[str], outputs: list[str]) -> bytes:
    """Any module as the detector is exported, with the example's shape."""
    return _export(module, example, inputs, outputs, None)


def _export(
    module: nn.Module,
    example: Tensor,
    inputs: list[str],
    outputs: list[str],
    batch: Mapping[int, Any] | None,
    finish: Callable[[onnx.ModelProto], None] = lambda model: None,
) -> bytes:
    with _quiet_exporter(), _one_table_of_operators():
        program = torch.onnx.export(
            module.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=(batch,) if batch is not None else None,
            verbose=False,
        )
    assert program is not None, "the dynamo exporter returns a program"
    model = program.model_proto
    _strip_sources(model)
    finish(model)
    _check(model, outputs)
    content: bytes = model.SerializeToString()
    return content


def _strip_sources(model: onnx.ModelProto) -> None:
    """Drop what the exporter notes of our source: stack traces with paths of the exporting machine."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.graph.doc_string = ""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]


def _check(model: onnx.ModelProto, outputs: list[str]) -> None:
    onnx.checker.check_model(model, full_check=True)
    if _opset(model) != OPSET:
        raise ExportError(
            f"the exporter wrote opset {_opset(model)}, asked for {OPSET}; use the pinned torch and onnxscript"
        )
    written = [output.name for output in model.graph.output]
    if written != outputs:
        raise ExportError(f"the exporter wrote outputs {written}, asked for {outputs}; use the pinned torch")
    first = model.graph.node[0]
    if model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8 and first.op_type != "Cast":
        raise ExportError(f"the detector's first node is {first.op_type}, TensorRT needs Cast; use the pinned torch")


def _opset(model: onnx.ModelProto) -> int:
    return next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))


def table_of_operators() -> Any:
    """The exporter's table of ONNX operators for OPSET, made at the first call; None where this torch has no such."""
    found = _tables()
    return found[1](OPSET) if found else None


@contextlib.contextmanager
def _one_table_of_operators() -> Any:
    """The exporter makes its table anew for every graph, which is half of what an export takes; here it is made once.

    No public way leads there: where a torch has it elsewhere, exports just take longer.
    """
    found = _tables()
    if found is None:
        yield
        return
    registry, kept = found
    made_anew = vars(registry)["from_torchlib"]
    registry.from_torchlib = staticmethod(kept)
    try:
        yield
    finally:
        registry.from_torchlib = made_anew


@functools.cache
def _tables() -> tuple[Any, Callable[..., Any]] | None:
    """torch's class of tables, and what makes one of an opset and keeps it."""
    try:
        registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
        make = registry.from_torchlib
    except (ImportError, AttributeError):
        return None

    @functools.cache
    def kept(opset_version: int = OPSET) -> Any:
        return make(opset_version=opset_version)

    return registry, kept


@contextlib.contextmanager
def _quiet_exporter() -> Any:
    """The exporter prints progress and warns of its own internals; both say nothing to the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
