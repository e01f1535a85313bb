"""The balanced limit: about the rate on clean scores, hardly moved by anomalies, honest about few images."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_runtime.errors import ConfigError
from train.calibration.balanced_limit import BALANCED_FPR, MOST_FPR, balanced_limit, balanced_rate
from train.calibration.conformal_limit import conformal_limit
from train.calibration.contamination import Contamination
from train.calibration.thresholds import LimitSettings

NONE = Contamination(0.0, 0.0, 0.0)


def realised(n: int, rate: float, contamination: float = 0.0, trials: int = 200) -> tuple[float, float, float]:
    """Mean false alarms and hits of standard normal scores against anomalies 3 above, and share of intervals kept."""
    rng = np.random.default_rng(0)
    false_alarms, hits, kept = [], [], []
    for _ in range(trials):
        n_bad = round(contamination * n)
        scores = np.concatenate((rng.normal(size=n - n_bad), rng.normal(3.0, size=n_bad)))
        found = balanced_limit(scores, rate, rate, Contamination(contamination, 0.0, contamination))
        new = rng.normal(size=2000)
        false_alarms.append((new > found.limit).mean())
        hits.append((new + 3.0 > found.limit).mean())
        low, high = found.realised_fpr
        kept.append(low <= false_alarms[-1] <= high)
    return float(np.mean(false_alarms)), float(np.mean(hits)), float(np.mean(kept))


@pytest.mark.parametrize(("n", "contamination"), [(300, 0.0), (300, 0.05), (300, 0.1), (60, 0.0), (60, 0.05)])
def test_the_realised_rate_is_near_what_it_stands_for(n: int, contamination: float) -> None:
    false_alarms, hits, kept = realised(n, BALANCED_FPR, contamination)
    # Normal scores have no longer tail than the spread says, so a rate of .05 becomes one of Phi(-1.15 * 1.645) = .03.
    assert 0.005 < false_alarms < 0.06
    assert hits > 0.75
    assert kept > 0.9


def test_anomalies_among_the_scores_cost_little_where_the_rank_loses_nearly_all() -> None:
    rng = np.random.default_rng(1)
    clean, anomalous = rng.normal(size=285), rng.normal(4.0, size=15)
    mixed = np.concatenate((clean, anomalous))
    by_spread = balanced_limit(mixed, 0.01, 0.01, Contamination(0.05, 0.0, 0.1)).limit
    assert (anomalous > by_spread).mean() >= 0.8
    assert (anomalous > conformal_limit(mixed, 0.01).limit).mean() < 0.2


@pytest.mark.parametrize(("n_normal", "n_bad", "most"), [(28, 2, 3.0), (9, 1, 4.5)])
def test_of_few_scores_one_straggler_below_the_anomalies_does_not_set_the_limit(
    n_normal: int, n_bad: int, most: float
) -> None:
    """The limit is as low as the spread says; with room for the rate's share alone it was the straggler."""
    mixed = np.concatenate((np.linspace(-1.5, 1.5, n_normal - 1), [4.0], np.full(n_bad, 5.0)))
    found = balanced_limit(mixed, BALANCED_FPR, None, Contamination(n_bad / len(mixed), 0.0, 1.0))
    assert 1.5 <= found.limit < most


def test_few_images_stand_for_the_least_rate_that_they_can_show() -> None:
    scores = np.random.default_rng(2).normal(size=31)
    found = balanced_limit(scores, 0.01, 0.01, NONE)
    assert (found.target_fpr, found.stands_for, found.n) == (0.01, 1 / 32, 31)
    assert found.limit == balanced_limit(scores, 1 / 32, None, NONE).limit


def test_a_stricter_rate_never_lowers_the_limit() -> None:
    rng = np.random.default_rng(3)
    for n in (5, 31, 99, 300):
        for scores in (rng.normal(size=n), rng.exponential(size=n), rng.standard_t(2, size=n)):
            limits = [balanced_limit(scores, rate, rate, NONE).limit for rate in (0.4, 0.2, 0.1, 0.05, 0.01, 0.001)]
            assert limits == sorted(limits)


def test_it_finds_no_less_than_the_conformal_limit_of_the_rate() -> None:
    rng = np.random.default_rng(6)
    for scores in (rng.uniform(size=41), rng.normal(size=300)):
        assert balanced_limit(scores, 0.05, None, NONE).limit <= conformal_limit(scores, 0.05).limit


def test_at_most_a_twentieth_more_than_the_rate_may_lie_above_it() -> None:
    scores = np.concatenate((np.random.default_rng(4).normal(size=200), np.linspace(3.0, 9.0, 100)))
    assert (scores > balanced_limit(scores, 0.05, None, NONE).limit).mean() <= 0.1


def test_scores_of_one_value_have_no_limit_above_them() -> None:
    assert balanced_limit(np.ones(40), 0.05, None, NONE).limit == 1.0


def test_what_is_told_goes_into_a_manifest() -> None:
    told = balanced_limit(np.arange(100.0), 0.05, None, NONE).to_json()
    assert json.loads(json.dumps(told)) == told | {"realised_fpr": list(told["realised_fpr"])}
    assert (told["rule"], told["target_fpr"], told["level"], told["extrapolated"]) == ("balanced", None, 0.95, False)


@pytest.mark.parametrize(("surely", "stated"), [(0, 20.5 / 201), (6, 14.5 / 201), (50, BALANCED_FPR)])
def test_what_may_be_anomalous_is_not_taken_off_the_rate_that_is_stated(surely: int, stated: float) -> None:
    """Of twenty above the limit all may be anomalies: then none is normal at the interval's low end."""
    scores = np.concatenate((np.linspace(-1.0, 1.0, 180), np.full(20, 9.0)))
    told = balanced_limit(scores, BALANCED_FPR, None, Contamination(0.1, surely / 200, 0.3))
    assert (scores > told.limit).sum() == 20
    assert told.expected_fpr == pytest.approx(stated)
    assert told.realised_fpr[0] == 0.0
    assert told.realised_fpr[0] <= told.expected_fpr <= told.realised_fpr[1]


def test_no_rate_is_stated_below_the_one_that_the_limit_stands_for() -> None:
    scores = np.sort(np.random.default_rng(2).normal(size=30))
    scores[-1] = scores[-2]  # none of thirty lies above: they were said to give 16 false alarms in 1,000
    told = balanced_limit(scores, BALANCED_FPR, None, Contamination(0.1, 0.0, 0.3))
    assert told.expected_fpr >= told.stands_for == BALANCED_FPR
    assert told.realised_fpr[0] <= told.expected_fpr <= told.realised_fpr[1]


def test_costs_choose_the_rate() -> None:
    assert balanced_rate(7.0, 7.0) == BALANCED_FPR
    assert balanced_rate(1.0, 5.0) == pytest.approx(BALANCED_FPR / 5.0)
    assert balanced_rate(100.0, 1.0) == MOST_FPR


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target_fpr": 0.0}, r"--target-fpr is 0, expected a rate above 0 and below 0\.5"),
        ({"target_fpr": 0.5}, r"--target-fpr is 0\.5, expected a rate above 0 and below 0\.5"),
        ({"rule": "guess"}, "--threshold-rule is 'guess', expected one of balanced, conformal"),
        ({"cost_miss": 0.0}, "--cost-miss is 0, expected a cost above 0"),
        ({"cost_false_alarm": float("nan")}, "--cost-false-alarm is nan, expected a cost above 0"),
        ({"cost_miss": 2.0, "rule": "conformal"}, "choose the rate of --threshold-rule balanced"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LimitSettings(**values)  # type: ignore[arg-type]


def test_the_rule_and_its_rate_are_told_whichever_is_asked() -> None:
    scores = np.random.default_rng(5).normal(size=300)
    assert LimitSettings().found(scores, NONE)[1]["stands_for"] == BALANCED_FPR
    assert LimitSettings(cost_miss=2.0).found(scores, NONE)[1]["stands_for"] == 2.0 * BALANCED_FPR
    limit, told = LimitSettings(rule="conformal").found(scores, NONE)
    assert (told["rule"], told["target_fpr"], told["limit"]) == ("conformal", 0.01, limit)


def test_the_interval_of_the_next_stretch_holds_where_sessions_differ() -> None:
    rng, kept, plain = np.random.default_rng(4), 0, 0
    stretch = np.repeat(np.arange(10), 30)
    for _ in range(200):
        level = rng.normal(0.0, 0.7, 11)
        scores = rng.normal(level[stretch])
        found = balanced_limit(scores, BALANCED_FPR, None, NONE, stretch)
        new = float((rng.normal(level[10], size=2000) > found.limit).mean())
        kept += found.realised_fpr[0] <= new <= found.realised_fpr[1]
        low, high = balanced_limit(scores, BALANCED_FPR, None, NONE).realised_fpr
        plain += low <= new <= high
    assert kept >= 170  # of 200; rates of a share are no normal numbers, so fewer than the 190 of the level
    assert plain < 130
