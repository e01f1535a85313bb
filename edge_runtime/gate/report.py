"""The verdict of a parity check: every output against its reference, and the decisions that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import Budget, budget_of, detector_file
from edge_runtime.bundle.comparison import Comparison, Outputs, compare
from edge_runtime.files import finite_or_none
from edge_runtime.gate.decisions import Decisions, compare_decisions
from edge_runtime.model.score import Decision

__all__ = ["Check", "GateReport", "compare_outputs"]

NO_SPREADS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class GateReport:
    """The verdict of one parity check."""

    precision: str
    backend: str
    reference: str
    """What it was held against, such as `PyTorch float32`"""
    budget: Budget
    graphs: tuple[Comparison, ...]
    """Of each output of the graphs"""
    decisions: Decisions
    prior: tuple[Comparison, ...] = ()
    """Of what prior.npz says of the reference's codes, where that was asked"""
    preprocessing: tuple[Comparison, ...] = ()
    """Of what this machine makes of raw frames, where the reference has some"""
    altered: tuple[str, ...] = ()
    """Files and parts of the manifest that are not, byte for byte, those the reference was taken from"""

    @property
    def title(self) -> str:
        """What was compared: precision, backend and reference."""
        return f"{self.precision} {self.backend} against {self.reference}"

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every output that was compared: the graphs', the score, the prior's, preprocessing's."""
        score = () if self.decisions.score is None else (self.decisions.score,)
        return (*self.graphs, *score, *self.prior, *self.preprocessing)

    @property
    def passed(self) -> bool:
        """Whether everything lies within the budget."""
        return not self.failures()

    def failures(self) -> list[str]:
        """One line for each thing that failed, empty where the gate passed."""
        outputs = [line for item in self.comparisons for line in self.failures_of(item)]
        return [*outputs, *self.failures_of_files(), *self.failures_of_decisions()]

    def failures_of(self, item: Comparison) -> list[str]:
        """The line of an output that failed, empty where it passed."""
        if item.passed:
            return []
        noise = ""
        if item.too_noisy:
            least = item.tolerance.min_snr_db
            noise = f"signal-to-noise ratio {item.snr_db:.1f} dB, expected at least {least:.1f} dB; "
        return [
            f"{item.where} differs from {self.reference}: {noise}max error {item.max_error:.3g} at frame "
            f"{item.worst_frame}, allowed {item.tolerance}"
        ]

    def failures_of_files(self) -> list[str]:
        """One line for each file or part of the manifest that was altered."""
        return [
            f"{name} is not what was exported: its SHA-256 differs from the one the golden samples vouch for"
            for name in self.altered
        ]

    def failures_of_decisions(self) -> list[str]:
        """One line for each of flips, ranks and separation that failed."""
        return self.decisions.failures(self.budget)

    def to_json(self) -> dict[str, Any]:
        """The report for the manifest and for --json; an infinite error or tolerance becomes null."""
        decisions, budget = self.decisions, self.budget
        return {
            "precision": self.precision,
            "backend": self.backend,
            "reference": self.reference,
            "n_frames": decisions.n_frames,
            "passed": self.passed,
            "failures": self.failures(),
            "decision_flips": decisions.flips,
            "flips_beyond_band": decisions.flips_beyond_band,
            "score_rank_correlation": finite_or_none(decisions.rank_correlation),
            "auroc": list(decisions.auroc) if decisions.auroc is not None else None,
            "budget": {
                "band": budget.band,
                "max_flips": budget.max_flips,
                "min_rank_correlation": budget.min_rank_correlation,
                "tie": budget.tie,
                "max_auroc_shift": budget.max_auroc_shift,
            },
            "altered": list(self.altered),
            "outputs": {
                item.where: {
                    "max": finite_or_none(item.max_error),
                    "p99": finite_or_none(item.p99_error),
                    "mean": finite_or_none(item.mean_error),
                    "atol": finite_or_none(item.tolerance.atol),
                    "of_peak": item.tolerance.of_peak,
                    "rtol": item.tolerance.rtol,
                    "rtol_from": item.tolerance.origin,
                    "spread": item.spread,
                    "max_in_spreads": None if item.max_in_spreads is None else finite_or_none(item.max_in_spreads),
                    "snr_db": None if item.snr_db is None else finite_or_none(item.snr_db),
                    "min_snr_db": finite_or_none(item.tolerance.min_snr_db),
                    "passed": item.passed,
                }
                for item in self.comparisons
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A report, and what it was made from: to keep the worst frame where it failed."""

    report: GateReport
    inputs: NDArray[np.uint8]
    """(N, H, W, C)"""
    reference: Outputs
    actual: Outputs


def compare_outputs(
    reference: Outputs,
    actual: Outputs,
    criteria: Sequence[str],
    decision: Decision,
    *,
    backend: str,
    against: str,
    precision: str = "fp32",
    budget: Budget | None = None,
    spreads: Mapping[str, float] = NO_SPREADS,
    labels: NDArray[np.int8] | None = None,
    groups: NDArray[np.int64] | None = None,
    contrast: bool = False,
    prior: Sequence[Comparison] = (),
    preprocessing: Sequence[Comparison] = (),
    altered: Sequence[str] = (),
) -> GateReport:
    """The report on outputs of a precision's graphs, and on the decisions that follow from them.

    criteria: names of the criteria's columns. budget: the precision's own where None. spreads: by criterion, as of
    criterion_spreads. labels, groups: as of compare_decisions. contrast: as of compare. prior, preprocessing, altered:
    what was found beside the outputs, as it stands in the report.
    """
    budget = budget or budget_of(precision, backend)
    graph = detector_file(precision)
    return GateReport(
        precision=precision,
        backend=backend,
        reference=against,
        budget=budget,
        graphs=tuple(_compare_graphs(reference, actual, criteria, graph, budget, spreads, contrast)),
        decisions=compare_decisions(
            reference.criteria,
            actual.criteria,
            decision,
            budget,
            where=graph,
            labels=labels,
            groups=groups,
            contrast=contrast,
        ),
        prior=tuple(prior),
        preprocessing=tuple(preprocessing),
        altered=tuple(altered),
    )


def _compare_graphs(
    reference: Outputs,
    actual: Outputs,
    criteria: Sequence[str],
    graph: str,
    budget: Budget,
    spreads: Mapping[str, float],
    contrast: bool,
) -> list[Comparison]:
    """Criteria by name, or as one where the shapes differ; encoder and decoder where both sides ran them."""
    tolerances = budget.tolerances
    if actual.criteria.shape == reference.criteria.shape:
        rows = [
            _compare_criterion(f"{graph}: {name}", expected, came, budget, spreads.get(name), contrast)
            for name, expected, came in zip(criteria, reference.criteria.T, actual.criteria.T, strict=True)
        ]
    else:
        rows = [compare(f"{graph}: criteria", reference.criteria, actual.criteria, tolerances["criteria"])]
    rows += [
        compare(f"{graph}: {name}", expected, came, tolerances[name], contrast=contrast)
        for name, expected, came in (
            ("latent", reference.latent, actual.latent),
            ("anomaly_map", reference.anomaly_map, actual.anomaly_map),
        )
    ]
    for where, name, expected, came in (
        ("encoder.onnx: latent", "latent", reference.encoder_latent, actual.encoder_latent),
        ("decoder.onnx: x_hat", "x_hat", reference.x_hat, actual.x_hat),
    ):
        if expected is not None and came is not None:
            rows.append(compare(where, expected, came, tolerances[name]))
    return rows


def _compare_criterion(
    where: str, expected: NDArray[Any], came: NDArray[Any], budget: Budget, spread: float | None, contrast: bool
) -> Comparison:
    """spread: never believed to be more than these frames differ by, which a manifest cannot say away."""
    if spread is not None:
        spread = min(spread, float(np.ptp(expected)))
    return compare(where, expected, came, budget.of_criterion(spread or 0.0), spread=spread, contrast=contrast)
