"""TensorRT on the GPU, natively: pinned or mapped buffers, a stream of its own, one CUDA graph a frame.

Not executed on a GPU so far: its calls are held to the published bindings of TensorRT 10.3, 10.16 and 11.4 and to
TensorRT-RTX 1.7, and its order to a stand-in, see docs/tensorrt.md.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.contract import DETECTOR_OUTPUTS, RawOutputs, check_outputs
from edge_runtime.engines import BuildSettings, EngineCache, EngineKey, Flavour, build_engine, this_device
from edge_runtime.engines.build import check_free_memory
from edge_runtime.engines.cuda import Cuda, array_at
from edge_runtime.errors import BackendError, ConfigError

__all__ = ["TensorRT", "open_tensorrt"]

logger = logging.getLogger(__name__)

IoMode = Literal["copy", "mapped"]
WARM_UP = 2
"""Runs before the graph is captured: the first ones allocate."""


@dataclass(frozen=True, slots=True)
class _Buffer:
    """One tensor's memory."""

    name: str
    host: NDArray[Any]
    """The page-locked memory as an array"""
    host_address: int
    device_address: int
    is_input: bool


class TensorRT:
    """A deserialized engine with static shapes. Not thread-safe; close it, or use it as a context manager."""

    def __init__(self, engine: bytes, flavour: Flavour, *, io: IoMode = "copy", cuda: Cuda | None = None) -> None:
        """engine: built for this device, see edge_runtime.engines. io: `copy` moves frames to the device and results
        back; `mapped` lets the device read and write the host's memory in place, which boards whose CPU and GPU share
        it may do faster.

        Raises BackendError where the engine does not load or is not a detector's.
        """
        if io not in ("copy", "mapped"):
            raise ConfigError(f"io is {io!r}, expected copy or mapped")
        self.name = flavour.name
        self._io, self._trt, self._log = io, flavour.trt, flavour.log()
        self._cuda = cuda or Cuda()
        self._graph: Any = None
        self._buffers: list[_Buffer] = []
        self._runtime = self._trt.Runtime(self._log.adapter)
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise BackendError(f"{flavour.title} cannot load the engine: {self._log.reasons()}; build it again")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise BackendError(f"{flavour.title} cannot run the engine: {self._log.reasons()}")
        self._stream = self._cuda.new_stream()
        try:
            self._allocate()
            check_outputs([name for name in DETECTOR_OUTPUTS if name in {item.name for item in self._buffers}])
            self._warm_up()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> TensorRT:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        """Raw outputs for (1, H, W, C) uint8 network inputs. Raises BackendError for another shape, and for CUDA's."""
        (frame,) = [item for item in self._buffers if item.is_input]
        if inputs.shape != frame.host.shape or inputs.dtype != frame.host.dtype:
            raise BackendError(
                f"{self.name} failed: input is {inputs.shape} {inputs.dtype}, expected {frame.host.shape}"
            )
        np.copyto(frame.host, inputs)
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._queue()
        self._cuda.synchronize(self._stream)
        found = {item.name: item.host for item in self._buffers}
        # The next run writes into the same memory.
        return RawOutputs(*(found[name].copy() for name in DETECTOR_OUTPUTS))

    def close(self) -> None:
        """Give memory, graph and stream back."""
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None
        for item in self._buffers:
            if self._io == "copy":
                self._cuda.free_device(item.device_address)
            self._cuda.free_host(item.host_address)
        self._buffers = []
        if self._stream is not None:
            self._cuda.destroy_stream(self._stream)
            self._stream = None

    def _allocate(self) -> None:
        engine, trt = self._engine, self._trt
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            shape = tuple(engine.get_tensor_shape(name))
            if -1 in shape:
                raise BackendError(f"{name} has the dynamic shape {shape}, expected a detector of batch 1")
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
            n_bytes = max(1, int(np.prod(shape)) * dtype.itemsize)
            if self._io == "mapped":
                host, device = self._cuda.new_mapped_memory(n_bytes)
            else:
                host = self._cuda.new_pinned_memory(n_bytes)
                device = self._cuda.new_device_memory(n_bytes)
            is_input = engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT
            self._buffers.append(_Buffer(name, array_at(host, shape, dtype), host, device, is_input))
            if not self._context.set_tensor_address(name, device):
                raise BackendError(f"TensorRT does not take the address of {name}: {self._log.reasons()}")

    def _warm_up(self) -> None:
        for _ in range(WARM_UP):
            self._queue()
            self._cuda.synchronize(self._stream)
        try:
            self._graph = self._cuda.capture(self._stream, self._queue)
        except BackendError as error:
            logger.warning("%s runs without a CUDA graph, which this engine does not allow: %s", self.name, error)

    def _queue(self) -> None:
        """Queue one frame: to the device, through the engine, back."""
        copies = self._io == "copy"
        for item in self._buffers:
            if copies and item.is_input:
                self._cuda.copy_to_device(item.device_address, item.host_address, item.host.nbytes, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise BackendError(f"TensorRT cannot queue the engine: {self._log.reasons()}")
        for item in self._buffers:
            if copies and not item.is_input:
                self._cuda.copy_to_host(item.host_address, item.device_address, item.host.nbytes, self._stream)


def open_tensorrt(flavour_name: str, graph: bytes, precision: str, *, io: IoMode = "copy") -> TensorRT:
    """The backend of a detector graph: its engine from the cache, built first where there is none that loads.

    Raises BackendError where there is no GPU, MissingExtraError where TensorRT or cuda-bindings are not installed.
    """
    flavour, device = Flavour.load(flavour_name), this_device()
    if not device.is_present:
        raise BackendError(f"{flavour.title} needs an NVIDIA GPU: {device.missing}")
    settings, cache = BuildSettings(), EngineCache()
    key = EngineKey.of(graph, flavour, device, precision, settings)

    def build() -> bytes:
        check_free_memory()
        logger.warning("%s builds an engine for %s, once; this takes from seconds to minutes", flavour.title, device)
        return build_engine(flavour, graph, settings, cache.timing_file(key))

    def loads(engine: bytes) -> bool:
        return flavour.trt.Runtime(flavour.log().adapter).deserialize_cuda_engine(engine) is not None

    return TensorRT(cache.get(key, build, loads=loads).engine, flavour, io=io)
