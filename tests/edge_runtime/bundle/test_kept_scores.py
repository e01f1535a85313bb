"""What kept quantiles of n scores promise: the ranks of split conformal calibration, or a refusal."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores, scores_needed
from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.conformal import conformal_rank

RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.33, 0.5, 0.99)


def kept_of(scores: NDArray[np.float64]) -> KeptScores:
    return KeptScores(tuple(np.quantile(scores, SCORE_QUANTILES)), len(scores))


@pytest.mark.parametrize(("n", "rate"), [(50, 0.02), (60, 0.05), (300, 0.005), (1000, 0.01)])
def test_the_asked_rate_is_held_on_new_scores(n: int, rate: float) -> None:
    rng = np.random.default_rng(5)
    rates = [(rng.normal(size=1000) > kept_of(rng.normal(size=n)).threshold_at(rate)).mean() for _ in range(400)]
    # Three standard errors: of the threshold over its scores, and of counting new ones.
    assert np.mean(rates) <= rate + 3.0 * np.sqrt(rate * (1.0 / n + 1.0 / 1000) / 400)


@pytest.mark.parametrize("n", [2, 50, 99, 100, 200, 201, 202, 999, 2000])
def test_the_threshold_is_at_or_above_the_rank_and_at_most_a_step_of_quantiles_higher(n: int) -> None:
    scores = np.random.default_rng(n).permutation(np.arange(1.0, n + 1.0))
    for rate in RATES:
        rank = conformal_rank(n, rate)
        if rank > n:
            continue
        above = kept_of(scores).threshold_at(rate) - rank
        assert -1e-9 <= above <= 1.0 + n / 200.0, rate


def test_a_rate_that_the_scores_cannot_show_is_refused_with_what_they_can() -> None:
    told = r"keeps 50 normal scores, a rate of 0\.005 needs 199 or more; ask for 0\.0197 or more"
    with pytest.raises(ConfigError, match=told):
        kept_of(np.arange(50.0)).threshold_at(0.005)
    assert kept_of(np.arange(50.0)).threshold_at(0.0197) == 49.0
    assert [scores_needed(rate) for rate in (0.005, 0.01, 0.05, 0.3)] == [199, 99, 19, 3]
    for rate in (0.001, 0.0, 1.0):
        with pytest.raises(ConfigError, match=r"expected 0\.005 to below 1"):
            kept_of(np.arange(5000.0)).threshold_at(rate)


def test_the_rank_that_is_known_exactly_is_taken_where_it_is_high_enough() -> None:
    scores = np.random.default_rng(1).normal(size=1000)
    exact = float(np.sort(scores)[conformal_rank(1000, 0.01) - 1])
    known = KeptScores(kept_of(scores).quantiles, 1000, conformal_rank(1000, 0.01), exact)
    assert known.threshold_at(0.01) == exact < kept_of(scores).threshold_at(0.01)
    assert known.threshold_at(0.005) == scores.max()
    thresholds = [known.threshold_at(rate) for rate in RATES]
    assert thresholds == sorted(thresholds, reverse=True)


def calibration(**limit: object) -> dict[str, object]:
    scores = np.arange(1.0, 100.0) / 95.0
    quantiles = np.quantile(scores, SCORE_QUANTILES).tolist()
    return {"score_quantiles": quantiles, "n_images": 99, "limit": {"target_fpr": 0.05, "extrapolated": False} | limit}


def test_a_manifest_s_own_limit_is_1_where_its_rank_says_so() -> None:
    own = KeptScores.of_manifest(calibration())
    assert own is not None
    assert (own.n, own.rank, own.threshold_at(0.05)) == (99, 95, 1.0)
    for other in ({"extrapolated": True}, {"target_fpr": 0.2}, {"target_fpr": 0.001}):
        kept = KeptScores.of_manifest(calibration(**other))
        assert kept is not None
        assert kept.rank == 0
        assert kept.threshold_at(0.05) == pytest.approx(1.0, abs=0.01)
    assert KeptScores.of_manifest({"n_images": 99}) is None


def test_a_manifest_whose_scores_cannot_be_used_says_so() -> None:
    for wrong in ({"score_quantiles": [1.0]}, {"score_quantiles": "x"}, {"limit": {"target_fpr": 0.1}}):
        with pytest.raises(BundleError, match="export the bundle again"):
            KeptScores.of_manifest(calibration() | wrong)


def test_kept_scores_come_back_from_json() -> None:
    kept = KeptScores.of_manifest(calibration())
    assert kept is not None
    assert KeptScores.from_json(json.loads(json.dumps(asdict(kept), allow_nan=False))) == kept


def test_a_limit_by_another_rule_knows_no_rank() -> None:
    balanced = {"target_fpr": None, "stands_for": 0.05, "rule": "balanced"}
    kept = KeptScores.of_manifest(calibration(**balanced))
    assert kept is not None
    assert (kept.rank, kept.n) == (0, 99)
    assert kept.threshold_at(0.05) == KeptScores(kept.quantiles, 99).threshold_at(0.05)
