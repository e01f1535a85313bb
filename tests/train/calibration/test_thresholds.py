from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.score import CRITERIA, FusedRule, Term, decision_from_json
from train.calibration.thresholds import LIMIT_QUANTILE, LimitSettings, calibrate_fused, calibrate_union


def eleven_images() -> NDArray[np.float32]:
    """Errors 0 to 10 and, the other way round, 0 to 100 nats: quantiles fall on whole images."""
    errors = np.arange(11.0)
    return np.stack((errors, 10 * errors[::-1]), axis=1).astype(np.float32)


def test_limits_are_the_p90_and_the_median_of_each_criterion() -> None:
    _, decision = calibrate_union(eleven_images(), "aae")
    error, prior = decision.limits["reconstruction_error"], decision.limits["neg_log_prior"]
    assert (error.threshold, error.center) == (9.0, 5.0)
    assert (prior.threshold, prior.center) == (90.0, 50.0)
    assert LIMIT_QUANTILE == 0.9


def test_a_quantile_between_two_images_is_interpolated() -> None:
    criteria = np.array([[1, 1], [2, 2], [3, 3], [10, 20]], dtype=np.float32)
    _, decision = calibrate_union(criteria, "aae")
    # Position 0.9 * 3 = 2.7 among 1, 2, 3, 10; position 1.5 for the median.
    assert decision.limits["reconstruction_error"].threshold == pytest.approx(3 + 0.7 * 7)
    assert decision.limits["reconstruction_error"].center == pytest.approx(2.5)
    assert decision.limits["neg_log_prior"].threshold == pytest.approx(3 + 0.7 * 17)


def test_an_image_is_flagged_above_either_limit() -> None:
    criteria = eleven_images()
    calibration, decision = calibrate_union(criteria, "aae")
    flagged = decision.is_anomalous(decision.score(criteria))
    # Error 10 lies above 9, and the image of error 0 has 100 nats, above 90; 9 itself is not above 9.
    assert np.flatnonzero(flagged).tolist() == [0, 10]
    assert calibration["flagged_share"] == pytest.approx(2 / 11)


def test_the_conventional_autoencoder_is_limited_by_the_error_alone() -> None:
    criteria = eleven_images()
    calibration, decision = calibrate_union(criteria, "ae")
    assert list(decision.limits) == ["reconstruction_error"]
    assert np.flatnonzero(decision.is_anomalous(decision.score(criteria))).tolist() == [10]
    assert calibration["flagged_share"] == pytest.approx(1 / 11)


def test_the_numbers_of_both_criteria_are_reported_whatever_the_method() -> None:
    calibration, _ = calibrate_union(eleven_images(), "ae")
    assert list(calibration["criteria"]) == list(CRITERIA)
    assert calibration["n_images"] == 11
    assert calibration["limit_quantile"] == 0.9
    prior = calibration["criteria"]["neg_log_prior"]
    assert prior["mean"] == pytest.approx(50.0)
    assert prior["std"] == pytest.approx(10 * math.sqrt(10))  # sum of squares of -5..5 is 110, over 11
    assert prior["quantiles"]["0"] == 0.0
    assert prior["quantiles"]["0.1"] == pytest.approx(10.0)
    assert prior["quantiles"]["0.9"] == pytest.approx(90.0)
    assert prior["quantiles"]["1"] == 100.0


def test_the_calibration_is_plain_json() -> None:
    calibration, decision = calibrate_union(eleven_images(), "aae")
    both = {"calibration": calibration, "decision": decision.to_json()}
    assert json.loads(json.dumps(both, allow_nan=False)) == both


@pytest.mark.parametrize("column", [0, 1])
def test_a_criterion_that_does_not_vary_is_refused(column: int) -> None:
    criteria = eleven_images()
    criteria[:, column] = 4.0
    with pytest.raises(DataError, match=r"training images cannot be told apart: .*are they all the same\?"):
        calibrate_union(criteria, "aae")


def test_a_prior_that_does_not_vary_does_not_matter_to_the_conventional_autoencoder() -> None:
    criteria = eleven_images()
    criteria[:, 1] = 4.0
    _, decision = calibrate_union(criteria, "ae")
    assert decision.limits["reconstruction_error"].threshold == 9.0


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_criteria_that_are_not_finite_are_refused(value: float) -> None:
    criteria = eleven_images()
    criteria[4, 1] = value
    with pytest.raises(DataError, match=r"training diverged: criteria are not finite; use a smaller learning"):
        calibrate_union(criteria, "aae")


FUSED_NAMES = (*CRITERIA, "texture")
FUSED_TERMS = {
    "reconstruction_error": Term(weight=1.0, transform="linear"),
    "neg_log_prior": Term(weight=0.5, transform="linear", floor=2.0),
}


def at_most(rate: float) -> LimitSettings:
    return LimitSettings(rule="conformal", target_fpr=rate)


def ninety_nine_images() -> NDArray[np.float32]:
    """Sums of terms 1 to 99: errors 1 to 99, likelihoods at their floor, and a criterion that takes no part."""
    errors = np.arange(1.0, 100.0)
    return np.stack((errors, np.full(99, 2.0), -errors), axis=1).astype(np.float32)


def test_the_fused_limit_is_the_conformal_rank_of_the_sums() -> None:
    calibration, decision = calibrate_fused(ninety_nine_images(), FUSED_NAMES, FUSED_TERMS, at_most(0.05), 0)
    assert isinstance(decision, FusedRule)
    # (99 + 1) * 0.95 = 95th of 99, median 50
    assert (decision.limit.threshold, decision.limit.center) == (95.0, 50.0)
    assert decision.criteria == FUSED_NAMES
    assert calibration["limit"]["target_fpr"] == 0.05
    assert calibration["limit"]["limit"] == 95.0
    assert not calibration["limit"]["extrapolated"]


def test_the_fused_score_of_training_images_is_zero_at_the_median_and_one_at_the_limit() -> None:
    criteria = ninety_nine_images()
    calibration, decision = calibrate_fused(criteria, FUSED_NAMES, FUSED_TERMS, at_most(0.05), 0)
    scores = decision.score(criteria)
    assert (scores[49], scores[94]) == (0.0, 1.0)
    assert np.flatnonzero(decision.is_anomalous(scores)).tolist() == [95, 96, 97, 98]
    assert calibration["flagged_share"] == pytest.approx(4 / 99)
    assert calibration["n_images"] == 99
    quantiles = calibration["score_quantiles"]
    assert len(quantiles) == 201
    assert (quantiles[0], quantiles[100], quantiles[-1]) == (scores[0], 0.0, scores[-1])
    assert quantiles == sorted(quantiles)


def test_a_lower_false_alarm_rate_never_lowers_the_fused_limit() -> None:
    limits = [
        calibrate_fused(ninety_nine_images(), FUSED_NAMES, FUSED_TERMS, at_most(rate), 0)[0]["limit"]["limit"]
        for rate in (0.2, 0.05, 0.01, 0.001)
    ]
    assert limits == sorted(limits)


def test_a_rate_below_what_the_images_can_tell_is_said_to_be_extrapolated() -> None:
    calibration, _ = calibrate_fused(ninety_nine_images(), FUSED_NAMES, FUSED_TERMS, at_most(0.001), 0)
    assert calibration["limit"]["extrapolated"]
    assert calibration["limit"]["realised_fpr"] is None


def test_anomalies_among_the_images_raise_the_limit_and_show_in_the_contamination() -> None:
    clean = np.random.default_rng(0).normal(10.0, 1.0, (500, 3)).astype(np.float32)
    dirty = clean.copy()
    dirty[:50, 0] += 20.0
    (of_clean, clean_rule), (of_dirty, dirty_rule) = (
        calibrate_fused(criteria, FUSED_NAMES, FUSED_TERMS, at_most(0.05), 0) for criteria in (clean, dirty)
    )
    assert isinstance(clean_rule, FusedRule)
    assert isinstance(dirty_rule, FusedRule)
    assert dirty_rule.limit.threshold > clean_rule.limit.threshold
    assert of_clean["contamination"]["share"] < 0.02
    assert of_dirty["contamination"]["low"] <= 0.1 <= of_dirty["contamination"]["high"]


def test_the_numbers_of_every_criterion_are_reported_whether_it_takes_part_or_not() -> None:
    calibration, _ = calibrate_fused(ninety_nine_images(), FUSED_NAMES, FUSED_TERMS, at_most(0.05), 0)
    assert list(calibration["criteria"]) == list(FUSED_NAMES)
    assert calibration["criteria"]["texture"]["mean"] == pytest.approx(-50.0)


@pytest.mark.parametrize("target_fpr", [0.05, 0.001])
def test_the_fused_calibration_is_plain_json(target_fpr: float) -> None:
    calibration, decision = calibrate_fused(ninety_nine_images(), FUSED_NAMES, FUSED_TERMS, at_most(target_fpr), 0)
    text = json.dumps({"calibration": calibration, "decision": decision.to_json()}, allow_nan=False)
    assert decision_from_json(json.loads(text)["decision"], FUSED_NAMES) == decision


@pytest.mark.parametrize("target_fpr", [0.05, 0.001])
def test_a_fused_score_that_does_not_vary_is_refused(target_fpr: float) -> None:
    with pytest.raises(DataError, match=r"training images cannot be told apart: .*are they all the same\?"):
        calibrate_fused(np.full((99, 3), 4.0, np.float32), FUSED_NAMES, FUSED_TERMS, at_most(target_fpr), 0)


@pytest.mark.parametrize("target_fpr", [0.05, 0.001])
def test_one_image_alone_cannot_be_calibrated_on(target_fpr: float) -> None:
    with pytest.raises(DataError, match=r"training images cannot be told apart"):
        calibrate_fused(np.full((1, 3), 4.0, np.float32), FUSED_NAMES, FUSED_TERMS, at_most(target_fpr), 0)


def test_fused_criteria_that_are_not_finite_are_refused() -> None:
    criteria = ninety_nine_images()
    criteria[4, 2] = math.nan
    with pytest.raises(DataError, match=r"training diverged: criteria are not finite"):
        calibrate_fused(criteria, FUSED_NAMES, FUSED_TERMS, at_most(0.05), 0)
