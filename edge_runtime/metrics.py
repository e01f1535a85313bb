"""Detection metrics in numpy, for devices that have no scikit-learn. Anomalous is the positive class."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.files import finite_or_none

__all__ = [
    "Counts",
    "Metrics",
    "auroc",
    "auroc_of_counts",
    "average_precision",
    "average_precision_of_counts",
    "balanced_accuracy",
    "best_f1",
    "bootstrap",
    "counts_at_thresholds",
    "fpr_at_tpr",
    "rank_correlation",
    "wilson_interval",
]

FPR_AT_TPR = 0.95
"""Share of the anomalous images that must be found where a false positive rate is quoted as FPR@95TPR."""

RESAMPLED_AT_ONCE = 1_000_000
"""Images drawn in one piece of the bootstrap: a few tens of megabytes, however many images and resamples there are."""


def auroc(scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: P(score of an anomalous > score of a normal image), ties count half.

    scores: (N,), higher = more anomalous; anomalous: (N,) bool. NaN where one class is empty.
    """
    n_positive = int(anomalous.sum())
    n_negative = anomalous.size - n_positive
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    positive_ranks = float(_mean_ranks(scores)[anomalous].sum())
    return (positive_ranks - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def average_precision(scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> float:
    """Sum over thresholds of precision times the recall gained; its floor is the share of anomalous images.

    scores: (N,), anomalous: (N,) bool. NaN where no image is anomalous.
    """
    if not anomalous.any():
        return float("nan")
    order = np.argsort(scores, kind="stable")[::-1]
    sorted_scores = scores[order]
    hits = np.cumsum(anomalous[order])
    last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    hits_at = hits[last_of_tie]
    precision = hits_at / (np.flatnonzero(last_of_tie) + 1)
    return float(np.sum(precision * np.diff(np.concatenate(([0], hits_at)))) / hits[-1])


def balanced_accuracy(flagged: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> float:
    """(TPR + TNR) / 2 at a decided threshold. NaN where one class is empty.

    flagged, anomalous: (N,) bool.
    """
    if anomalous.all() or not anomalous.any():
        return float("nan")
    return float((flagged[anomalous].mean() + (~flagged[~anomalous]).mean()) / 2)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Detection metrics of a labelled set; NaN where they are not defined."""

    n_normal: int
    n_anomalous: int
    auroc: float
    average_precision: float
    balanced_accuracy: float
    """At the detector's threshold"""

    @classmethod
    def of(cls, scores: NDArray[Any], flagged: NDArray[np.bool_], anomalous: NDArray[np.bool_]) -> Metrics:
        """Metrics of (N,) scores, higher = more anomalous, their verdicts and their labels."""
        return cls(
            n_normal=int((~anomalous).sum()),
            n_anomalous=int(anomalous.sum()),
            auroc=auroc(scores, anomalous),
            average_precision=average_precision(scores, anomalous),
            balanced_accuracy=balanced_accuracy(flagged, anomalous),
        )

    def to_json(self) -> dict[str, Any]:
        """The metrics as JSON values, null where not defined."""
        return {name: finite_or_none(getattr(self, name)) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Counts:
    """How many images score at least each distinct score, highest score first."""

    thresholds: NDArray[np.float64]
    """(K,), descending"""
    true_positives: NDArray[np.int64]
    """(K,) anomalous images at or above the threshold"""
    false_positives: NDArray[np.int64]
    """(K,) normal images at or above the threshold"""


def counts_at_thresholds(scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> Counts:
    """Counts at every threshold that makes a difference: the points of the ROC and the precision-recall curve.

    scores: (N,), anomalous: (N,) bool.
    """
    thresholds, codes = _descending_codes(scores)
    n_thresholds = len(thresholds)
    return Counts(
        thresholds,
        np.bincount(codes[anomalous], minlength=n_thresholds).cumsum(),
        np.bincount(codes[~anomalous], minlength=n_thresholds).cumsum(),
    )


def fpr_at_tpr(scores: NDArray[Any], anomalous: NDArray[np.bool_], tpr: float = FPR_AT_TPR) -> float:
    """The lowest false positive rate at which at least `tpr` of the anomalous images are found, no interpolation.

    scores: (N,), anomalous: (N,) bool. NaN where one class is empty.
    """
    if anomalous.all() or not anomalous.any():
        return float("nan")
    counts = counts_at_thresholds(scores, anomalous)
    first = int(np.searchsorted(counts.true_positives, _n_wanted(tpr, int(anomalous.sum()))))
    return float(counts.false_positives[first] / (~anomalous).sum())


def best_f1(scores: NDArray[Any], anomalous: NDArray[np.bool_]) -> tuple[float, float]:
    """The highest F1 that any threshold gives, and that threshold; images scoring at least it are flagged.

    An oracle: the threshold is chosen on the very labels it is judged by, so no deployed detector reaches it but by
    luck. scores: (N,), anomalous: (N,) bool. NaN twice where one class is empty.
    """
    if anomalous.all() or not anomalous.any():
        return float("nan"), float("nan")
    counts = counts_at_thresholds(scores, anomalous)
    f1 = 2.0 * counts.true_positives / (counts.true_positives + counts.false_positives + anomalous.sum())
    best = int(np.argmax(f1))
    return float(f1[best]), float(counts.thresholds[best])


def auroc_of_counts(positives: NDArray[Any], negatives: NDArray[Any]) -> NDArray[np.float64]:
    """AUROC from histograms, ties within a bin count half.

    positives, negatives: (..., K) images or pixels in each bin of the score, highest bin first. Returns (...,).
    """
    # float64, because products of pixel counts overflow whole numbers.
    above = np.cumsum(positives, axis=-1, dtype=np.float64) - positives
    wins = (negatives * (above + 0.5 * positives)).sum(axis=-1)
    area: NDArray[np.float64] = wins / (positives.sum(axis=-1, dtype=np.float64) * negatives.sum(axis=-1))
    return area


def average_precision_of_counts(positives: NDArray[Any], negatives: NDArray[Any]) -> NDArray[np.float64]:
    """Average precision from histograms; a bin is one threshold.

    positives, negatives: (..., K) images or pixels in each bin of the score, highest bin first. Returns (...,).
    """
    found = np.cumsum(positives, axis=-1, dtype=np.float64)
    flagged = found + np.cumsum(negatives, axis=-1, dtype=np.float64)
    # Above the first score nothing is flagged, and nothing gained that precision would weigh.
    precision = found / np.maximum(flagged, 1.0)
    mean: NDArray[np.float64] = (positives * precision).sum(axis=-1) / found[..., -1]
    return mean


def bootstrap(
    scores: NDArray[Any],
    flagged: NDArray[np.bool_],
    anomalous: NDArray[np.bool_],
    *,
    n_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of auroc, average_precision, balanced_accuracy and fpr_at_95_tpr, stratified by label.

    The percentile bootstrap: Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 13.3.

    Each resample draws as many normal and as many anomalous images as there are, with replacement, so the share of
    anomalous images, which average precision depends on, stays. Training's own variance is not in the intervals.
    scores: (N,); flagged, anomalous: (N,) bool. Returns (low, high) by metric; empty where one class is empty or
    n_resamples is 0.
    """
    if n_resamples < 1 or anomalous.all() or not anomalous.any():
        return {}
    thresholds, codes = _descending_codes(scores)
    n_positive, n_negative = int(anomalous.sum()), int((~anomalous).sum())
    wanted = _n_wanted(FPR_AT_TPR, n_positive)
    areas, precisions, rates = [], [], []
    per_piece = max(1, RESAMPLED_AT_ONCE // len(codes))
    for start in range(0, n_resamples, per_piece):
        n = min(per_piece, n_resamples - start)
        positives = _resampled_counts(codes[anomalous], n, len(thresholds), rng)
        negatives = _resampled_counts(codes[~anomalous], n, len(thresholds), rng)
        areas.append(auroc_of_counts(positives, negatives))
        precisions.append(average_precision_of_counts(positives, negatives))
        first = (np.cumsum(positives, axis=1) >= wanted).argmax(axis=1)
        rates.append(np.take_along_axis(np.cumsum(negatives, axis=1), first[:, None], axis=1)[:, 0] / n_negative)
    # Flagged images among n draws with replacement are binomial: no need to draw the images.
    tpr = rng.binomial(n_positive, flagged[anomalous].mean(), n_resamples) / n_positive
    tnr = rng.binomial(n_negative, (~flagged[~anomalous]).mean(), n_resamples) / n_negative
    drawn = {
        "auroc": np.concatenate(areas),
        "average_precision": np.concatenate(precisions),
        "balanced_accuracy": (tpr + tnr) / 2,
        "fpr_at_95_tpr": np.concatenate(rates),
    }
    tails = ((1.0 - level) / 2, (1.0 + level) / 2)
    return {name: _interval(values, tails) for name, values in drawn.items()}


def wilson_interval(n_flagged: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The score interval of a rate, n_flagged of n images: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.

    Unlike the bootstrap's it has a width where none or all are flagged. NaN twice for no images.
    """
    if n == 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf((1.0 + level) / 2)
    rate = n_flagged / n
    center = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At the ends the formula gives 0 and 1 up to rounding.
    return max(0.0, center - half) if n_flagged else 0.0, min(1.0, center + half) if n_flagged < n else 1.0


def rank_correlation(a: NDArray[Any], b: NDArray[Any], tie: float = 0.0) -> float:
    """Spearman's rank correlation of two score lists, (N,) each; 1 where either does not vary and both agree.

    tie: pairs whose difference in b is that in a, up to as much, have a's order in both.
    """
    ranks_a = _mean_ranks(a)
    ranks_b = _ranks_beyond(a, b, tie) if tie else _mean_ranks(b)
    if np.ptp(ranks_a) == 0 or np.ptp(ranks_b) == 0:
        return 1.0 if np.array_equal(ranks_a, ranks_b) else 0.0
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


def _n_wanted(tpr: float, n_positive: int) -> int:
    """How many anomalous images make the rate: whole numbers, 0.95 * 20 is 19 whatever floating point makes of it."""
    return math.ceil(tpr * n_positive - 1e-9)


def _mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """1-based ranks, ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks


def _ranks_beyond(a: NDArray[Any], b: NDArray[Any], tie: float) -> NDArray[np.float64]:
    """1-based ranks of b, each pair in the order of a unless its difference moved by more than tie."""
    ranks = np.empty(len(b))
    for index, (value_a, value_b) in enumerate(zip(a, b, strict=True)):  # row by row: N x N floats may not fit
        in_a, in_b = value_a - a, value_b - b
        ranks[index] = (np.sign(np.where(np.abs(in_b - in_a) <= tie, in_a, in_b)).sum() + len(b) + 1) / 2
    return ranks


def _descending_codes(scores: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The distinct scores, highest first, and the position of each image's score among them."""
    ascending, inverse = np.unique(np.asarray(scores, dtype=np.float64), return_inverse=True)
    return ascending[::-1], len(ascending) - 1 - inverse


def _resampled_counts(
    codes: NDArray[np.int64], n_resamples: int, n_codes: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """How often each code comes in each resample of the codes: (n_resamples, n_codes)."""
    drawn = codes[rng.integers(0, len(codes), (n_resamples, len(codes)))]  # (R, n)
    drawn += n_codes * np.arange(n_resamples)[:, None]
    counts: NDArray[np.int64] = np.bincount(drawn.ravel(), minlength=n_resamples * n_codes)
    return counts.reshape(n_resamples, n_codes)


def _interval(values: NDArray[np.float64], tails: tuple[float, float]) -> tuple[float, float]:
    low, high = np.quantile(values, tails)
    return float(low), float(high)
