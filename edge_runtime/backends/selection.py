"""Backends by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Literal

from edge_runtime.backends.contract import Backend
from edge_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from edge_runtime.errors import ConfigError, expected_name

__all__ = ["BACKENDS", "BACKEND_NAMES", "EXPERIMENTAL", "open_backend", "present_backends"]


Opener = Callable[[bytes, int, str], Backend]
"""From the bytes of a detector graph, threads, and precision"""


def _onnxruntime(graph: bytes, threads: int, precision: str) -> Backend:
    return OnnxRuntimeCpu(graph, threads=threads)


def _openvino(execution: Literal["f32", "bf16"]) -> Opener:
    def open_it(graph: bytes, threads: int, precision: str) -> Backend:
        from edge_runtime.backends.openvino import OpenVino

        return OpenVino(graph, threads=threads, execution=execution)

    return open_it


def _onnxruntime_cuda(graph: bytes, threads: int, precision: str) -> Backend:
    from edge_runtime.backends.onnxruntime_cuda import OnnxRuntimeCuda

    return OnnxRuntimeCuda(graph)


def _tensorrt(flavour: str) -> Opener:
    def open_it(graph: bytes, threads: int, precision: str) -> Backend:
        from edge_runtime.backends.tensorrt import open_tensorrt

        return open_tensorrt(flavour, graph, precision)

    return open_it


BACKENDS: dict[str, Opener] = {
    "onnxruntime-cpu": _onnxruntime,
    "openvino": _openvino("f32"),
    "openvino-bf16": _openvino("bf16"),
    "onnxruntime-cuda": _onnxruntime_cuda,
    "tensorrt": _tensorrt("tensorrt"),
    "tensorrt_rtx": _tensorrt("tensorrt_rtx"),
}

BACKEND_NAMES = (*BACKENDS, "auto")
"""What a run can be asked for: one of them, or the fastest here (auto.py)."""

EXPERIMENTAL = ("onnxruntime-cuda", "tensorrt", "tensorrt_rtx")
"""Those that have never run on a GPU so far: their calls are held to published bindings and to stand-ins."""


def open_backend(name: str, detector_onnx: bytes, *, threads: int = 0, precision: str = "fp32") -> Backend:
    """The named backend around a detector graph; raises ConfigError for an unknown name, BackendError or
    MissingExtraError where it cannot run here.

    threads: of CPU backends; 0 uses every core. precision: the graph's, by which TensorRT's engines are told apart.
    """
    if name not in BACKENDS:
        raise ConfigError(f"--backend is {name}, {expected_name(BACKEND_NAMES, name)}")
    return BACKENDS[name](detector_onnx, threads, precision)


def present_backends() -> list[str]:
    """Names of the CPU backends whose package is installed here; those of GPUs are asked for by name."""
    has_openvino = importlib.util.find_spec("openvino") is not None
    return ["onnxruntime-cpu", *(["openvino"] if has_openvino else [])]
