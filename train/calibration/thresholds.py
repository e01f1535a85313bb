"""From the training images' criteria to thresholds: the contaminated set alone, no labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.site_calibration import SCORE_QUANTILES
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.score import CRITERIA, Decision, FusedRule, Limit, Term, UnionRule, sum_of_terms
from train.calibration.conformal_limit import conformal_limit
from train.calibration.contamination import estimate_contamination
from train.schedule import MethodName

__all__ = ["LIMIT_QUANTILE", "calibrate_fused", "calibrate_union"]

LIMIT_QUANTILE = 0.9
"""T_rec = p90 of the error and T_prior = p10 of the likelihood over the training set, arXiv 1901.06355 section 4.1."""

REPORTED_QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


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
    criteria: NDArray[np.float32], names: Sequence[str], terms: Mapping[str, Term], target_fpr: float, seed: int
) -> tuple[dict[str, Any], Decision]:
    """One score and one limit at the asked false-alarm rate, and calibration numbers for the manifest.

    criteria: (N, K) out-of-fold, of all training images, rejected ones too: anomalies among them can only raise the
    limit, so that it stays on the safe side. Raises DataError where the score does not vary.
    """
    values = _checked(criteria)
    sums = sum_of_terms(values, names, terms)
    found = conformal_limit(sums, target_fpr)
    with _told_apart():
        decision = FusedRule(
            criteria=tuple(names),
            terms=dict(terms),
            limit=Limit(threshold=found.limit, center=float(np.median(sums))),
        )
    scores = decision.score(values)
    calibration = {
        "limit": found.to_json(),
        "contamination": estimate_contamination(sums, seed).to_json(),
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
