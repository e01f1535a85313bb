"""The score: criteria by hand-worked numbers, one definition for numpy and torch, and the union rule at its limits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.score import (
    CRITERIA,
    Decision,
    Limit,
    UnionRule,
    anomaly_map,
    decision_from_json,
    reconstruction_error,
)

SUMMATION_RTOL = 1e-6
"""numpy and torch add float32 values in another order."""

UNION = UnionRule(
    limits={
        "reconstruction_error": Limit(threshold=2.0, center=1.0),
        "neg_log_prior": Limit(threshold=10.0, center=4.0),
    }
)
ERROR_ONLY = UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=1.0)})

JUST_ABOVE_2 = float(np.nextafter(np.float32(2.0), np.float32(np.inf)))
JUST_BELOW_2 = float(np.nextafter(np.float32(2.0), np.float32(0.0)))
JUST_ABOVE_10 = float(np.nextafter(np.float32(10.0), np.float32(np.inf)))
JUST_BELOW_10 = float(np.nextafter(np.float32(10.0), np.float32(0.0)))


def test_the_criteria_are_named_in_the_order_of_the_columns() -> None:
    assert CRITERIA == ("reconstruction_error", "neg_log_prior")


def test_reconstruction_error_is_the_euclidean_distance_of_each_image() -> None:
    x = np.array([[[[0.0, 0.5]]], [[[1.0, 1.0]]]])  # (2, 1, 1, 2)
    x_hat = np.array([[[[0.3, 0.9]]], [[[1.0, 1.0]]]])
    np.testing.assert_allclose(reconstruction_error(x, x_hat), [0.5, 0.0], rtol=1e-12)


def test_reconstruction_error_sums_over_channels_and_does_not_average() -> None:
    x = np.ones((1, 3, 2, 2))
    assert reconstruction_error(x, np.zeros_like(x))[0] == pytest.approx(12**0.5)


def test_the_anomaly_map_is_the_mean_square_over_channels_at_each_pixel() -> None:
    x = np.array([[[[0.2, 0.0]], [[0.4, 1.0]]]])  # (1, 2, 1, 2)
    np.testing.assert_allclose(anomaly_map(x, np.zeros_like(x)), [[[0.1, 0.5]]], rtol=1e-12)


@pytest.mark.parametrize("quantity", [reconstruction_error, anomaly_map])
def test_numpy_and_torch_give_the_same_numbers(quantity: Any) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, x_hat = rng.random((2, 4, 3, 5, 6), dtype=np.float32)
    from_torch = quantity(torch.from_numpy(x), torch.from_numpy(x_hat))
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_allclose(from_torch.numpy(), quantity(x, x_hat), rtol=SUMMATION_RTOL)


@pytest.mark.parametrize(
    ("error", "neg_log_prior", "score"),
    [
        (1.0, 4.0, 0.0),  # both at their medians
        (2.0, 4.0, 1.0),  # error at its limit
        (1.0, 10.0, 1.0),  # likelihood at its limit
        (1.5, 5.5, 0.5),  # (1.5 - 1) / 1 = 0.5 over (5.5 - 4) / 6 = 0.25
        (1.25, 8.5, 0.75),  # (8.5 - 4) / 6 = 0.75 over 0.25
        (3.0, 4.0, 2.0),
        (0.0, 1.0, -0.5),  # -1 and -0.5: the larger
    ],
)
def test_the_score_is_zero_at_the_median_and_one_at_the_first_limit(
    error: float, neg_log_prior: float, score: float
) -> None:
    np.testing.assert_allclose(UNION.score(np.array([[error, neg_log_prior]])), [score], rtol=1e-12)


@pytest.mark.parametrize(
    ("error", "neg_log_prior", "anomalous"),
    [
        (JUST_BELOW_2, JUST_BELOW_10, False),
        (2.0, 10.0, False),
        (2.0, 4.0, False),
        (1.0, 10.0, False),
        (JUST_ABOVE_2, 4.0, True),
        (1.0, JUST_ABOVE_10, True),
        (JUST_ABOVE_2, JUST_ABOVE_10, True),
        (-100.0, JUST_ABOVE_10, True),
        (JUST_ABOVE_2, -100.0, True),
    ],
)
def test_a_frame_is_anomalous_above_either_limit_and_not_at_it(
    error: float, neg_log_prior: float, anomalous: bool
) -> None:
    criteria = np.array([[error, neg_log_prior]], dtype=np.float32)
    assert UNION.is_anomalous(UNION.score(criteria)).tolist() == [anomalous]


def test_a_batch_is_scored_row_by_row_in_float64() -> None:
    scores = UNION.score(np.array([[2.0, 4.0], [1.0, 4.0], [1.0, 16.0]], dtype=np.float32))
    assert scores.dtype == np.float64
    assert scores.tolist() == [1.0, 0.0, 2.0]


def test_a_conventional_autoencoder_looks_at_the_error_alone() -> None:
    scores = ERROR_ONLY.score(np.array([[1.5, 1e6], [2.5, -1e6]]))
    assert scores.tolist() == [0.5, 1.5]
    assert ERROR_ONLY.is_anomalous(scores).tolist() == [False, True]


def test_a_higher_threshold_on_the_score_flags_less() -> None:
    stricter = UnionRule(limits=UNION.limits, threshold=2.0)
    assert stricter.is_anomalous(np.array([1.5, 2.0, 2.5])).tolist() == [False, False, True]
    assert UNION.is_anomalous(np.array([1.5, 2.0, 2.5])).tolist() == [True, True, True]


@pytest.mark.parametrize("threshold", [1.0, 0.5])
def test_a_limit_not_above_its_median_is_refused(threshold: float) -> None:
    with pytest.raises(
        ConfigError, match=rf"threshold {threshold} is not above the median 1\.0: the criterion does not"
    ):
        Limit(threshold=threshold, center=1.0)


@pytest.mark.parametrize(
    ("threshold", "center"), [(float("nan"), 1.0), (2.0, float("nan")), (float("inf"), 1.0), (2.0, float("-inf"))]
)
def test_a_limit_that_is_not_finite_is_refused(threshold: float, center: float) -> None:
    with pytest.raises(ConfigError, match=rf"threshold {threshold} and center {center}, expected finite numbers"):
        Limit(threshold=threshold, center=center)


def test_a_limit_on_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limits \['entropy'\], expected one or more of \['reconstruction_error'"):
        UnionRule(limits={"entropy": Limit(threshold=2.0, center=1.0)})


def test_a_decision_without_limits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decision limits \[\], expected one or more of"):
        UnionRule(limits={})


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_not_finite_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=rf"threshold is {threshold}, expected a finite number"):
        UnionRule(limits=UNION.limits, threshold=threshold)


def test_the_rule_is_stored_as_the_manifest_documents_it() -> None:
    assert UNION.to_json() == {
        "rule": "union",
        "threshold": 1.0,
        "limits": {
            "reconstruction_error": {"threshold": 2.0, "center": 1.0},
            "neg_log_prior": {"threshold": 10.0, "center": 4.0},
        },
    }


@pytest.mark.parametrize("decision", [UNION, ERROR_ONLY, UnionRule(limits=UNION.limits, threshold=1.75)])
def test_the_rule_survives_json(decision: Decision) -> None:
    assert decision_from_json(json.loads(json.dumps(decision.to_json()))) == decision


def test_an_unknown_rule_is_refused_naming_the_known_one() -> None:
    with pytest.raises(BundleError, match="decision rule is 'vote', this release knows 'union' and 'fused'; up"):
        decision_from_json({**UNION.to_json(), "rule": "vote"})


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"limits": None}, id="no limits"),
        pytest.param({"limits": {}}, id="empty limits"),
        pytest.param({"limits": {"reconstruction_error": {"threshold": 2.0}}}, id="no center"),
        pytest.param({"limits": {"reconstruction_error": {"threshold": 2.0, "center": 1.0, "p": 9}}}, id="extra key"),
        pytest.param({"limits": {"reconstruction_error": {"threshold": 1.0, "center": 2.0}}}, id="limit below median"),
        pytest.param({"limits": {"reconstruction_error": {"threshold": "2", "center": 1.0}}}, id="limit is text"),
        pytest.param({"limits": {"reconstruction_error": {"threshold": 10**400, "center": 1.0}}}, id="limit too large"),
        pytest.param({"threshold": None}, id="threshold is null"),
        pytest.param({"threshold": float("nan")}, id="threshold is NaN"),
        pytest.param({"threshold": "high"}, id="threshold is text"),
    ],
)
def test_a_manifest_decision_that_cannot_be_used_is_a_bundle_error(damage: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="the manifest's decision cannot be used"):
        decision_from_json({**UNION.to_json(), **damage})


def test_a_manifest_decision_without_a_threshold_is_a_bundle_error() -> None:
    with pytest.raises(BundleError, match="decision cannot be used: 'threshold'; export the bundle again"):
        decision_from_json({"rule": "union", "limits": UNION.to_json()["limits"]})
