"""The comparison: errors by hand, each output within its own tolerance, decisions and order counted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import BUDGETS, Tolerance
from edge_runtime.bundle.comparison import Comparison, Outputs
from edge_runtime.gate.report import GateReport, compare_outputs
from edge_runtime.model.score import CRITERIA, Limit, UnionRule

ROWS = [
    "detector.onnx: reconstruction_error",
    "detector.onnx: neg_log_prior",
    "detector.onnx: latent",
    "detector.onnx: anomaly_map",
    "encoder.onnx: latent",
    "decoder.onnx: x_hat",
    "detector.onnx: score",
]

IS_ERROR = UnionRule(limits={"reconstruction_error": Limit(threshold=1.0, center=0.0)})
"""The fused score is the first column as it is, anomalous above one."""

Array = NDArray[Any]


def outputs(n_frames: int = 2, errors: Array | None = None, **changes: Array) -> Outputs:
    """Outputs of n frames by hand: codes, maps and reconstructions zero, errors as given."""
    errors = np.zeros(n_frames) if errors is None else errors
    zeros = Outputs(
        criteria=np.stack([errors, np.zeros(n_frames)], axis=1),
        latent=np.zeros((n_frames, 2)),
        anomaly_map=np.zeros((n_frames, 2, 3)),
        encoder_latent=np.zeros((n_frames, 2)),
        x_hat=np.zeros((n_frames, 1, 2, 3)),
    )
    return replace(zeros, **changes)


def compared(reference: Outputs, actual: Outputs, **found: Any) -> GateReport:
    return compare_outputs(reference, actual, CRITERIA, IS_ERROR, backend="here", against="there", **found)


def row(report: GateReport, where: str) -> Comparison:
    (found,) = [item for item in report.comparisons if item.where == where]
    return found


def failed_rows(report: GateReport) -> list[str]:
    return [item.where for item in report.comparisons if not item.passed]


def test_equal_outputs_pass() -> None:
    report = compared(outputs(3), outputs(3))
    assert report.passed
    assert report.failures() == []
    assert [item.where for item in report.comparisons] == ROWS
    assert {item.max_error for item in report.comparisons} == {0.0}
    assert (report.backend, report.reference, report.decisions.n_frames) == ("here", "there", 3)
    assert (report.decisions.flips, report.decisions.rank_correlation, report.altered) == (0, 1.0, ())


def test_errors_are_measured_as_by_hand() -> None:
    # Frame 6 lies off by 200 steps, frame 5 by 99, frame 4 by 98, ..., frame 7 by none; above and below in turns.
    steps = np.roll([*range(100), 200], 7)[:, None, None] / 1024.0
    signs = np.where(np.arange(101) % 2, 1.0, -1.0)[:, None, None]
    reference = outputs(101, anomaly_map=np.full((101, 1, 1), 0.5))
    item = row(compared(reference, replace(reference, anomaly_map=0.5 + signs * steps)), "detector.onnx: anomaly_map")
    assert item.max_error == 200 / 1024
    assert item.p99_error == pytest.approx(99 / 1024, rel=1e-12)
    assert item.mean_error == pytest.approx((99 * 100 / 2 + 200) / 101 / 1024, rel=1e-12)
    assert item.worst_frame == 6
    assert item.tolerance == BUDGETS["fp32"].tolerances["anomaly_map"]
    assert not item.passed


def test_the_worst_frame_exceeds_its_own_bound_the_most() -> None:
    reference = outputs(3, latent=np.array([[0.0, 0.0], [1000.0, 0.0], [0.0, 0.0]]))
    actual = replace(reference, latent=reference.latent + np.array([[0.0, 0.0], [0.05, 0.0], [0.0, 0.002]]))
    item = row(compared(reference, actual), "detector.onnx: latent")
    assert item.max_error == pytest.approx(0.05)  # of frame 1, which may be off by 0.1001
    assert item.worst_frame == 2
    assert not item.passed


@pytest.mark.parametrize(
    ("actual", "passes"),
    [
        (-3.0, True),
        (-3.0 - 2.0**-40, False),
        (-1.0, True),
        (-1.0 + 2.0**-40, False),
    ],
)
def test_the_bound_itself_still_passes(actual: float, passes: bool) -> None:
    # Numbers that floats hold exactly: |actual - (-2)| <= 0.5 + 0.25 x 2 = 1.
    budget = replace(BUDGETS["fp32"], tolerances={**BUDGETS["fp32"].tolerances, "x_hat": Tolerance(0.5, 0.25)})
    reference = outputs(1, x_hat=np.full((1, 1, 1, 1), -2.0))
    changed = replace(reference, x_hat=np.full((1, 1, 1, 1), actual))
    assert row(compared(reference, changed, budget=budget), "decoder.onnx: x_hat").passed is passes


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize(
    ("where", "field", "reference", "allowed"),
    [
        ("decoder.onnx: x_hat", "x_hat", 1.0, 1e-5),
        ("detector.onnx: anomaly_map", "anomaly_map", 1.0, 5e-5),
        ("detector.onnx: latent", "latent", 0.0, 2e-4),
        ("detector.onnx: latent", "latent", -100.0, 1.02e-2),
        ("encoder.onnx: latent", "encoder_latent", 0.0, 2e-4),
        ("encoder.onnx: latent", "encoder_latent", 100.0, 1.02e-2),
        ("detector.onnx: neg_log_prior", "criteria", 0.0, 5e-4),
        ("detector.onnx: neg_log_prior", "criteria", 100.0, 1.05e-2),
    ],
)
def test_each_output_has_its_tolerance(where: str, field: str, reference: float, allowed: float, side: float) -> None:
    expected = outputs(2)
    expected = replace(expected, **{field: np.full_like(getattr(expected, field), reference)})
    for share, fails in ((0.99, []), (1.01, [where])):
        values = getattr(expected, field).copy()
        values.reshape(-1)[-1] += side * share * allowed  # of criteria the last column
        report = compared(expected, replace(expected, **{field: values}))
        assert failed_rows(report) == fails
        assert [line.split(" differs")[0] for line in report.failures()] == fails


def test_a_failure_names_output_error_frame_and_bound() -> None:
    latent = np.zeros((4, 2))
    latent[3, 1] = 0.25
    assert compared(outputs(4), outputs(4, latent=latent)).failures() == [
        "detector.onnx: latent differs from there: max error 0.25 at frame 3, allowed 0.0002 + 0.0001 x |reference|"
    ]


@pytest.mark.parametrize(
    ("where", "field"), [(ROWS[2], "latent"), (ROWS[3], "anomaly_map"), (ROWS[4], "encoder_latent"), (ROWS[5], "x_hat")]
)
@pytest.mark.parametrize("damage", ["shape", "nan", "inf"])
def test_another_shape_and_values_that_are_not_finite_are_infinitely_far(where: str, field: str, damage: str) -> None:
    values = getattr(outputs(2), field)
    if damage == "shape":
        values = values[..., :-1]  # one that would broadcast is tested below
    else:
        values = values.copy()
        values.reshape(-1)[-1] = float(damage)
    report = compared(outputs(2), outputs(2, **{field: values}))
    assert failed_rows(report) == [where]
    item = row(report, where)
    assert item.max_error == item.p99_error == item.mean_error == float("inf")
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert written["passed"] is False
    assert written["outputs"][where] == {
        "max": None,
        "p99": None,
        "mean": None,
        "atol": item.tolerance.atol,
        "of_peak": 0.0,
        "rtol": item.tolerance.rtol,
        "rtol_from": 0.0,
        "spread": None,
        "max_in_spreads": None,
        "snr_db": None,
        "min_snr_db": None,
        "passed": False,
    }


def test_a_shape_that_would_broadcast_is_not_compared() -> None:
    assert failed_rows(compared(outputs(2), outputs(2, latent=np.zeros((1, 2))))) == ["detector.onnx: latent"]


@pytest.mark.parametrize("criteria", [np.zeros((3, 1)), np.zeros((3, 3)), np.zeros((2, 2))], ids=lambda a: str(a.shape))
def test_criteria_of_another_shape_fail_as_one_and_decide_nothing(criteria: Array) -> None:
    report = compared(outputs(3), outputs(3, criteria=criteria))
    assert failed_rows(report) == ["detector.onnx: criteria"]
    assert row(report, "detector.onnx: criteria").max_error == float("inf")
    assert (report.decisions.n_frames, report.decisions.flips, report.decisions.rank_correlation) == (3, 3, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_criteria_that_are_not_finite_decide_nothing(value: float) -> None:
    criteria = np.zeros((3, 2))
    criteria[1, 1] = value
    report = compared(outputs(3), outputs(3, criteria=criteria))
    assert failed_rows(report) == ["detector.onnx: neg_log_prior"]
    assert (report.decisions.flips, report.decisions.rank_correlation) == (3, 0.0)


@pytest.mark.parametrize("field", ["criteria", "latent", "anomaly_map", "encoder_latent", "x_hat"])
def test_a_reference_that_is_not_a_number_passes_nothing(field: str) -> None:
    values = getattr(outputs(2), field).copy()
    values[0] = np.nan
    report = compared(outputs(2, **{field: values}), outputs(2))
    assert failed_rows(report)
    json.dumps(report.to_json(), allow_nan=False)


def test_flipped_decisions_are_counted_and_fail_though_every_output_is_within_tolerance() -> None:
    reference = outputs(4, errors=np.array([0.2, 0.99999, 1.00001, 3.0]))
    actual = outputs(4, errors=np.array([0.2, 1.00002, 0.99998, 3.0]))
    report = compared(reference, actual)
    assert failed_rows(report) == []
    assert report.decisions.flips == 2
    assert not report.passed
    assert report.failures()[0] == "2 of 4 decisions flip; expected none"


def test_a_score_at_the_threshold_is_no_flip() -> None:
    errors = np.array([0.5, 1.0, 2.0])
    assert compared(outputs(3, errors=errors), outputs(3, errors=errors - 1e-6)).decisions.flips == 0
    assert compared(outputs(3, errors=errors), outputs(3, errors=errors + 1e-6)).decisions.flips == 1


def test_scores_in_another_order_fail_though_every_output_is_within_tolerance() -> None:
    errors = 0.5 + np.array([0.0, 4e-4])  # their difference moves by 8e-4, the tie is 5e-4
    report = compared(outputs(2, errors=errors), outputs(2, errors=errors[::-1]))
    assert failed_rows(report) == []
    assert report.decisions.flips == 0
    assert report.decisions.rank_correlation == pytest.approx(-1.0)
    assert report.failures() == ["rank correlation of scores is -1.000000, expected at least 0.999"]


@pytest.mark.parametrize(("n_frames", "passes"), [(22, False), (23, True)])
def test_one_swap_of_neighbours_passes_among_enough_frames(n_frames: int, passes: bool) -> None:
    # Spearman of one swap is 1 - 6 x 2 / (n (n^2 - 1)): 0.99887 among 22, 0.99901 among 23; the bound is 0.999.
    errors = 0.5 + 4e-4 * np.arange(n_frames)
    swapped = errors.copy()
    swapped[[0, 1]] = errors[[1, 0]]
    report = compared(outputs(n_frames, errors=errors), outputs(n_frames, errors=swapped))
    assert report.decisions.rank_correlation == pytest.approx(1 - 12 / (n_frames * (n_frames**2 - 1)))
    assert report.passed is passes


def test_a_report_as_json_is_pinned() -> None:
    x_hat = np.zeros((2, 1, 2, 3))
    x_hat[1] = 0.5
    reference, actual = outputs(2, errors=np.array([0.0, 2.0])), outputs(2, errors=np.array([0.0, 0.5]), x_hat=x_hat)
    written = compared(reference, actual, altered=["decoder.onnx"]).to_json()
    rows = written.pop("outputs")
    assert len(written.pop("failures")) == 5  # the altered graph, three outputs and the flip
    assert written == {
        "precision": "fp32",
        "backend": "here",
        "reference": "there",
        "n_frames": 2,
        "passed": False,
        "decision_flips": 1,
        "flips_beyond_band": 1,
        "score_rank_correlation": pytest.approx(1.0),
        "auroc": None,
        "budget": {"band": 0.0, "max_flips": 0.0, "min_rank_correlation": 0.999, "tie": 5e-4, "max_auroc_shift": 0.001},
        "altered": ["decoder.onnx"],
    }
    assert list(rows) == ROWS
    assert rows["decoder.onnx: x_hat"] == {
        "max": 0.5,
        "p99": 0.5,
        "mean": 0.25,
        "atol": 1e-5,
        "of_peak": 0.0,
        "rtol": 0.0,
        "rtol_from": 0.0,
        "spread": None,
        "max_in_spreads": None,
        "snr_db": None,
        "min_snr_db": None,
        "passed": False,
    }
    assert rows["encoder.onnx: latent"]["passed"] is True
    assert rows["detector.onnx: score"]["rtol_from"] == 1.0


NEG_LOG_PRIOR = "detector.onnx: neg_log_prior"


def likelihoods(*values: float) -> Outputs:
    return outputs(len(values), criteria=np.stack([np.zeros(len(values)), values], axis=1))


@pytest.mark.parametrize(("error", "passes"), [(0.0199, True), (0.0201, False)])
def test_a_criterion_may_be_off_by_a_share_of_what_it_varies_by(error: float, passes: bool) -> None:
    # A thousandth of twenty nats, at the value 0 where no relative tolerance helps.
    reference, actual = likelihoods(-30.0, 0.0, 5.0), likelihoods(-30.0, error, 5.0)
    item = row(compared(reference, actual, spreads={"neg_log_prior": 20.0}), NEG_LOG_PRIOR)
    assert item.passed is passes
    assert item.spread == 20.0
    assert item.max_in_spreads == pytest.approx(error / 20.0)
    assert not row(compared(reference, actual), NEG_LOG_PRIOR).passed


def test_a_small_spread_leaves_a_criterion_what_rounding_needs() -> None:
    item = row(
        compared(likelihoods(0.0, 1.0), likelihoods(0.0004, 1.0), spreads={"neg_log_prior": 1e-6}), NEG_LOG_PRIOR
    )
    assert item.passed
    assert item.tolerance.atol == BUDGETS["fp32"].tolerances["criteria"].atol


def test_no_spread_is_believed_beyond_what_the_frames_differ_by() -> None:
    edited = compared(likelihoods(-1.0, 1.0), likelihoods(-1.0, 1.5), spreads={"neg_log_prior": 1e9})
    item = row(edited, NEG_LOG_PRIOR)
    assert (item.spread, item.tolerance.atol, item.passed) == (2.0, pytest.approx(0.002), False)


@pytest.mark.parametrize(
    ("expected", "came", "passes"),
    [
        (1.0001, 1.00055, True),
        (1.0001, 1.00065, False),
        (0.0, 0.0014, True),
        (0.0, 0.0016, False),
        (21.0, 21.0204, True),
        (21.0, 21.0206, False),
    ],
)
def test_a_score_may_be_off_by_a_share_of_its_distance_from_the_threshold(
    expected: float, came: float, passes: bool
) -> None:
    # 5e-4 at the threshold 1, and a thousandth of |score - 1|.
    report = compared(outputs(2, errors=np.array([expected, 0.5])), outputs(2, errors=np.array([came, 0.5])))
    item = row(report, "detector.onnx: score")
    assert item.passed is passes
    assert str(item.tolerance) == "0.0005 + 0.001 x |reference - 1|"
