"""onnxruntime on the CPU: the backend that every machine has."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.contract import RawOutputs, check_outputs
from edge_runtime.errors import BackendError, ConfigError
from edge_runtime.extras import require
from edge_runtime.onnx_file import check_onnx

__all__ = ["OnnxRuntimeCpu", "onnx_session", "run_session", "usable_cores"]

CPU_PROVIDER = "CPUExecutionProvider"


class OnnxRuntimeCpu:
    """onnxruntime on the CPU."""

    name = "onnxruntime-cpu"

    def __init__(self, detector_onnx: bytes, *, threads: int = 0) -> None:
        """threads: for one operator; 0 lets onnxruntime use every core this process may run on."""
        self._session = onnx_session(detector_onnx, threads=threads)
        check_outputs([output.name for output in self._session.get_outputs()])
        self._input = self._session.get_inputs()[0].name

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        """Raw outputs for (1, H, W, C) uint8 network inputs."""
        return RawOutputs(*run_session(self._session, {self._input: inputs}))


def onnx_session(model: bytes, *, threads: int = 0, provider: str = CPU_PROVIDER, needs: str = "") -> Any:
    """An onnxruntime session; raises BackendError where the model does not load, refers to data outside it, or another
    provider would run. needs: what to do then, for the message."""
    if threads < 0:
        raise ConfigError(f"--threads is {threads}, expected 0 (all cores) or more")
    ort = require("onnxruntime", extra="cpu", purpose="runs on the CPU")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or usable_cores()
    # Else it guesses the format by the bytes, and takes one of its own that check_onnx does not read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    try:
        check_onnx(model, "the model")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a provider that is not there is an error below
            session = ort.InferenceSession(model, options, providers=[provider])
    except Exception as error:
        raise BackendError(f"onnxruntime cannot load the graph: {error}; export the bundle again") from error
    if session.get_providers()[0] != provider:
        lacks = needs or "this machine or this onnxruntime lacks what it needs"
        raise BackendError(f"asked onnxruntime for {provider}, it would run {session.get_providers()[0]}; {lacks}")
    return session


def run_session(session: Any, feeds: dict[str, NDArray[Any]]) -> Sequence[NDArray[np.float32]]:
    """All outputs of a session, in order; raises BackendError where the engine fails."""
    try:
        outputs: Sequence[NDArray[np.float32]] = session.run(None, feeds)
    except Exception as error:
        raise BackendError(f"onnxruntime failed: {error}") from error
    return outputs


def usable_cores() -> int:
    """Cores this process may run on; onnxruntime's own count ignores taskset and container limits."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
