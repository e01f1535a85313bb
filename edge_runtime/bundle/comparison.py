"""How far one output of two implementations lies apart: the comparison behind every parity check."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import Tolerance

__all__ = ["Comparison", "Outputs", "compare"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every output of the graphs, or of PyTorch, for the same N network inputs."""

    criteria: NDArray[np.floating[Any]]
    """(N, K)"""
    latent: NDArray[np.floating[Any]]
    """(N, D) or (N, D, h, w), the detector's"""
    anomaly_map: NDArray[np.floating[Any]]
    """(N, h, w)"""
    encoder_latent: NDArray[np.floating[Any]] | None = None
    """(N, D) or (N, D, h, w), the encoder's; None where the detector alone ran"""
    x_hat: NDArray[np.floating[Any]] | None = None
    """(N, C, H, W), the decoder's for the reference codes; None likewise"""

    def at(self, inputs: NDArray[np.int64]) -> Outputs:
        """Those of some inputs, by number."""
        arrays = (getattr(self, field.name) for field in fields(self))
        return Outputs(*(None if array is None else array[inputs] for array in arrays))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far one output lies from its reference."""

    where: str
    """Graph and output, such as `decoder.onnx: x_hat`"""
    max_error: float
    """Largest absolute difference; infinite where shapes differ or a value is not finite"""
    p99_error: float
    mean_error: float
    tolerance: Tolerance
    worst_frame: int
    """Index of the frame with the largest excess"""
    passed: bool
    spread: float | None = None
    """Of a criterion, what it varies by over normal images; None of another output, or where it is not known"""

    @property
    def max_in_spreads(self) -> float | None:
        """The largest difference in units of the spread."""
        return self.max_error / self.spread if self.spread else None


def compare(
    where: str, reference: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance, *, spread: float | None = None
) -> Comparison:
    """One output against its reference, element by element; another shape or a value that is not finite fails."""
    infinite = float("inf")
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(where, infinite, infinite, infinite, tolerance, 0, False, spread)
    expected = np.asarray(reference, dtype=np.float64)
    error = np.abs(np.asarray(actual, dtype=np.float64) - expected)
    atol: Any = tolerance.atol
    if tolerance.of_largest and expected.size:
        largest = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
        atol = tolerance.atol + tolerance.of_largest * np.maximum(0.0, largest - 1.0)
    excess = error - (atol + tolerance.rtol * np.abs(expected - tolerance.origin))
    worst_frame = int(np.unravel_index(int(np.argmax(excess)), excess.shape)[0])
    return Comparison(
        where,
        float(error.max()),
        float(np.quantile(error, 0.99)),
        float(error.mean()),
        tolerance,
        worst_frame,
        bool((excess <= 0).all()),
        spread,
    )
