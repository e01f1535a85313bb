"""The score: criteria by hand-worked numbers, one definition for numpy and torch, and both rules at their limits."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.score import (
    CRITERIA,
    Decision,
    FusedRule,
    Limit,
    Term,
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


def four_criteria_rule(**changes: Any) -> FusedRule:
    """Two of four criteria, one by its logarithm above a floor, one as it is."""
    values: dict[str, Any] = {
        "criteria": (*CRITERIA, "texture", "exposure"),
        "terms": {
            "neg_log_prior": Term(weight=2.0, floor=3.0),
            "exposure": Term(weight=4.0, transform="linear"),
        },
        "limit": Limit(threshold=5.0, center=1.0),
    }
    return FusedRule(**{**values, **changes})


def test_a_log_term_weighs_the_logarithm_above_the_floor() -> None:
    term = Term(weight=2.0, floor=3.0)
    np.testing.assert_allclose(term(np.array([4.0, 3.0 + math.e])), [0.0, 2.0], rtol=1e-12, atol=1e-12)


def test_a_linear_term_weighs_the_distance_from_the_floor() -> None:
    term = Term(weight=2.0, transform="linear", floor=3.0)
    assert term(np.array([4.0, 3.0, 2.5])).tolist() == [2.0, 0.0, -1.0]


@pytest.mark.parametrize("value", [3.0, 2.0, 3.0 + 1e-13])
def test_a_log_term_stays_finite_at_and_below_its_floor(value: float) -> None:
    # 2 log(1e-12), the logarithm's own floor
    assert Term(weight=2.0, floor=3.0)(np.array([value]))[0] == pytest.approx(-55.2620422, rel=1e-8)


def test_the_fused_score_by_hand() -> None:
    e = math.e
    criteria = np.array(
        [
            # error, neg log prior, texture, exposure
            [9.0, 3.0 + e, 7.0, 0.0],  # 2 log(e) + 4 * 0 = 2 -> (2 - 1) / (5 - 1)
            [0.0, 3.0 + e, 0.0, 0.75],  # 2 + 3 = 5 -> at the limit
            [5.0, 4.0, 5.0, 0.25],  # 0 + 1 = 1 -> at the median
            [5.0, 3.0 + e**3, 5.0, 0.75],  # 6 + 3 = 9
        ]
    )
    scores = four_criteria_rule().score(criteria)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, [0.25, 1.0, 0.0, 2.0], rtol=1e-12, atol=1e-12)


def test_a_fused_score_is_zero_at_the_median_and_one_at_the_limit() -> None:
    rule = FusedRule(terms={"reconstruction_error": Term(weight=1.0)}, limit=Limit(threshold=2.0, center=-1.0))
    criteria = np.array([[math.exp(-1.0), 0.0], [math.exp(2.0), 0.0]])
    np.testing.assert_allclose(rule.score(criteria), [0.0, 1.0], rtol=1e-12, atol=1e-12)


def test_a_fused_rule_flags_above_its_threshold_and_not_at_it() -> None:
    scores = np.array([1.0, np.nextafter(1.0, 2.0), 1.5, 2.0])
    assert four_criteria_rule().is_anomalous(scores).tolist() == [False, True, True, True]
    assert four_criteria_rule(threshold=1.5).is_anomalous(scores).tolist() == [False, False, False, True]


def test_the_scale_of_a_criterion_cancels_in_a_log_term() -> None:
    values = np.random.default_rng(0).uniform(1.0, 9.0, (20, 2))
    terms = {"reconstruction_error": Term(weight=1.0)}
    rule = FusedRule(terms=terms, limit=Limit(threshold=1.0, center=0.0))
    scaled = FusedRule(terms=terms, limit=Limit(threshold=1.0 + math.log(8.0), center=math.log(8.0)))
    np.testing.assert_allclose(scaled.score(8.0 * values), rule.score(values), rtol=1e-9, atol=1e-12)


def test_used_names_the_criteria_that_have_a_term() -> None:
    assert four_criteria_rule().used == ("neg_log_prior", "exposure")


def test_the_fused_rule_is_stored_as_the_manifest_documents_it() -> None:
    assert four_criteria_rule().to_json() == {
        "rule": "fused",
        "threshold": 1.0,
        "limit": {"threshold": 5.0, "center": 1.0},
        "terms": {
            "neg_log_prior": {"weight": 2.0, "transform": "log", "floor": 3.0},
            "exposure": {"weight": 4.0, "transform": "linear", "floor": 0.0},
        },
    }


def test_the_fused_rule_survives_json() -> None:
    rule = four_criteria_rule(threshold=1.25)
    assert decision_from_json(json.loads(json.dumps(rule.to_json())), rule.criteria) == rule


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_a_weight_that_is_negative_or_not_finite_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match=rf"term has weight {weight} and floor 0\.0, expected finite, weight >= 0"):
        Term(weight=weight)


def test_a_floor_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"term has weight 1\.0 and floor -inf, expected finite"):
        Term(weight=1.0, floor=float("-inf"))


def test_an_unknown_transform_is_refused() -> None:
    transform: Any = "sqrt"
    with pytest.raises(ConfigError, match="term has transform 'sqrt', expected 'log' or 'linear'"):
        Term(weight=1.0, transform=transform)


def test_a_term_on_an_unknown_criterion_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"limits \['entropy'\], expected one or more of \['reconstruction_error'"):
        four_criteria_rule(terms={"entropy": Term(weight=1.0)})


def test_a_fused_rule_without_terms_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decision limits \[\], expected one or more of"):
        four_criteria_rule(terms={})


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"terms": None}, id="no terms"),
        pytest.param({"terms": {}}, id="empty terms"),
        pytest.param({"terms": {"entropy": {"weight": 1.0}}}, id="unknown criterion"),
        pytest.param({"terms": {"exposure": {"weight": -1.0}}}, id="negative weight"),
        pytest.param({"terms": {"exposure": {"weight": "1"}}}, id="weight is text"),
        pytest.param({"terms": {"exposure": {"weight": 10**400}}}, id="weight too large"),
        pytest.param({"terms": {"exposure": {"weight": 1.0, "transform": "sqrt"}}}, id="unknown transform"),
        pytest.param({"terms": {"exposure": {"weight": 1.0, "transform": ["log"]}}}, id="transform is a list"),
        pytest.param({"terms": {"exposure": {"weight": 1.0, "floor": None}}}, id="floor is null"),
        pytest.param({"terms": {"exposure": {"weight": 1.0, "power": 2}}}, id="extra key"),
        pytest.param({"terms": {"exposure": 1.0}}, id="term is a number"),
        pytest.param({"limit": {"threshold": 1.0, "center": 2.0}}, id="limit below median"),
        pytest.param({"limit": None}, id="no limit"),
        pytest.param({"threshold": float("nan")}, id="threshold is NaN"),
    ],
)
def test_a_fused_manifest_decision_that_cannot_be_used_is_a_bundle_error(damage: dict[str, Any]) -> None:
    rule = four_criteria_rule()
    with pytest.raises(BundleError, match="the manifest's decision cannot be used"):
        decision_from_json({**rule.to_json(), **damage}, rule.criteria)
