"""The limit for an asked false-alarm rate: ranks by hand, and the rate that it realises on simulated images."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats

from edge_runtime.model.conformal import INTERVAL_LEVEL
from train.calibration.conformal_limit import conformal_limit

ONE_TO_19 = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))


@pytest.mark.parametrize(
    ("target_fpr", "limit"),
    [
        (0.1, 18.0),  # (19 + 1) * 0.9 = 18 exactly, though 20 * (1 - 0.1) in float64 need not be
        (0.05, 19.0),  # 20 * 0.95 = 19: the highest of all
        (0.2, 16.0),
        (0.12, 18.0),  # 17.6, rounded up: the rate may only be lower
        (0.5, 10.0),
    ],
)
def test_the_limit_is_the_score_of_the_rank_that_split_conformal_asks_for(target_fpr: float, limit: float) -> None:
    found = conformal_limit(ONE_TO_19, target_fpr)
    assert (found.limit, found.n, found.target_fpr, found.extrapolated) == (limit, 19, target_fpr, False)


@pytest.mark.parametrize("n", [9, 19, 99, 199, 999, 9999])
@pytest.mark.parametrize("target_fpr", [0.1, 0.2, 0.3, 0.7])
def test_a_rank_that_is_whole_is_not_pushed_up_by_rounding(n: int, target_fpr: float) -> None:
    whole = round((n + 1) * (1.0 - target_fpr))
    assert conformal_limit(np.arange(1.0, n + 1.0), target_fpr).limit == whole


def test_the_interval_of_the_realised_rate_is_that_of_a_beta_distribution() -> None:
    # Above the 18th of 19 lie two of the 20 gaps between uniform order statistics: Beta(2, 18), whose distribution
    # function is 1 - (1 - x)^18 (1 + 18 x).
    interval = conformal_limit(ONE_TO_19, 0.1).realised_fpr
    assert interval is not None
    for rate, below in zip(interval, ((1.0 - INTERVAL_LEVEL) / 2.0, (1.0 + INTERVAL_LEVEL) / 2.0), strict=True):
        assert 1.0 - (1.0 - rate) ** 18 * (1.0 + 18.0 * rate) == pytest.approx(below, rel=1e-6)
        assert stats.beta(2, 18).cdf(rate) == pytest.approx(below, rel=1e-6)


def test_more_images_narrow_the_interval() -> None:
    widths = []
    for n in (99, 999, 9999):
        interval = conformal_limit(np.arange(float(n)), 0.1).realised_fpr
        assert interval is not None
        assert interval[0] < 0.1 < interval[1]
        widths.append(interval[1] - interval[0])
    assert widths == sorted(widths, reverse=True)


def test_a_rate_that_no_score_is_high_enough_for_is_extrapolated_and_said_to_be() -> None:
    scores = np.random.default_rng(0).exponential(1.0, 100)
    at_the_edge, beyond = conformal_limit(scores, 1.0 / 101.0), conformal_limit(scores, 0.99 / 101.0)
    assert not at_the_edge.extrapolated
    assert at_the_edge.limit == scores.max()
    assert beyond.extrapolated
    assert beyond.realised_fpr is None


@pytest.mark.parametrize("seed", range(5))
def test_a_lower_rate_never_lowers_the_limit(seed: int) -> None:
    scores = np.random.default_rng(seed).normal(0.0, 1.0, 150)
    rates = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 1.0 / 151.0)
    inside = [conformal_limit(scores, rate).limit for rate in rates]
    assert inside == sorted(inside)
    beyond = [conformal_limit(scores, rate).limit for rate in (0.006, 0.003, 0.001, 1e-4, 1e-6)]
    assert beyond == sorted(beyond)
    assert all(math.isfinite(limit) for limit in beyond)


@pytest.mark.parametrize("tail", ["normal", "exponential", "gumbel"])
def test_the_limit_never_falls_across_the_switch_to_the_fitted_tail(tail: str) -> None:
    # The light tails are those whose fitted shape is negative, in most of the draws.
    for seed in range(12):
        scores = getattr(np.random.default_rng(seed), tail)(size=99)
        highest = conformal_limit(scores, 0.01).limit
        assert highest == scores.max()
        beyond = [conformal_limit(scores, rate).limit for rate in (0.00999, 0.005, 1e-4)]
        assert [highest, *beyond] == sorted([highest, *beyond]), seed


def test_a_tail_that_is_taken_for_exponential_has_the_scale_of_one() -> None:
    # Evenly spaced: the shape that fits is negative. The tail is the 20 above 79, their mean excess 10.5.
    found = conformal_limit(np.arange(100.0), 0.001)
    assert found.limit == pytest.approx(79.0 + 10.5 * math.log(0.2 / 0.001))


def test_the_extrapolated_limit_of_an_exponential_tail_is_near_its_quantile() -> None:
    limits = [conformal_limit(np.random.default_rng(seed).exponential(1.0, 500), 0.001).limit for seed in range(20)]
    # The 0.999 quantile of an exponential is log(1000) = 6.9; a fifth of it is the spread of a tail fitted on 50.
    assert np.median(limits) == pytest.approx(math.log(1000.0), rel=0.2)


@pytest.mark.parametrize("n", [2, 3, 10, 20, 21])
def test_few_scores_give_a_finite_limit_at_least_as_high_as_the_tail_starts(n: int) -> None:
    scores = np.random.default_rng(n).normal(0.0, 1.0, n)
    found = conformal_limit(scores, 0.001)
    assert found.extrapolated
    assert math.isfinite(found.limit)
    assert found.limit > scores.min()


@pytest.mark.parametrize("contamination", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("target_fpr", [0.01, 0.05])
def test_the_realised_rate_is_not_above_the_asked_one(target_fpr: float, contamination: float) -> None:
    rng = np.random.default_rng(17)
    n_trials, n_calibrating, n_new = 200, 400, 1000
    false_alarms = 0
    for _ in range(n_trials):
        scores = rng.normal(0.0, 1.0, n_calibrating)
        n_anomalous = round(contamination * n_calibrating)
        scores[:n_anomalous] += 3.0
        limit = conformal_limit(scores, target_fpr).limit
        false_alarms += int((rng.normal(0.0, 1.0, n_new) > limit).sum())
    realised = false_alarms / (n_trials * n_new)
    # Three standard errors: of the limit over its calibrating images, and of counting new ones.
    variance = target_fpr * (1.0 - target_fpr) * (1.0 / n_calibrating + 1.0 / n_new) / n_trials
    assert realised <= target_fpr + 3.0 * math.sqrt(variance)
    if contamination:
        assert realised < target_fpr  # anomalies only raise the limit
    else:
        assert realised >= target_fpr - 1.0 / (n_calibrating + 1) - 3.0 * math.sqrt(variance)


def test_the_limit_is_plain_json() -> None:
    for target_fpr in (0.1, 0.001):
        found = conformal_limit(ONE_TO_19, target_fpr).to_json()
        again = json.loads(json.dumps(found, allow_nan=False))
        assert set(again) == {"limit", "target_fpr", "n", "extrapolated", "realised_fpr"}
        assert again["limit"] == found["limit"]
