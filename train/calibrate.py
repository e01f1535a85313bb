"""From the training images' criteria to thresholds: quantiles of the contaminated set alone, no labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.score import CRITERIA, Decision, Limit
from train.settings import MethodName

__all__ = ["calibrate", "LIMIT_QUANTILE"]

LIMIT_QUANTILE = 0.9
"""T_rec = p90 of the error and T_prior = p10 of the likelihood over the training set, arXiv 1901.06355 section 4.1."""

REPORTED_QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def calibrate(criteria: NDArray[np.float32], method: MethodName) -> tuple[dict[str, Any], Decision]:
    """Calibration numbers for the manifest, and the decision that follows from them.

    criteria: (N, K) of all training images, rejected ones too: the paper's thresholds come from the contaminated
    set. `ae` limits the reconstruction error alone. Raises DataError where a criterion does not vary.
    """
    values = criteria.astype(np.float64)
    if not np.isfinite(values).all():
        raise DataError("training diverged: criteria are not finite; use a smaller learning rate or another seed")
    numbers = {
        name: {
            "mean": float(column.mean()),
            "std": float(column.std()),
            "quantiles": {f"{q:g}": float(np.quantile(column, q)) for q in REPORTED_QUANTILES},
        }
        for name, column in zip(CRITERIA, values.T, strict=True)
    }
    limited = CRITERIA if method == "aae" else CRITERIA[:1]
    try:
        limits = {
            name: Limit(threshold=float(np.quantile(column, LIMIT_QUANTILE)), center=float(np.quantile(column, 0.5)))
            for name, column in zip(CRITERIA, values.T, strict=True)
            if name in limited
        }
    except ConfigError as error:
        raise DataError(f"the training images cannot be told apart: {error}; are they all the same?") from error
    decision = Decision(limits=limits)
    flagged = decision.is_anomalous(decision.score(values))
    calibration = {
        "n_images": len(values),
        "limit_quantile": LIMIT_QUANTILE,
        "criteria": numbers,
        "flagged_share": float(flagged.mean()),
    }
    return calibration, decision
