"""The unit of a criterion's errors, from the calibration that a manifest keeps."""

from __future__ import annotations

from typing import Any

import pytest

from edge_runtime.bundle.spread import criterion_spreads
from edge_runtime.errors import BundleError


def test_it_is_the_range_between_the_quartiles() -> None:
    numbers = {"mean": 3.0, "std": 9.0, "quantiles": {"0": 0.0, "0.25": -2.0, "0.5": 1.0, "0.75": 4.0, "1": 99.0}}
    calibration = {"criteria": {"neg_log_prior": numbers, "reconstruction_error": {"mean": 1.0}}}
    assert criterion_spreads(calibration) == {"neg_log_prior": 6.0}


def test_a_calibration_without_quantiles_has_none() -> None:
    assert criterion_spreads({}) == {}


@pytest.mark.parametrize(
    "calibration",
    [
        {"criteria": {"neg_log_prior": {"quantiles": {"0.25": 2.0, "0.75": 1.0}}}},
        {"criteria": {"neg_log_prior": {"quantiles": {"0.25": 2.0, "0.75": float("inf")}}}},
        {"criteria": {"neg_log_prior": {"quantiles": {"0.25": "much", "0.75": 1.0}}}},
        {"criteria": ["neg_log_prior"]},
    ],
)
def test_quartiles_that_cannot_be_are_refused(calibration: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="calibration"):
        criterion_spreads(calibration)
