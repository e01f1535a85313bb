"""onnxruntime on an NVIDIA GPU through its CUDA provider: for x86-64 machines with onnxruntime-gpu.

Not executed on a GPU so far. On a Jetson use TensorRT: the published wheels have no kernels for its GPUs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.contract import RawOutputs, check_outputs
from edge_runtime.backends.onnxruntime_cpu import onnx_session, run_session

__all__ = ["OnnxRuntimeCuda"]

NEEDS = (
    'onnxruntime-cuda needs an NVIDIA GPU with its driver, and pip install "edge-aae[gpu]" in place of [cpu]; '
    "--backend onnxruntime-cpu runs"
)


class OnnxRuntimeCuda:
    """onnxruntime through CUDA."""

    name = "onnxruntime-cuda"
    provider = "CUDAExecutionProvider"

    def __init__(self, detector_onnx: bytes) -> None:
        """Raises BackendError where onnxruntime would fall back to the CPU, or has no kernels for this GPU."""
        self._session = onnx_session(detector_onnx, provider=self.provider, needs=NEEDS)
        check_outputs([output.name for output in self._session.get_outputs()])
        frame = self._session.get_inputs()[0]
        self._input = frame.name
        # A wheel lists its providers whether or not it has kernels for the GPU: one real run tells.
        self.run(np.zeros(frame.shape, dtype=np.uint8))

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        """Raw outputs for (1, H, W, C) uint8 network inputs."""
        return RawOutputs(*run_session(self._session, {self._input: inputs}))
