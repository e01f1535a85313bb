"""The density of codes, fitted after training: what the score's likelihood is taken under."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.prior import FullNormal, NormalMixture
from train.networks.whitening import RIDGE, ridged, whitening

__all__ = ["fit_density", "fit_mixture", "fit_normal"]


def fit_density(codes: NDArray[Any], components: int, seed: int) -> FullNormal | NormalMixture:
    """One normal density on codes (N, D), or a mixture of so many; never more than there are codes for."""
    most = len(codes) // (codes.shape[1] + 1)
    n_components = min(components, max(1, most))
    return fit_normal(codes) if n_components == 1 else fit_mixture(codes, seed, n_components)


def fit_normal(codes: NDArray[Any]) -> FullNormal:
    """The normal density with the mean and full covariance of codes (N, D)."""
    values = codes.astype(np.float64)
    covariance = np.atleast_2d(np.cov(values, rowvar=False))
    return FullNormal(values.mean(axis=0).astype(np.float32), whitening(ridged(covariance)))


def fit_mixture(codes: NDArray[Any], seed: int, components: int) -> NormalMixture:
    """A mixture of normal densities with full covariances on codes (N, D), by scikit-learn's EM."""
    mixture = require("sklearn.mixture", extra="train", purpose="mixture densities")
    variance = float(codes.var(axis=0).mean())
    model = mixture.GaussianMixture(components, reg_covar=RIDGE * variance, random_state=seed).fit(codes)
    whitenings = np.stack([whitening(covariance) for covariance in model.covariances_])
    weights = np.maximum(model.weights_, 1e-6)
    return NormalMixture((weights / weights.sum()).astype(np.float32), model.means_.astype(np.float32), whitenings)
