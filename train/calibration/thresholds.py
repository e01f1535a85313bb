"""From the training images' criteria to thresholds: the contaminated set alone, no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.score import CRITERIA, Decision, FusedRule, Limit, Term, UnionRule, sum_of_terms
from train.calibration.balanced_limit import balanced_limit, balanced_rate
from train.calibration.conformal_limit import conformal_limit
from train.calibration.contamination import Contamination, estimate_contamination
from train.schedule import MethodName

__all__ = ["LIMIT_QUANTILE", "THRESHOLD_RULES", "LimitSettings", "ThresholdRule", "calibrate_fused", "calibrate_union"]

ThresholdRule = Literal["balanced", "conformal"]
THRESHOLD_RULES: tuple[ThresholdRule, ...] = ("balanced", "conformal")
CONFORMAL_FPR = 0.01
"""Of the conformal rule where no rate is asked for."""

LIMIT_QUANTILE = 0.9
"""T_rec = p90 of the error and T_prior = p10 of the likelihood over the training set, arXiv 1901.06355 section 4.1."""

REPORTED_QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitSettings:
    """Where the fused score's limit is to lie."""

    rule: ThresholdRule = "balanced"
    """balanced: by the lower part of the scores, about the rate; conformal: by rank, at most the rate"""
    target_fpr: float | None = None
    """False alarms on normal images, 0 to .5; None: what the rule takes by itself"""
    cost_miss: float = 1.0
    cost_false_alarm: float = 1.0
    """Of the balanced rule where no rate is asked for"""

    def __post_init__(self) -> None:
        if self.rule not in THRESHOLD_RULES:
            raise ConfigError(f"--threshold-rule is {self.rule!r}, expected one of {', '.join(THRESHOLD_RULES)}")
        if self.target_fpr is not None and not 0.0 < self.target_fpr < 0.5:
            raise ConfigError(f"--target-fpr is {self.target_fpr:g}, expected a rate above 0 and below 0.5, such as 1%")
        balanced_rate(self.cost_miss, self.cost_false_alarm)
        if self.cost_miss != self.cost_false_alarm and (self.target_fpr is not None or self.rule != "balanced"):
            raise ConfigError(
                "--cost-miss and --cost-false-alarm choose the rate of --threshold-rule balanced; leave them out, or "
                "--target-fpr and the other rule"
            )

    def found(
        self, scores: NDArray[np.float64], anomalous: Contamination, stretch: NDArray[np.integer] | None = None
    ) -> tuple[float, dict[str, Any]]:
        """The limit on scores (N,), and what the manifest says of it. anomalous: estimated, of the scores.

        stretch: (N,) of the images' order, where they change along it; the interval is then that of the next one.
        """
        if self.rule == "conformal":
            rate = CONFORMAL_FPR if self.target_fpr is None else self.target_fpr
            at_most = conformal_limit(scores, rate)
            return at_most.limit, {"rule": self.rule, **at_most.to_json()}
        rate = balanced_rate(self.cost_miss, self.cost_false_alarm) if self.target_fpr is None else self.target_fpr
        about = balanced_limit(scores, rate, self.target_fpr, anomalous, stretch)
        return about.limit, about.to_json()


def calibrate_union(
    criteria: NDArray[np.float32], method: MethodName, names: Sequence[str] = CRITERIA
) -> tuple[dict[str, Any], Decision]:
    """The paper's union rule, and calibration numbers for the manifest.

    criteria: (N, K) of all training images, rejected ones too: the paper's thresholds come from the contaminated
    set. `ae` limits the reconstruction error alone. Raises DataError where a criterion does not vary.
    """
    values = _checked(criteria)
    limited = CRITERIA if method == "aae" else CRITERIA[:1]
    with _told_apart():
        limits = {
            name: Limit(threshold=float(np.quantile(column, LIMIT_QUANTILE)), center=float(np.quantile(column, 0.5)))
            for name, column in zip(names, values.T, strict=True)
            if name in limited
        }
        decision = UnionRule(criteria=tuple(names), limits=limits)
    return {"limit_quantile": LIMIT_QUANTILE, **_numbers(values, names, decision)}, decision


def calibrate_fused(
    criteria: NDArray[np.float32],
    names: Sequence[str],
    terms: Mapping[str, Term],
    asked: LimitSettings,
    seed: int,
    stretch: NDArray[np.integer] | None = None,
) -> tuple[dict[str, Any], Decision]:
    """One score and one limit, and calibration numbers for the manifest.

    criteria: (N, K) out-of-fold, of all training images, rejected ones too. stretch: as LimitSettings.found has it.
    Raises DataError where the score does not vary.
    """
    values = _checked(criteria)
    sums = sum_of_terms(values, names, terms)
    contamination = estimate_contamination(sums, seed)
    limit, told = asked.found(sums, contamination, stretch)
    with _told_apart():
        decision = FusedRule(
            criteria=tuple(names),
            terms=dict(terms),
            limit=Limit(threshold=limit, center=float(np.median(sums))),
        )
    scores = decision.score(values)
    calibration = {
        "limit": told,
        "contamination": contamination.to_json(),
        "score_quantiles": [float(value) for value in np.quantile(scores, SCORE_QUANTILES)],
        **_numbers(values, names, decision),
    }
    return calibration, decision


def _numbers(values: NDArray[np.float64], names: Sequence[str], decision: Decision) -> dict[str, Any]:
    return {
        "n_images": len(values),
        "criteria": {
            name: {
                "mean": float(column.mean()),
                "std": float(column.std()),
                "quantiles": {f"{q:g}": float(np.quantile(column, q)) for q in REPORTED_QUANTILES},
            }
            for name, column in zip(names, values.T, strict=True)
        },
        "flagged_share": float(decision.is_anomalous(decision.score(values)).mean()),
    }


def _checked(criteria: NDArray[np.float32]) -> NDArray[np.float64]:
    values = criteria.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("training diverged: criteria are not finite; use a smaller learning rate or another seed")
    return values


@contextmanager
def _told_apart() -> Iterator[None]:
    """A limit that is not above its median becomes the user's message."""
    try:
        yield
    except ConfigError as error:
        raise DataError(f"the training images cannot be told apart: {error}; are they all the same?") from error
