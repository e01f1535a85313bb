"""Inference engines behind one contract: a batch of network inputs in, raw criteria, latent and map out.

A backend that is named and is not the one that really runs is an error: engines fall back silently.
"""

from edge_runtime.backends.auto import AutoChoice, choose_backend
from edge_runtime.backends.contract import DETECTOR_OUTPUTS, Backend, RawOutputs
from edge_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu, onnx_session, run_session
from edge_runtime.backends.selection import BACKENDS, EXPERIMENTAL, open_backend, present_backends

__all__ = [
    "AutoChoice",
    "BACKENDS",
    "DETECTOR_OUTPUTS",
    "EXPERIMENTAL",
    "Backend",
    "OnnxRuntimeCpu",
    "RawOutputs",
    "choose_backend",
    "onnx_session",
    "open_backend",
    "present_backends",
    "run_session",
]
