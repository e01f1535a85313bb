"""Detection metrics: by hand, and against scikit-learn and scipy on random scores with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.metrics import auroc, average_precision, balanced_accuracy, rank_correlation

SCORES = np.array([0.1, 0.4, 0.35, 0.8])
ANOMALOUS = np.array([False, False, True, True])


def random_scores(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """200 scores of 20 values, so that most are tied, and a tenth to a half of anomalous images."""
    rng = np.random.default_rng(seed)
    anomalous = rng.random(200) < rng.uniform(0.1, 0.5)
    return np.round(rng.normal(anomalous * 0.8) * 4) / 4, anomalous


def test_auroc_counts_pairs_in_order() -> None:
    # 0.35 lies above 0.1 and below 0.4, 0.8 above both: 3 of 4 pairs
    assert auroc(SCORES, ANOMALOUS) == 0.75


def test_a_tie_counts_half_in_auroc() -> None:
    assert auroc(np.array([0.5, 0.5, 0.9]), np.array([False, True, True])) == 0.75
    assert auroc(np.ones(5), np.array([True, False, False, True, False])) == 0.5


def test_auroc_is_one_for_a_perfect_score_and_zero_for_its_opposite() -> None:
    assert auroc(np.array([1.0, 2.0, 3.0]), np.array([False, False, True])) == 1.0
    assert auroc(-np.array([1.0, 2.0, 3.0]), np.array([False, False, True])) == 0.0


def test_average_precision_by_hand() -> None:
    # recall 1/2 at precision 1 (0.8), recall 1 at precision 2/3 (0.35): 1/2 + 1/3
    assert average_precision(SCORES, ANOMALOUS) == pytest.approx(5 / 6)


def test_average_precision_of_equal_scores_is_the_share_of_anomalous_images() -> None:
    assert average_precision(np.zeros(8), np.arange(8) < 2) == pytest.approx(0.25)


def test_average_precision_takes_unsigned_scores() -> None:
    assert average_precision(np.array([0, 1, 2], dtype=np.uint8), np.array([False, True, True])) == 1.0


def test_balanced_accuracy_by_hand() -> None:
    flagged = np.array([True, False, False, True, False])
    anomalous = np.array([True, True, False, False, False])
    assert balanced_accuracy(flagged, anomalous) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1.0)
    assert rank_correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1.0)
    # 1 - 6 * (0 + 1 + 1 + 0) / (4 * 15)
    assert rank_correlation(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 4])) == pytest.approx(0.8)


def test_scores_that_do_not_vary_correlate_only_with_each_other() -> None:
    assert rank_correlation(np.array([2.0, 2.0]), np.array([5.0, 5.0])) == 1.0
    assert rank_correlation(np.array([2.0, 2.0]), np.array([1.0, 5.0])) == 0.0
    assert rank_correlation(np.array([1.0, 5.0]), np.array([2.0, 2.0])) == 0.0


@pytest.mark.parametrize("anomalous", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_metrics_of_one_class_are_nan(anomalous: NDArray[np.bool_]) -> None:
    assert math.isnan(auroc(SCORES, anomalous))
    assert math.isnan(balanced_accuracy(SCORES > 0.3, anomalous))


def test_average_precision_without_anomalous_images_is_nan() -> None:
    assert math.isnan(average_precision(SCORES, np.zeros(4, dtype=bool)))
    assert average_precision(SCORES, np.ones(4, dtype=bool)) == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed: int) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    scores, anomalous = random_scores(seed)
    assert len(np.unique(scores)) < 40
    assert auroc(scores, anomalous) == pytest.approx(reference.roc_auc_score(anomalous, scores), abs=1e-12)
    assert average_precision(scores, anomalous) == pytest.approx(
        reference.average_precision_score(anomalous, scores), abs=1e-12
    )
    flagged = scores > 0.5
    assert balanced_accuracy(flagged, anomalous) == pytest.approx(
        reference.balanced_accuracy_score(anomalous, flagged), abs=1e-12
    )


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_agrees_with_scipy(seed: int) -> None:
    reference = pytest.importorskip("scipy.stats")
    (a, _), (b, _) = random_scores(seed), random_scores(seed + 100)
    for other in (b, a + b, -a):
        assert rank_correlation(a, other) == pytest.approx(reference.spearmanr(a, other).statistic, abs=1e-12)
