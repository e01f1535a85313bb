"""The verdict of a parity check: every output against its reference, and the decisions that follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import BUDGETS, Budget
from edge_runtime.bundle.comparison import Comparison, Outputs, compare
from edge_runtime.files import finite_or_none
from edge_runtime.metrics import auroc, rank_correlation
from edge_runtime.model.score import Decision

__all__ = ["UNKNOWN", "Check", "GateReport", "compare_outputs"]

MEDIAN_SCORE = 0.0
"""Of the training images, by either decision rule; 1 is the calibrated limit."""

UNKNOWN = -1
"""Label of a frame that is neither known normal (0) nor known anomalous (1)."""


@dataclass(frozen=True, slots=True)
class Check:
    """A report, and what it was made from: to keep the worst frame where it failed."""

    report: GateReport
    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    reference: Outputs
    actual: Outputs


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
    altered: tuple[str, ...] = ()
    """Files and parts of the manifest that are not, byte for byte, those the reference was taken from"""
    precision: str = "fp32"
    budget: Budget = BUDGETS["fp32"]
    flips_beyond_band: int = 0
    """Those of the flips whose reference score lies outside the budget's band around the threshold"""
    auroc: tuple[float, float] | None = None
    """Of the reference's and of the actual scores; None where no frame is known to be anomalous"""
    n_pairs: int = 0
    """Of a normal and an anomalous frame, which the AUROC counts"""

    @property
    def title(self) -> str:
        """What was compared: precision, backend and reference."""
        return f"{self.precision} {self.backend} against {self.reference}"

    @property
    def passed(self) -> bool:
        """Whether everything lies within the budget."""
        return not self.failures()

    def failures(self) -> list[str]:
        """One line for each thing that failed, empty where the gate passed."""
        return list(self._failures())

    def _failures(self) -> Iterator[str]:
        budget = self.budget
        for item in self.comparisons:
            if not item.passed:
                yield (
                    f"{item.where} differs from {self.reference}: max error {item.max_error:.3g} at frame "
                    f"{item.worst_frame}, allowed {item.tolerance.atol:g} + {item.tolerance.rtol:g} x |reference|"
                )
        for name in self.altered:
            yield f"{name} is not what was exported: its SHA-256 differs from the one the golden samples vouch for"
        if self.flips_beyond_band > budget.max_flips * self.n_frames:
            allowed = f"at most {budget.max_flips:.1%}" if budget.max_flips else "none"
            beyond = f" further than {budget.band:.1%} from the threshold" if budget.band else ""
            yield f"{self.flips_beyond_band} of {self.n_frames} decisions flip{beyond}; expected {allowed}"
        if not self.score_rank_correlation >= budget.min_rank_correlation:
            yield (
                f"rank correlation of scores is {self.score_rank_correlation:.6f}, "
                f"expected at least {budget.min_rank_correlation}"
            )
        if self.auroc is not None and not self._auroc_shift_beyond_a_pair <= budget.max_auroc_shift:
            yield (
                f"AUROC shifts from {self.auroc[0]:.4f} to {self.auroc[1]:.4f}, "
                f"expected a shift of at most {budget.max_auroc_shift:g}"
            )

    @property
    def _auroc_shift_beyond_a_pair(self) -> float:
        """The shift, but for one pair of a normal and an anomalous frame in another order: few frames have no finer."""
        assert self.auroc is not None, "asked where both are known"
        return abs(self.auroc[1] - self.auroc[0]) - 1.0 / max(self.n_pairs, 1) - 1e-12

    def to_json(self) -> dict[str, Any]:
        """The report for the manifest and for --json; an infinite error or tolerance becomes null."""
        return {
            "precision": self.precision,
            "backend": self.backend,
            "reference": self.reference,
            "n_frames": self.n_frames,
            "passed": self.passed,
            "failures": self.failures(),
            "decision_flips": self.decision_flips,
            "flips_beyond_band": self.flips_beyond_band,
            "score_rank_correlation": finite_or_none(self.score_rank_correlation),
            "auroc": list(self.auroc) if self.auroc is not None else None,
            "budget": {
                "band": self.budget.band,
                "max_flips": self.budget.max_flips,
                "min_rank_correlation": self.budget.min_rank_correlation,
                "max_auroc_shift": self.budget.max_auroc_shift,
            },
            "altered": list(self.altered),
            "outputs": {
                item.where: {
                    "max": finite_or_none(item.max_error),
                    "p99": finite_or_none(item.p99_error),
                    "mean": finite_or_none(item.mean_error),
                    "atol": finite_or_none(item.tolerance.atol),
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
    precision: str = "fp32",
    graph: str = "detector.onnx",
    budget: Budget = BUDGETS["fp32"],
    labels: NDArray[np.int8] | None = None,
    groups: NDArray[np.int64] | None = None,
) -> GateReport:
    """Every output of the graphs against its reference, and the decisions that follow from them.

    labels: (F,) of each frame 0 normal, 1 anomalous, UNKNOWN; with both kinds among them separation is compared too.
    groups: (N,) the frame that each input is a tile of; None: each is a frame. A frame's criteria are the largest of
    its tiles'.
    """
    tolerances = budget.tolerances
    same_shape = actual.criteria.shape == reference.criteria.shape
    if same_shape:
        rows = [
            compare(f"{graph}: {name}", reference.criteria[:, k], actual.criteria[:, k], tolerances["criteria"])
            for k, name in enumerate(criteria)
        ]
    else:
        rows = [compare(f"{graph}: criteria", reference.criteria, actual.criteria, tolerances["criteria"])]
    rows += [
        compare(f"{graph}: latent", reference.latent, actual.latent, tolerances["latent"]),
        compare(f"{graph}: anomaly_map", reference.anomaly_map, actual.anomaly_map, tolerances["anomaly_map"]),
    ]
    for where, name, expected, came in (
        ("encoder.onnx: latent", "latent", reference.encoder_latent, actual.encoder_latent),
        ("decoder.onnx: x_hat", "x_hat", reference.x_hat, actual.x_hat),
    ):
        if expected is not None and came is not None:
            rows.append(compare(where, expected, came, tolerances[name]))
    n_frames = len(reference.criteria) if groups is None else int(groups.max()) + 1
    report = GateReport(
        backend, against, n_frames, tuple(rows), n_frames, 0.0, (), precision, budget, flips_beyond_band=n_frames
    )
    if not (same_shape and np.isfinite(actual.criteria).all()):
        return report
    expected_scores, scores = (decision.score(_worst(side.criteria, groups)) for side in (reference, actual))
    # Below the median image lie logarithms of nearly nothing, where rounding shows and nothing is decided.
    above, came = (np.maximum(side, MEDIAN_SCORE) for side in (expected_scores, scores))
    rows.append(compare(f"{graph}: score", above, came, tolerances["score"]))
    flips = decision.is_anomalous(expected_scores) != decision.is_anomalous(scores)
    near = np.abs(expected_scores - decision.threshold) <= budget.band * max(1.0, abs(decision.threshold))
    return replace(
        report,
        comparisons=tuple(rows),
        decision_flips=int(flips.sum()),
        flips_beyond_band=int((flips & ~near).sum()),
        score_rank_correlation=rank_correlation(expected_scores, scores),
        auroc=_aurocs(expected_scores, scores, labels),
        n_pairs=0 if labels is None else int((labels == 0).sum() * (labels == 1).sum()),
    )


def _worst(criteria: NDArray[Any], groups: NDArray[np.int64] | None) -> NDArray[Any]:
    """(F, K): of each criterion the largest over a frame's tiles."""
    if groups is None:
        return criteria
    worst = np.full((int(groups.max()) + 1, criteria.shape[1]), -np.inf)
    np.maximum.at(worst, groups, criteria)
    return worst


def _aurocs(
    expected: NDArray[np.float64], came: NDArray[np.float64], labels: NDArray[np.int8] | None
) -> tuple[float, float] | None:
    if labels is None or not {0, 1} <= set(labels.tolist()):
        return None
    known = labels != UNKNOWN
    anomalous = labels[known] == 1
    return auroc(expected[known], anomalous), auroc(came[known], anomalous)
