"""How far one output of two implementations lies apart: the comparison behind every parity check."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import Tolerance

__all__ = ["Comparison", "Outputs", "allowed", "compare"]


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

    def joined(self, other: Outputs) -> Outputs:
        """These and then the others', which the same graphs gave."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return Outputs(*(None if a is None or b is None else np.concatenate((a, b)) for a, b in pairs))  # type: ignore[arg-type]


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
    snr_db: float | None = None
    """What the reference varies by from frame to frame over the noise, in decibels; None where no frame is known to
    differ from normal ones, infinite where there is no noise"""
    too_noisy: bool = False
    """Whether that is below the tolerance's ratio, of noise that counts"""

    @property
    def max_in_spreads(self) -> float | None:
        """The largest difference in units of the spread."""
        return self.max_error / self.spread if self.spread else None


def compare(
    where: str,
    reference: NDArray[Any],
    actual: NDArray[Any],
    tolerance: Tolerance,
    *,
    spread: float | None = None,
    contrast: bool = False,
) -> Comparison:
    """One output against its reference, element by element; another shape or a value that is not finite fails.

    contrast: some frames are known to differ from normal ones, so that the output must too, beyond its noise.
    """
    infinite = float("inf")
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(where, infinite, infinite, infinite, tolerance, 0, False, spread)
    expected = np.asarray(reference, dtype=np.float64)
    error = np.abs(np.asarray(actual, dtype=np.float64) - expected)
    excess = error - allowed(expected, tolerance)
    worst_frame = int(np.unravel_index(int(np.argmax(excess)), excess.shape)[0])
    snr_db = _snr_db(expected, error) if contrast else None
    too_noisy = snr_db is not None and not snr_db >= tolerance.min_snr_db and not _is_quiet(expected, error, tolerance)
    return Comparison(
        where,
        float(error.max()),
        float(np.quantile(error, 0.99)),
        float(error.mean()),
        tolerance,
        worst_frame,
        bool((excess <= 0).all()) and not too_noisy,
        spread,
        snr_db,
        too_noisy,
    )


def allowed(expected: NDArray[np.float64], tolerance: Tolerance) -> NDArray[np.float64]:
    """What each value may differ by from the expected one, element by element."""
    within: NDArray[np.float64] = _absolute(expected, tolerance) + tolerance.rtol * np.abs(expected - tolerance.origin)
    return within


def _absolute(expected: NDArray[np.float64], tolerance: Tolerance) -> Any:
    """What each value may be off by, whatever it is itself."""
    atol: Any = tolerance.atol
    if (tolerance.of_largest or tolerance.of_peak) and expected.size:
        largest = np.abs(expected).max(axis=tuple(range(1, expected.ndim)), keepdims=True)
        atol = atol + tolerance.of_largest * np.maximum(0.0, largest - 1.0) + tolerance.of_peak * largest.max()
    return np.minimum(atol, tolerance.most_atol)


def _snr_db(expected: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Signal-to-noise ratio about the mean over frames: what is the same for all of them tells nothing."""
    signal, noise = float(expected.var(axis=0).mean()), float(np.square(error).mean())
    if not noise:
        return float("inf")
    return 10.0 * math.log10(signal / noise) if signal else float("-inf")


def _is_quiet(expected: NDArray[np.float64], error: NDArray[np.float64], tolerance: Tolerance) -> bool:
    """Whether the error is too small to be noise, however little the frames differ."""
    size, largest = (math.sqrt(float(np.square(values).mean())) for values in (error, expected))
    return size <= max(tolerance.quiet, tolerance.quiet_share * largest)
