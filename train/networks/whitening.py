"""What a covariance becomes in a distance: its factor, and how narrow it may be; of codes and of residuals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGEST_CONDITION", "RIDGE", "ridged", "whitening"]

RIDGE = 0.01
"""Of the mean variance, added to each: a direction that hardly varies must not blow up the distance."""

LARGEST_CONDITION = 1e6
"""Of a covariance, its largest eigenvalue over its smallest. float32 keeps a code to 6e-8 of the widest direction's
deviation, then 6e-5 of the narrowest one's, well below what the parity gate allows (edge_runtime/bundle/budgets.py).
The ridge alone holds it up to ten thousand dimensions; a mixture's parts, each ridged by all codes, it does not.
"""


def ridged(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The covariance (D, D) with RIDGE of its mean variance added to each."""
    dim = len(covariance)
    added: NDArray[np.float64] = covariance + RIDGE * np.trace(covariance) / dim * np.eye(dim)
    return added


def whitening(covariance: NDArray[np.float64]) -> NDArray[np.float32]:
    """(D, D) lower triangular W with W W^T = inverse covariance, worked in float64 and rounded once.

    Eigenvalues below the largest over LARGEST_CONDITION are raised to it.
    """
    values, vectors = np.linalg.eigh(covariance)
    least = values[-1] / LARGEST_CONDITION
    bounded = covariance if values[0] >= least else (vectors * np.maximum(values, least)) @ vectors.T
    factor: NDArray[np.float32] = np.linalg.cholesky(np.linalg.inv(bounded)).astype(np.float32)
    return factor
