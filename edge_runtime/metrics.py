"""Detection metrics in numpy, for devices that have no scikit-learn. Anomalous is the positive class."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["auroc", "average_precision", "balanced_accuracy", "rank_correlation"]


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


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's rank correlation of two score lists, (N,) each; 1 where either does not vary and both agree."""
    ranks_a, ranks_b = _mean_ranks(a), _mean_ranks(b)
    if np.ptp(ranks_a) == 0 or np.ptp(ranks_b) == 0:
        return 1.0 if np.array_equal(ranks_a, ranks_b) else 0.0
    return float(np.corrcoef(ranks_a, ranks_b)[0, 1])


def _mean_ranks(values: NDArray[Any]) -> NDArray[np.float64]:
    """1-based ranks, ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks
