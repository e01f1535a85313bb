"""How much each criterion of `features` counts in the score: by what it tells of defects that nothing was shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.metrics import auroc

__all__ = ["LOWER_QUANTILE", "as_terms", "fusion_weights", "told_apart"]

LOWER_QUANTILE = 0.16
"""One standard deviation below the median of normally distributed terms."""
NEAR = 0.02
"""AUROC below that of the first criterion at which another counts for a third: synthetic defects tell no finer."""
LEAST_SHARE = 0.05
"""Of all weight; what tells less than the first and has less gets nothing."""
LEAST_CRITERION = 1e-12
LEAST_SPREAD = 1e-6


def as_terms(criteria: NDArray[np.floating], n_linear: int) -> NDArray[np.float64]:
    """Criteria (N, K) as the score adds them: logarithms of all but the last n_linear."""
    terms = criteria.astype(np.float64)
    n_logs = terms.shape[1] - n_linear
    terms[:, :n_logs] = np.log(np.maximum(terms[:, :n_logs], LEAST_CRITERION))
    return terms


def told_apart(normal: NDArray[np.floating], defective: NDArray[np.floating]) -> NDArray[np.float64]:
    """AUROC (K,) by which each criterion tells copies with a defect (M, K) from images (N, K)."""
    is_copy = np.arange(len(normal) + len(defective)) >= len(normal)
    return np.array([auroc(scores, is_copy) for scores in np.concatenate((normal, defective)).T])


def fusion_weights(
    normal: NDArray[np.floating], defective: NDArray[np.floating], n_linear: int = 0
) -> NDArray[np.float32]:
    """Weights (K,) of the logarithms of distances: by how well each tells copies with a defect from held-out images.

    normal: (N, K), defective: (M, K); the last n_linear columns are taken as they are. (AUROC - 1/2)^4 over the spread
    of the logarithm, which sums to one before it is divided; one that tells less than the first counts less by the
    exponential of the difference over NEAR. The first counts alone where none tells them apart.
    """
    told = told_apart(normal, defective)
    normal = as_terms(normal, n_linear)
    weights = np.maximum(told - 0.5, 0.0) ** 4 * np.exp(np.minimum(told - told[0], 0.0) / NEAR)
    weights = weights / weights.sum() if weights.sum() > 0.0 else np.eye(len(told))[0]
    weights = np.where((told < told[0]) & (weights < LEAST_SHARE), 0.0, weights)
    middle = np.median(normal, axis=0)
    spread = np.maximum(middle - np.quantile(normal, LOWER_QUANTILE, axis=0), LEAST_SPREAD)
    found: NDArray[np.float32] = (weights / spread).astype(np.float32)
    return found
