"""How far the outputs of two implementations lie apart: the comparison behind every parity check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.metrics import rank_correlation
from edge_runtime.score import Decision

__all__ = ["Comparison", "GateReport", "Outputs", "TOLERANCES", "Tolerance", "compare", "compare_outputs"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An output passes where |actual - reference| <= atol + rtol |reference|, element by element."""

    atol: float
    rtol: float


TOLERANCES: Mapping[str, Tolerance] = {
    # Convolutions summed in another order differ by a few float32 steps (1.2e-7) of the largest partial sum; over a
    # dozen layers 1e-6 was seen on reconstructions in [0, 1]. Ten times that still shows one perturbed weight.
    "x_hat": Tolerance(atol=1e-5, rtol=0.0),
    # A squared difference doubles the error of x_hat, to which the detector's own code adds; 7e-6 was seen on noise.
    "anomaly_map": Tolerance(atol=5e-5, rtol=0.0),
    # Codes are unbounded sums over some thousand features; their error grows with their size.
    "latent": Tolerance(atol=1e-4, rtol=1e-4),
    # sqrt of a sum of up to a million squares, and a sum of squared codes, both carry the relative error above.
    "criteria": Tolerance(atol=1e-4, rtol=1e-4),
    # Grey levels: area interpolation rounds differently in OpenCV's vectorised paths.
    "network_input": Tolerance(atol=1.0, rtol=0.0),
    # Integer arithmetic on the same grey levels.
    "self_reference": Tolerance(atol=0.0, rtol=0.0),
}
"""FP32 graphs against PyTorch in float32; also the device's preprocessing against the one training used."""

MIN_RANK_CORRELATION = 0.999
"""Of fused scores; FP32 errors may only swap near-ties."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Every output of the three graphs, or of PyTorch, for the same N network inputs."""

    criteria: NDArray[np.floating[Any]]
    """(N, K)"""
    latent: NDArray[np.floating[Any]]
    """(N, D) or (N, D, h, w), the detector's"""
    anomaly_map: NDArray[np.floating[Any]]
    """(N, h, w)"""
    encoder_latent: NDArray[np.floating[Any]]
    """(N, D) or (N, D, h, w), the encoder's"""
    x_hat: NDArray[np.floating[Any]]
    """(N, C, H, W), the decoder's for the reference codes"""


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


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict of one parity check."""

    backend: str
    reference: str
    n_frames: int
    comparisons: tuple[Comparison, ...]
    decision_flips: int
    """Frames on whose anomaly the two sides disagree"""
    score_rank_correlation: float
    altered_graphs: tuple[str, ...] = ()
    """Graphs that are not, byte for byte, those the reference was taken from"""

    @property
    def passed(self) -> bool:
        """Whether every output lies within its tolerance and no decision flips."""
        return not self.failures()

    def failures(self) -> list[str]:
        """One line for each thing that failed, empty where the gate passed."""
        lines = [
            f"{item.where} differs from {self.reference}: max error {item.max_error:.3g} at frame {item.worst_frame}, "
            f"allowed {item.tolerance.atol:g} + {item.tolerance.rtol:g} x |reference|"
            for item in self.comparisons
            if not item.passed
        ]
        lines += [
            f"{name} is not the graph that was exported: its SHA-256 differs from the one the golden samples vouch for"
            for name in self.altered_graphs
        ]
        if self.decision_flips:
            lines.append(f"{self.decision_flips} of {self.n_frames} decisions flip; expected none")
        if not self.score_rank_correlation >= MIN_RANK_CORRELATION:
            lines.append(
                f"rank correlation of scores is {self.score_rank_correlation:.6f}, "
                f"expected at least {MIN_RANK_CORRELATION}"
            )
        return lines

    def to_json(self) -> dict[str, Any]:
        """The report for the manifest and for --json; an infinite error becomes null."""
        return {
            "backend": self.backend,
            "reference": self.reference,
            "n_frames": self.n_frames,
            "passed": self.passed,
            "decision_flips": self.decision_flips,
            "score_rank_correlation": _finite(self.score_rank_correlation),
            "altered_graphs": list(self.altered_graphs),
            "outputs": {
                item.where: {
                    "max": _finite(item.max_error),
                    "p99": _finite(item.p99_error),
                    "mean": _finite(item.mean_error),
                    "atol": item.tolerance.atol,
                    "rtol": item.tolerance.rtol,
                    "passed": item.passed,
                }
                for item in self.comparisons
            },
        }


def compare_outputs(
    reference: Outputs,
    actual: Outputs,
    criteria: Sequence[str],
    decision: Decision,
    *,
    backend: str,
    against: str,
) -> GateReport:
    """Every output of the graphs against its reference, and the decisions that follow from them."""
    rows = [
        compare(f"detector.onnx: {name}", reference.criteria[:, k], actual.criteria[:, k], TOLERANCES["criteria"])
        for k, name in enumerate(criteria)
        if actual.criteria.shape == reference.criteria.shape
    ]
    if not rows:
        rows = [compare("detector.onnx: criteria", reference.criteria, actual.criteria, TOLERANCES["criteria"])]
    rows += [
        compare("detector.onnx: latent", reference.latent, actual.latent, TOLERANCES["latent"]),
        compare("detector.onnx: anomaly_map", reference.anomaly_map, actual.anomaly_map, TOLERANCES["anomaly_map"]),
        compare("encoder.onnx: latent", reference.encoder_latent, actual.encoder_latent, TOLERANCES["latent"]),
        compare("decoder.onnx: x_hat", reference.x_hat, actual.x_hat, TOLERANCES["x_hat"]),
    ]
    n_frames = len(reference.criteria)
    flips, correlation = n_frames, 0.0
    if actual.criteria.shape == reference.criteria.shape and np.isfinite(actual.criteria).all():
        expected, came = decision.score(reference.criteria), decision.score(actual.criteria)
        flips = int((decision.is_anomalous(expected) != decision.is_anomalous(came)).sum())
        correlation = rank_correlation(expected, came)
    return GateReport(backend, against, n_frames, tuple(rows), flips, correlation)


def compare(where: str, reference: NDArray[Any], actual: NDArray[Any], tolerance: Tolerance) -> Comparison:
    """One output against its reference, element by element; another shape or a value that is not finite fails."""
    infinite = float("inf")
    if reference.shape != actual.shape or not np.isfinite(actual).all():
        return Comparison(where, infinite, infinite, infinite, tolerance, 0, False)
    expected = np.asarray(reference, dtype=np.float64)
    error = np.abs(np.asarray(actual, dtype=np.float64) - expected)
    excess = error - (tolerance.atol + tolerance.rtol * np.abs(expected))
    worst_frame = int(np.unravel_index(int(np.argmax(excess)), excess.shape)[0])
    return Comparison(
        where,
        float(error.max()),
        float(np.quantile(error, 0.99)),
        float(error.mean()),
        tolerance,
        worst_frame,
        bool((excess <= 0).all()),
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
