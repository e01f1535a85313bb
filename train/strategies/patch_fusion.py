"""The fused score of `patch`: how much each criterion counts, found on synthetic defects that no network was shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["Level", "as_terms", "from_terms", "fused_weights"]

RIDGE = 0.01
"""Of squared weights, against the mean loss: keeps weights finite where defects and normal images are told apart."""
CLIP = 20.0
"""Spreads beyond which a criterion says no more: one glaring defect must not set the weights."""
LEAST = 1e-12
LEAST_SPREAD = 1e-6
LOWER_QUANTILE = 0.16
"""One standard deviation below the median of normally distributed terms."""
LEAST_SHARE = 0.02
"""A weight below this share of the largest is set to zero."""


def as_terms(criteria: NDArray[np.float32], names: Sequence[str], floor: float) -> NDArray[np.float64]:
    """Criteria (N, K) as the fused score adds them: logarithms of distances, the defect score as it is.

    floor: the least negative log prior.
    """
    terms = criteria.astype(np.float64)
    terms[:, names.index("neg_log_prior")] -= floor
    logs = [index for index, name in enumerate(names) if name != "defect_score"]
    terms[:, logs] = np.log(np.maximum(terms[:, logs], LEAST))
    return terms


def from_terms(terms: NDArray[np.float64], names: Sequence[str], floor: float) -> NDArray[np.float32]:
    """Criteria (N, K) whose terms these are."""
    criteria = terms.copy()
    logs = [index for index, name in enumerate(names) if name != "defect_score"]
    criteria[:, logs] = np.exp(criteria[:, logs])
    criteria[:, names.index("neg_log_prior")] += floor
    return criteria.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Level:
    """Where the terms of one network lie, so that several networks' can be laid side by side."""

    middle: NDArray[np.float64]
    """(K,) median of each term over photographs that the network was trained on"""
    spread: NDArray[np.float64]
    """(K,) median minus lower quantile, above 0"""

    @classmethod
    def of(cls, terms: NDArray[np.float64]) -> Level:
        """terms: (N, K), of photographs that the network was trained on."""
        middle = np.median(terms, axis=0)
        return cls(middle, np.maximum(middle - np.quantile(terms, LOWER_QUANTILE, axis=0), LEAST_SPREAD))

    def in_spreads(self, terms: NDArray[np.float64]) -> NDArray[np.float32]:
        """Terms (n, K) as spreads above the median."""
        return ((terms - self.middle) / self.spread).astype(np.float32)

    def terms(self, spreads: NDArray[np.float32]) -> NDArray[np.float64]:
        """Terms (n, K) that lie so many spreads above the median."""
        levelled: NDArray[np.float64] = self.middle + self.spread * spreads
        return levelled


def fused_weights(normal: NDArray[np.float32], defective: NDArray[np.float32]) -> NDArray[np.float64]:
    """Weights (K,) >= 0 by logistic regression of defective against normal terms, each (N, K); they sum to 1.

    The last criterion, the defect score, gets all where nothing tells them apart.
    """
    minimize = require("scipy.optimize", extra="train", purpose="fusing criteria").minimize
    rows = np.clip(np.concatenate([normal, defective]).astype(np.float64), -CLIP, CLIP)
    sign = np.concatenate([-np.ones(len(normal)), np.ones(len(defective))])
    n_criteria = rows.shape[1]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (rows @ weights + bias)
        wrong = -sign / (1.0 + np.exp(np.clip(margin, -50, 50))) / len(rows)
        value = float(np.logaddexp(0.0, -margin).mean() + RIDGE * (weights @ weights))
        return value, np.append(rows.T @ wrong + 2.0 * RIDGE * weights, wrong.sum())

    start = np.append(np.full(n_criteria, 0.1), 0.0)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * n_criteria + [(None, None)])
    weights = np.where(found.x[:-1] < LEAST_SHARE * found.x[:-1].max(), 0.0, found.x[:-1])
    if not weights.sum() > 0.0:
        weights[-1] = 1.0
    normed: NDArray[np.float64] = weights / weights.sum()
    return normed
