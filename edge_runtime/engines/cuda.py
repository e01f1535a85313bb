"""The few CUDA runtime calls that TensorRT needs, through cuda-bindings of CUDA 12 or 13; errors raised, not returned.

Only runtime API functions whose signature is the same in both; no contexts of our own.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BackendError
from edge_runtime.extras import require

__all__ = ["Cuda", "array_at"]

logger = logging.getLogger(__name__)


class Cuda:
    """The CUDA runtime. Addresses are ints, on the device unless said otherwise."""

    def __init__(self) -> None:
        """Raises MissingExtraError without cuda-bindings; a machine without a GPU fails at the first call."""
        self._runtime = require("cuda.bindings.runtime", extra="tensorrt", purpose="TensorRT runs")

    def device(self) -> tuple[str, str]:
        """Name and compute capability of the first device. Raises BackendError where there is none."""
        runtime = self._runtime
        count = self._call(runtime.cudaGetDeviceCount)
        if count < 1:
            raise BackendError("no CUDA device: expected one or more, cudaGetDeviceCount gave 0")
        properties = self._call(runtime.cudaGetDeviceProperties, 0)
        name = bytes(properties.name).partition(b"\0")[0].decode("utf-8", errors="replace")
        return name, f"{properties.major}.{properties.minor}"

    def new_stream(self) -> Any:
        """A stream beside the default one, which TensorRT would synchronise more often; int() gives its handle."""
        runtime = self._runtime
        return self._call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)

    def new_device_memory(self, n_bytes: int) -> int:
        """Address of device memory."""
        return int(self._call(self._runtime.cudaMalloc, n_bytes))

    def new_pinned_memory(self, n_bytes: int) -> int:
        """Host address of page-locked memory, which copies need to run beside the CPU and inside a CUDA graph."""
        return int(self._call(self._runtime.cudaMallocHost, n_bytes))

    def new_mapped_memory(self, n_bytes: int) -> tuple[int, int]:
        """Host and device address of page-locked memory that the device reads and writes in place."""
        runtime = self._runtime
        host = int(self._call(runtime.cudaHostAlloc, n_bytes, runtime.cudaHostAllocMapped))
        try:
            return host, int(self._call(runtime.cudaHostGetDevicePointer, host, 0))
        except BackendError:
            self.free_host(host)
            raise

    def copy_to_device(self, device: int, host: int, n_bytes: int, stream: Any) -> None:
        """Queue a copy on the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(self._runtime.cudaMemcpyAsync, device, host, n_bytes, kind, stream)

    def copy_to_host(self, host: int, device: int, n_bytes: int, stream: Any) -> None:
        """Queue a copy on the stream."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(self._runtime.cudaMemcpyAsync, host, device, n_bytes, kind, stream)

    def synchronize(self, stream: Any) -> None:
        """Wait for everything queued on the stream; errors of the device's work come up here."""
        self._call(self._runtime.cudaStreamSynchronize, stream)

    def capture(self, stream: Any, queue_work: Callable[[], None]) -> Any:
        """What queue_work queues on the stream, as a graph that launch repeats; nothing runs now."""
        runtime = self._runtime
        # Thread-local: other threads, a camera's for one, may go on with calls that a capture forbids.
        self._call(
            runtime.cudaStreamBeginCapture, stream, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            queue_work()
        except BaseException:
            self._let_go(runtime.cudaStreamEndCapture, stream)
            raise
        graph = self._call(runtime.cudaStreamEndCapture, stream)
        try:
            return self._call(runtime.cudaGraphInstantiate, graph, 0)
        finally:
            self._let_go(runtime.cudaGraphDestroy, graph)

    def launch(self, graph: Any, stream: Any) -> None:
        """Queue a captured graph on the stream."""
        self._call(self._runtime.cudaGraphLaunch, graph, stream)

    def free_device(self, address: int) -> None:
        """Give device memory back."""
        self._let_go(self._runtime.cudaFree, address)

    def free_host(self, address: int) -> None:
        """Give page-locked memory back; arrays over it must not be used any more."""
        self._let_go(self._runtime.cudaFreeHost, address)

    def destroy_stream(self, stream: Any) -> None:
        """Give a stream back."""
        self._let_go(self._runtime.cudaStreamDestroy, stream)

    def destroy_graph(self, graph: Any) -> None:
        """Give a captured graph back."""
        self._let_go(self._runtime.cudaGraphExecDestroy, graph)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """The one result of a CUDA function, None where it has none; BackendError where it failed."""
        status, *results = function(*arguments)
        if int(status) != 0:
            raise BackendError(f"{function.__name__} failed: {self._describe(status)}")
        return results[0] if results else None

    def _let_go(self, function: Callable[..., Any], thing: Any) -> None:
        """Call a function that gives something back; an error is told, and does not hide the one that led here."""
        status = function(thing)[0]
        if int(status) != 0:
            logger.debug("%s failed: %s", function.__name__, self._describe(status))

    def _describe(self, status: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(status)
        return f"{text.decode('ascii', errors='replace')} (CUDA error {int(status)})"


def array_at(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array over memory that somebody else owns, from its host address."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = (ctypes.c_ubyte * n_bytes).from_address(address)
    return np.frombuffer(memory, dtype=dtype).reshape(shape)
