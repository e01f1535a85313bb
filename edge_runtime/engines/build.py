"""Building an engine from an ONNX graph, by one path for every TensorRT: strongly typed, the precision in the graph."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.engines.flavour import Flavour
from edge_runtime.errors import BackendError, BundleError, ConfigError
from edge_runtime.files import write_atomically
from edge_runtime.onnx_file import check_onnx

__all__ = ["BuildSettings", "build_engine", "check_free_memory"]

logger = logging.getLogger(__name__)

MEBIBYTE = 1 << 20
LEAST_FREE_BYTES = 1024 * MEBIBYTE
"""Of memory, before a build: TensorRT's libraries and tactics take most of it, and a small board without it is killed
in the middle."""
MEMORY_FILE = Path("/proc/meminfo")
LARGEST_BATCH_WITHOUT_NAME = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildSettings:
    """What a build may take, and for which batches."""

    workspace_bytes: int = 512 * MEBIBYTE
    """Scratch memory that tactics may use"""
    largest_batch: int = LARGEST_BATCH_WITHOUT_NAME
    """Of a graph with a dynamic batch: its profile runs from 1 to this, tuned for this"""

    def __post_init__(self) -> None:
        if self.workspace_bytes < MEBIBYTE:
            raise ConfigError(f"workspace is {self.workspace_bytes} bytes, expected {MEBIBYTE} (1 MiB) or more")
        if self.largest_batch < 1:
            raise ConfigError(f"largest batch is {self.largest_batch}, expected 1 or more")


def check_free_memory(file: Path = MEMORY_FILE) -> None:
    """Raise BackendError where less memory is free than a build needs; silent where the system does not tell."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    if free is not None and free < LEAST_FREE_BYTES:
        raise BackendError(
            f"{free // MEBIBYTE} MiB of memory are free, a build needs {LEAST_FREE_BYTES // MEBIBYTE} MiB: stop other "
            "programs or add swap, or use --force"
        )


def build_engine(
    flavour: Flavour, graph: bytes, settings: BuildSettings | None = None, timing_cache: Path | None = None
) -> bytes:
    """The serialized engine of an ONNX graph.

    timing_cache: file with the tactics' times of earlier builds, read and written; for one device and release.
    Raises BackendError with TensorRT's own reasons where it takes the graph or the build fails.
    """
    settings, trt, log = settings or BuildSettings(), flavour.trt, flavour.log()
    try:
        check_onnx(graph, "the graph")
    except BundleError as error:
        raise BackendError(f"{flavour.title} cannot parse the graph: {error}; export it again") from error
    builder = trt.Builder(log.adapter)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log.adapter)
    if not parser.parse(graph):
        raise BackendError(
            f"{flavour.title} cannot parse the graph: {_reasons(parser) or log.reasons()}; export it again"
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, settings.workspace_bytes)
    config.progress_monitor = _monitor(trt)
    _add_profile(builder, network, config, settings)
    cache = _read_timing_cache(config, timing_cache) if flavour.times_tactics else None
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendError(f"{flavour.title} cannot build the engine: {log.reasons()}")
    if cache is not None and timing_cache is not None:
        write_atomically(timing_cache, bytes(config.get_timing_cache().serialize()))
    return bytes(engine)


def _reasons(parser: Any) -> str:
    """The parser's errors in one line, each with the node and operator it met them at."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    return "; ".join(
        " ".join(f"{error.node_operator()} {error.node_name()}: {error.desc()}".split()) for error in errors
    )


def _add_profile(builder: Any, network: Any, config: Any, settings: BuildSettings) -> None:
    """A profile where an input's batch is dynamic: without one TensorRT refuses to build."""
    profile = None
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile = profile or builder.create_optimization_profile()
            largest = (settings.largest_batch, *shape[1:])
            profile.set_shape(tensor.name, (1, *shape[1:]), largest, largest)
    if profile is not None:
        config.add_optimization_profile(profile)


def _read_timing_cache(config: Any, file: Path | None) -> Any:
    if file is None:
        return None
    content = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(content)
    if not config.set_timing_cache(cache, False):
        logger.info("%s is of another device or release; its times are measured anew", file)
        config.set_timing_cache(config.create_timing_cache(b""), False)
    return cache


def _monitor(trt: Any) -> Any:
    """Tells the log how far each phase of a build is."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # the base is known at run time alone
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            if parent_phase is None:
                logger.info("%s: %d steps", phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            logger.debug("%s: %d of %d", phase_name, step + 1, self.steps.get(phase_name, 0))
            return True

        def phase_finish(self, phase_name: str) -> None:
            logger.debug("%s: done", phase_name)

    return Monitor()
