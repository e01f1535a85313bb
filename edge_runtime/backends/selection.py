"""Backends by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from edge_runtime.backends.contract import Backend
from edge_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from edge_runtime.errors import ConfigError

__all__ = ["BACKENDS", "open_backend", "present_backends"]


def _onnxruntime(detector_onnx: bytes, threads: int) -> Backend:
    return OnnxRuntimeCpu(detector_onnx, threads=threads)


def _openvino(detector_onnx: bytes, threads: int) -> Backend:
    from edge_runtime.backends.openvino import OpenVino

    return OpenVino(detector_onnx, threads=threads)


def _openvino_bf16(detector_onnx: bytes, threads: int) -> Backend:
    from edge_runtime.backends.openvino import OpenVino

    return OpenVino(detector_onnx, threads=threads, execution="bf16")


BACKENDS: dict[str, Callable[[bytes, int], Backend]] = {
    "onnxruntime-cpu": _onnxruntime,
    "openvino": _openvino,
    "openvino-bf16": _openvino_bf16,
}


def open_backend(name: str, detector_onnx: bytes, *, threads: int = 0) -> Backend:
    """The named backend around a detector graph; raises ConfigError for an unknown name, BackendError or
    MissingExtraError where it cannot run here.
    """
    if name not in BACKENDS:
        raise ConfigError(f"--backend is {name}, expected one of {', '.join(BACKENDS)}")
    return BACKENDS[name](detector_onnx, threads)


def present_backends() -> list[str]:
    """Names of the backends whose package is installed here."""
    has_openvino = importlib.util.find_spec("openvino") is not None
    return ["onnxruntime-cpu", *(["openvino"] if has_openvino else [])]
