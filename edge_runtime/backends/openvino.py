"""OpenVINO on the CPU: faster than onnxruntime on x86-64, in the precision that it is told to compute in."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.contract import DETECTOR_OUTPUTS, RawOutputs, check_outputs
from edge_runtime.backends.onnxruntime_cpu import usable_cores
from edge_runtime.errors import BackendError, BundleError, ConfigError
from edge_runtime.extras import require
from edge_runtime.onnx_file import check_onnx

__all__ = ["OpenVino"]

Execution = Literal["f32", "bf16"]


class OpenVino:
    """OpenVINO on the CPU, one synchronous request."""

    def __init__(self, detector_onnx: bytes, *, threads: int = 0, execution: Execution = "f32") -> None:
        """execution: what float layers compute in. OpenVINO's own choice is bf16 where the CPU has it; here it is f32
        unless asked for. threads: 0 uses every core this process may run on.

        Raises BackendError where the graph does not load, or another execution precision would be used.
        """
        if threads < 0:
            raise ConfigError(f"--threads is {threads}, expected 0 (all cores) or more")
        ov = require("openvino", extra="openvino", purpose="OpenVINO runs")
        self.name = "openvino" if execution == "f32" else f"openvino-{execution}"
        settings = {
            "INFERENCE_PRECISION_HINT": execution,
            "INFERENCE_NUM_THREADS": threads or usable_cores(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            check_onnx(detector_onnx, "the model")
            core = ov.Core()
            compiled = core.compile_model(core.read_model(detector_onnx, b""), "CPU", settings)
        except (RuntimeError, BundleError) as error:
            raise BackendError(f"OpenVINO cannot load the graph: {error}; export the bundle again") from error
        used = _short_name(compiled.get_property("INFERENCE_PRECISION_HINT"))
        if used != execution:
            raise BackendError(f"asked OpenVINO to compute in {execution}, it would use {used}; this CPU lacks it")
        # An output that is another tensor unchanged has both names.
        names = [next(iter(set(DETECTOR_OUTPUTS) & port.get_names()), port.get_any_name()) for port in compiled.outputs]
        check_outputs(names)
        self._request = compiled.create_infer_request()
        self._n_outputs = len(names)

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        """Raw outputs for (1, H, W, C) uint8 network inputs."""
        try:
            self._request.infer([np.ascontiguousarray(inputs)])
        except (RuntimeError, TypeError) as error:
            raise BackendError(f"OpenVINO failed: {error}") from error
        # The request's buffers are written again by the next run.
        return RawOutputs(*(self._request.get_output_tensor(i).data.copy() for i in range(self._n_outputs)))


def _short_name(element_type: Any) -> str:
    """`f32` for OpenVINO's <Type: 'float32'>."""
    return str(element_type.get_type_name())
