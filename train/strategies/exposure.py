"""Fits the exposure: logistic regression that tells codes of images that a person rejected from all others.

Outlier exposure (Hendrycks et al. 2019, arXiv 1812.04606) with anomalies of the training set itself. The output is a
probability, so what a wrong word can do is bounded; latent outlier exposure (Qiu et al. 2022, arXiv 2202.08088)
retrains with a loss on such images instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.extras import require
from train.networks.autoencoder import Exposure

__all__ = ["fit_exposure"]

INVERSE_REGULARISATION = 0.05
"""scikit-learn's C: strong, because a person names few images."""


NEVER_LOGIT = -30.0
"""A probability of 1e-13; minus infinity is no constant that every engine takes."""


def fit_exposure(exposure: Exposure, codes: NDArray[Any], rejected: NDArray[np.bool_]) -> None:
    """Fit to codes (N, D) and which of them were rejected, (N,) bool; probability 0 for all where none or all were."""
    with torch.no_grad():
        if rejected.all() or not rejected.any():
            exposure.linear.weight.zero_()
            exposure.linear.bias.fill_(NEVER_LOGIT)
            return
        linear_model = require("sklearn.linear_model", extra="train", purpose="exposure to rejected images")
        values = codes.astype(np.float64)
        mean, spread = values.mean(axis=0), values.std(axis=0) + 1e-9
        model = linear_model.LogisticRegression(C=INVERSE_REGULARISATION, max_iter=300)
        model.fit((values - mean) / spread, rejected)
        weight = model.coef_[0] / spread
        exposure.linear.weight.copy_(torch.from_numpy(weight)[None])
        exposure.linear.bias.copy_(torch.from_numpy(model.intercept_ - weight @ mean))
