"""Detection metrics: by hand, and against scikit-learn and scipy on random scores with ties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime import metrics
from edge_runtime.metrics import (
    auroc,
    auroc_of_counts,
    average_precision,
    average_precision_of_counts,
    balanced_accuracy,
    best_f1,
    bootstrap,
    counts_at_thresholds,
    fpr_at_tpr,
    rank_correlation,
    wilson_interval,
)

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


def test_ranks_count_beyond_a_tie() -> None:
    # Three pairs: the first two scores swap by 0.2, the third stays the largest.
    a, b = np.array([1.0, 1.1, 3.0]), np.array([1.1, 1.0, 3.0])
    assert rank_correlation(a, b) == rank_correlation(a, b, tie=0.19) == pytest.approx(0.5)
    assert rank_correlation(a, b, tie=0.21) == pytest.approx(1.0)
    assert rank_correlation(a, a[::-1], tie=0.5) == pytest.approx(-1.0)


def test_a_tie_of_next_to_nothing_leaves_the_ranks_as_they_are() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 9, 40).astype(float), rng.integers(0, 9, 40).astype(float)
    assert rank_correlation(a, b, tie=1e-9) == pytest.approx(rank_correlation(a, b))


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


def test_counts_at_thresholds_by_hand() -> None:
    counts = counts_at_thresholds(np.array([0.5, 0.9, 0.5, 0.1]), np.array([True, True, False, False]))
    assert counts.thresholds.tolist() == [0.9, 0.5, 0.1]
    assert counts.true_positives.tolist() == [1, 2, 2]
    assert counts.false_positives.tolist() == [0, 1, 2]


def test_fpr_at_tpr_by_hand() -> None:
    # Both anomalous images are found from 0.35 down, where 0.4 is flagged too; the first of them at 0.8 alone.
    assert fpr_at_tpr(SCORES, ANOMALOUS) == 0.5
    assert fpr_at_tpr(SCORES, ANOMALOUS, tpr=0.5) == 0.0


def test_fpr_at_95_tpr_may_miss_one_of_twenty_anomalous_images() -> None:
    scores = np.concatenate((np.arange(1.0, 21.0), [1.5]))
    anomalous = np.arange(21) < 20
    assert fpr_at_tpr(scores, anomalous) == 0.0  # without the image at 1.0, which lies below the normal one
    assert fpr_at_tpr(scores, anomalous, tpr=0.96) == 1.0
    # Two of 21 lie below it, and 19 are less than 95 %.
    assert fpr_at_tpr(np.append(scores, 1.2), np.append(anomalous, True)) == 1.0


def test_a_normal_image_tied_with_the_last_anomalous_one_counts_in_fpr() -> None:
    assert fpr_at_tpr(np.array([1.0, 1.0, 0.0]), np.array([True, False, False])) == 0.5


def test_best_f1_by_hand() -> None:
    # From 0.8: precision 1, recall 1/2, F1 2/3. From 0.35: 2 of 3 right, recall 1, F1 4/5.
    f1, threshold = best_f1(SCORES, ANOMALOUS)
    assert f1 == pytest.approx(0.8)
    assert threshold == 0.35


@pytest.mark.parametrize("anomalous", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_rates_and_oracles_of_one_class_are_nan(anomalous: NDArray[np.bool_]) -> None:
    assert math.isnan(fpr_at_tpr(SCORES, anomalous))
    assert all(math.isnan(value) for value in best_f1(SCORES, anomalous))
    rng = np.random.default_rng(0)
    assert bootstrap(SCORES, SCORES > 0.3, anomalous, n_resamples=10, rng=rng) == {}


@pytest.mark.parametrize("seed", range(5))
def test_curves_agree_with_scikit_learn(seed: int) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    scores, anomalous = random_scores(seed)
    fpr, tpr, _ = reference.roc_curve(anomalous, scores, drop_intermediate=False)
    counts = counts_at_thresholds(scores, anomalous)
    np.testing.assert_allclose(counts.false_positives / (~anomalous).sum(), fpr[1:], atol=1e-12)
    np.testing.assert_allclose(counts.true_positives / anomalous.sum(), tpr[1:], atol=1e-12)
    assert fpr_at_tpr(scores, anomalous) == pytest.approx(fpr[tpr >= 0.95].min(), abs=1e-12)
    each = [reference.f1_score(anomalous, scores >= threshold) for threshold in np.unique(scores)]
    f1, threshold = best_f1(scores, anomalous)
    assert f1 == pytest.approx(max(each), abs=1e-12)
    assert reference.f1_score(anomalous, scores >= threshold) == pytest.approx(f1, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_histograms_are_those_of_the_scores(seed: int) -> None:
    scores, anomalous = random_scores(seed)
    counts = counts_at_thresholds(scores, anomalous)
    positives = np.diff(counts.true_positives, prepend=0)
    negatives = np.diff(counts.false_positives, prepend=0)
    assert float(auroc_of_counts(positives, negatives)) == pytest.approx(auroc(scores, anomalous), abs=1e-12)
    assert float(average_precision_of_counts(positives, negatives)) == pytest.approx(
        average_precision(scores, anomalous), abs=1e-12
    )
    both = auroc_of_counts(np.stack([positives, negatives]), np.stack([negatives, positives]))
    assert both.shape == (2,)
    assert both.sum() == pytest.approx(1.0)


def test_histograms_of_very_many_pixels_do_not_overflow() -> None:
    assert float(auroc_of_counts(np.array([10**10, 0]), np.array([0, 10**10]))) == 1.0


def test_bootstrap_intervals_hold_the_figures_and_repeat() -> None:
    scores, anomalous = random_scores(0)
    flagged = scores > 0.5

    def intervals(seed: int) -> dict[str, tuple[float, float]]:
        return bootstrap(scores, flagged, anomalous, n_resamples=400, rng=np.random.default_rng(seed))

    found = intervals(3)
    figures = {
        "auroc": auroc(scores, anomalous),
        "average_precision": average_precision(scores, anomalous),
        "balanced_accuracy": balanced_accuracy(flagged, anomalous),
        "fpr_at_95_tpr": fpr_at_tpr(scores, anomalous),
    }
    assert set(found) == set(figures)
    for name, figure in figures.items():
        low, high = found[name]
        assert low <= figure <= high, name
        assert 0.02 < high - low < 0.5, name
    assert intervals(3) == found
    assert intervals(4) != found


def test_the_bootstrap_interval_of_auroc_is_as_wide_as_the_normal_approximation() -> None:
    # Hanley and McNeil 1982 for continuous scores, 100 of each class.
    rng = np.random.default_rng(1)
    anomalous = np.arange(200) < 100
    scores = rng.normal(anomalous * 1.0)
    area = auroc(scores, anomalous)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + 99 * (q1 - area**2) + 99 * (q2 - area**2)) / 100**2)
    low, high = bootstrap(scores, scores > 1.0, anomalous, n_resamples=2000, rng=rng)["auroc"]
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.12)


def test_the_bootstrap_in_pieces_draws_as_many_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, anomalous = random_scores(0)
    monkeypatch.setattr(metrics, "RESAMPLED_AT_ONCE", 450)  # two resamples of 200 images a piece
    found = bootstrap(scores, scores > 0.5, anomalous, n_resamples=101, rng=np.random.default_rng(0))
    assert found["auroc"][0] < auroc(scores, anomalous) < found["auroc"][1]


def test_no_resamples_give_no_intervals() -> None:
    rng = np.random.default_rng(0)
    assert bootstrap(SCORES, SCORES > 0.3, ANOMALOUS, n_resamples=0, rng=rng) == {}


def test_perfectly_told_apart_images_have_intervals_of_no_width() -> None:
    scores, anomalous = np.arange(20.0), np.arange(20) >= 10
    found = bootstrap(scores, scores > 9, anomalous, n_resamples=50, rng=np.random.default_rng(0))
    assert found["auroc"] == (1.0, 1.0)
    assert found["fpr_at_95_tpr"] == (0.0, 0.0)


def test_wilson_intervals_as_published() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for n_flagged, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson_interval(n_flagged, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_wilson_intervals_at_the_ends_mirror_each_other() -> None:
    none, every = wilson_interval(0, 95), wilson_interval(95, 95)
    assert none[0] == 0.0
    assert every[1] == 1.0
    assert every[0] == pytest.approx(1.0 - none[1])
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))
