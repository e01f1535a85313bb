"""Which backend a machine should use: tried and timed, not guessed, and every one that lost says why."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np

from edge_runtime.backends.contract import Backend
from edge_runtime.backends.selection import open_backend
from edge_runtime.errors import BackendError, MissingExtraError

__all__ = ["AutoChoice", "choose_backend"]

ACCELERATED = ("tensorrt", "tensorrt_rtx", "onnxruntime-cuda")
"""The first of these that really runs wins: whatever GPU it has beats the CPU beside it."""

ON_CPU = ("openvino", "onnxruntime-cpu")
"""Timed against each other. OpenVINO in FP32: what computes in less is for those to name who have checked it."""

ROUNDS = 15
WARM_UP = 3


@dataclass(frozen=True, slots=True)
class AutoChoice:
    """The backend that won."""

    backend: Backend
    reasons: dict[str, str]
    """Every name that was looked at -> why it won or lost."""


def choose_backend(
    graph: bytes,
    input_shape: tuple[int, int, int],
    *,
    threads: int,
    precision: str,
    refused: Callable[[str], str | None],
) -> AutoChoice:
    """Open the best backend for a detector graph.

    input_shape: (height, width, channels) of one network input. refused: why a backend must not be used, such as a
    failed gate, or None. Raises BackendError where none runs.
    """
    reasons: dict[str, str] = {}

    def opened(name: str) -> Backend | None:
        reason = refused(name)
        if reason is None:
            try:
                return open_backend(name, graph, threads=threads, precision=precision)
            except MissingExtraError:
                reason = "not installed"
            except BackendError as error:
                reason = str(error).splitlines()[0]
        reasons[name] = reason
        return None

    for name in ACCELERATED:
        backend = opened(name)
        if backend is not None:
            reasons[name] = "runs on the GPU"
            return AutoChoice(backend, reasons)
    candidates = {name: backend for name in ON_CPU if (backend := opened(name)) is not None}
    if not candidates:
        lost = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise BackendError(f"no backend runs the graph here: {lost}")
    times_ms = _times_ms(candidates, np.zeros((1, *input_shape), dtype=np.uint8))
    winner = min(times_ms, key=times_ms.__getitem__)
    for name, time_ms in times_ms.items():
        reasons[name] = f"{time_ms:.2f} ms a frame" if len(times_ms) > 1 else "the only one that runs"
    return AutoChoice(candidates[winner], reasons)


def _times_ms(
    candidates: dict[str, Backend], frame: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
) -> dict[str, float]:
    """Median milliseconds of each, taking turns, so that a busy moment hits all alike."""
    if len(candidates) == 1:
        return dict.fromkeys(candidates, 0.0)
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for round_number in range(WARM_UP + ROUNDS):
        for name, backend in candidates.items():
            start = time.perf_counter()
            backend.run(frame)
            if round_number >= WARM_UP:
                times[name].append(1000.0 * (time.perf_counter() - start))
    return {name: median(values) for name, values in times.items()}
