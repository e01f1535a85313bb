from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.score import CRITERIA
from train.calibrate import LIMIT_QUANTILE, calibrate_union


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
