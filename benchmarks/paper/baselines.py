"""Baselines beside the paper's methods: what a linear model and the usual libraries reach on the same training sets.

Each takes training images without labels and gives scores of test images and one threshold, which comes from the
training scores alone. Nothing here uses the product's own networks or features, so that a fault there cannot hide.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.svm import OneClassSVM

__all__ = ["BASELINES", "Baseline", "Scored", "adapt_threshold", "hog", "missing", "trimmed_ppca"]

Images = NDArray[np.uint8]
Floats = NDArray[np.float64]

HOG_CELL = 7
HOG_BINS = 8
PPCA_COMPONENTS = 64
ADAPT_C = 2.0
"""Deviations above the median of the log scores where the adapt rule puts the threshold."""
LIMIT_QUANTILE = 0.9
"""Of the training scores, the paper's rule, for methods without a rule of their own."""
PIXEL_COMPONENTS = 50
"""Principal components of the pixels: 90 % of T-shirts' variance, and few enough for trees and kernels."""
SVM_NU = 0.1
DEEP_SVDD_EPOCHS = 50


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores of the test images, higher = more anomalous, and the threshold."""

    scores: Floats
    threshold: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """One row of the table."""

    title: str
    run: Callable[[Images, Images, int], Scored]
    """(training images (N, H, W), test images (n, H, W), seed) -> Scored"""
    version: int = 1
    """Changes with the recipe, so that finished cells of an older one are not taken over."""
    package: str | None = None
    """Needed beyond the extra `train`."""


def missing(baseline: Baseline) -> str | None:
    """Why a baseline cannot run here, None where it can."""
    if baseline.package is None or importlib.util.find_spec(baseline.package) is not None:
        return None
    return f'{baseline.title} needs {baseline.package}: pip install "edge-aae[benchmarks]"'


def hog(images: Images, cell: int = HOG_CELL, bins: int = HOG_BINS) -> Floats:
    """Square roots of histograms of oriented gradients over cells: (N, H/cell * W/cell * bins), >= 0.

    Dalal and Triggs 2005 without blocks: orientations over the full circle, each pixel's gradient magnitude shared
    between the two nearest bins. images: (N, H, W) uint8, sides multiples of `cell`.
    """
    values = images.astype(np.float64) / 255.0
    dy, dx = np.gradient(values, axis=(1, 2))
    magnitude = np.hypot(dx, dy)
    position = np.arctan2(dy, dx) / (2.0 * np.pi) * bins
    lower = np.floor(position)
    share = position - lower
    N, H, W = images.shape
    histograms = np.empty((N, H // cell, W // cell, bins))
    for b in range(bins):
        weight = magnitude * ((lower % bins == b) * (1.0 - share) + ((lower + 1) % bins == b) * share)  # (N, H, W)
        histograms[..., b] = weight.reshape(N, H // cell, cell, W // cell, cell).sum(axis=(2, 4))
    features: Floats = np.sqrt(histograms).reshape(N, -1)
    return features


def trimmed_ppca(train: Floats, test: Floats, *, trim: float, rounds: int, k: int = PPCA_COMPONENTS) -> list[Floats]:
    """Negative log-likelihoods of both sets under probabilistic PCA (Tipping and Bishop 1999) of the kept rows.

    Each round keeps the 1 - trim of the training rows that fit best and fits again. train: (N, F), test: (n, F).
    Returns twice the nats without what is the same for all rows: the squared Mahalanobis distance, > 0.
    """
    kept = np.arange(len(train))
    for round_number in range(rounds + 1):
        center = train[kept].mean(axis=0)
        eigenvalues, directions = np.linalg.eigh(np.cov(train[kept], rowvar=False))
        noise = max(float(eigenvalues[:-k].mean()), 1e-9)
        variances = np.concatenate((np.full(len(eigenvalues) - k, noise), np.maximum(eigenvalues[-k:], noise)))
        distances = [(((rows - center) @ directions) ** 2 / variances).sum(axis=1) for rows in (train, test)]
        if round_number < rounds:
            kept = np.argsort(distances[0], kind="stable")[: math.ceil((1.0 - trim) * len(train))]
    return distances


def adapt_threshold(training_scores: Floats, c: float = ADAPT_C) -> float:
    """exp(m + c (m - q16)), m the median and q16 the 16 % quantile of the logarithms of all training scores.

    The lower half of the scores is hardly touched by contamination, so its spread stands for the upper half's.
    """
    logs = np.log(training_scores)
    median, low = np.quantile(logs, (0.5, 0.16))
    return float(np.exp(median + c * (median - low)))


def _hog_ppca(trim: float, rounds: int) -> Callable[[Images, Images, int], Scored]:
    def run(train: Images, test: Images, seed: int) -> Scored:
        on_train, on_test = trimmed_ppca(hog(train), hog(test), trim=trim, rounds=rounds)
        return Scored(on_test, adapt_threshold(on_train))

    return run


def _isolation_forest(train: Images, test: Images, seed: int) -> Scored:
    on_train, on_test = _principal_components(train, test, seed)
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(on_train)
    return _limited(-forest.score_samples(on_train), -forest.score_samples(on_test))


def _one_class_svm(train: Images, test: Images, seed: int) -> Scored:
    on_train, on_test = _principal_components(train, test, seed)
    svm = OneClassSVM(kernel="rbf", gamma="scale", nu=SVM_NU).fit(on_train)
    return _limited(-svm.decision_function(on_train), -svm.decision_function(on_test))


def _deep_svdd(train: Images, test: Images, seed: int) -> Scored:
    from pyod.models.deep_svdd import DeepSVDD

    flat = [images.reshape(len(images), -1) / 255.0 for images in (train, test)]
    model = DeepSVDD(
        n_features=flat[0].shape[1],
        epochs=DEEP_SVDD_EPOCHS,
        batch_size=128,
        contamination=1.0 - LIMIT_QUANTILE,
        random_state=seed,
        verbose=0,
    )
    model.fit(flat[0])
    return _limited(model.decision_scores_, model.decision_function(flat[1]))


def _principal_components(train: Images, test: Images, seed: int) -> list[Floats]:
    flat = [images.reshape(len(images), -1) / 255.0 for images in (train, test)]
    pca = PCA(PIXEL_COMPONENTS, svd_solver="randomized", random_state=seed).fit(flat[0])
    return [pca.transform(rows) for rows in flat]


def _limited(training_scores: Floats, test_scores: Floats) -> Scored:
    return Scored(test_scores, float(np.quantile(training_scores, LIMIT_QUANTILE)))


BASELINES: dict[str, Baseline] = {
    "hog-ppca-10": Baseline("HOG-PPCA, 10 % trim", _hog_ppca(0.10, 5)),
    "hog-ppca-25": Baseline("HOG-PPCA, 25 % trim", _hog_ppca(0.25, 10)),
    "isolation-forest": Baseline("Isolation forest on PCA", _isolation_forest),
    "one-class-svm": Baseline("One-class SVM on PCA", _one_class_svm),
    "deep-svdd": Baseline("Deep SVDD (PyOD)", _deep_svdd, package="pyod"),
}
