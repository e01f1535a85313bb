"""The verdict: flips beyond a band, ranks, separation, tiles of one frame; and budgets that only ever tighten."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import BUDGETS, PRECISIONS, Budget, Tolerance, budget_of, detector_file
from edge_runtime.bundle.comparison import Outputs, compare
from edge_runtime.errors import ConfigError
from edge_runtime.gate.decisions import UNKNOWN
from edge_runtime.gate.report import GateReport, compare_outputs
from edge_runtime.model.score import CRITERIA, Limit, UnionRule

IS_ERROR = UnionRule(limits={"reconstruction_error": Limit(threshold=1.0, center=0.0)})
"""The fused score is the first column as it is, anomalous above one."""


def report_of(
    expected: list[float],
    came: list[float],
    *,
    budget: Budget = BUDGETS["int8"],
    labels: list[int] | None = None,
    groups: list[int] | None = None,
) -> GateReport:
    def outputs(errors: list[float]) -> Outputs:
        n = len(errors)
        return Outputs(np.stack([errors, np.zeros(n)], axis=1), np.zeros((n, 2)), np.zeros((n, 2, 3)))

    def array(values: list[int] | None, dtype: Any) -> NDArray[Any] | None:
        return None if values is None else np.array(values, dtype=dtype)

    return compare_outputs(
        outputs(expected),
        outputs(came),
        CRITERIA,
        IS_ERROR,
        backend="here",
        against="there",
        precision="int8",
        budget=budget,
        labels=array(labels, np.int8),
        groups=array(groups, np.int64),
    )


def test_a_flip_within_the_band_is_counted_and_allowed() -> None:
    near = report_of([0.1, 0.97, 1.04, 3.0], [0.1, 1.01, 1.02, 3.0])
    assert (near.decisions.flips, near.decisions.flips_beyond_band) == (1, 0)
    assert near.passed
    far = report_of([0.1, 0.9, 1.2, 3.0], [0.1, 1.01, 0.99, 3.0], budget=replace(BUDGETS["int8"], max_flips=0.25))
    assert (far.decisions.flips, far.decisions.flips_beyond_band) == (2, 2)
    assert far.failures()[0] == "2 of 4 decisions flip further than 5.0% from the threshold; expected at most 25.0%"


def test_a_share_of_flips_may_be_allowed() -> None:
    scores = np.linspace(0.0, 0.5, 100).tolist()
    budget = replace(BUDGETS["int8"], min_rank_correlation=0.0)
    assert report_of([*scores, 1.5, 1.5], [*scores, 0.9, 0.9], budget=budget).passed
    assert not report_of([*scores, 1.5, 1.5, 1.5], [*scores, 0.9, 0.9, 0.9], budget=budget).passed


def test_separation_is_compared_where_both_kinds_are_known_and_one_pair_is_no_shift() -> None:
    labels = [0, 0, 1, 1, UNKNOWN]
    same = report_of([0.1, 0.3, 0.2, 0.4, 9.0], [0.1, 0.3, 0.2, 0.4, 0.0], labels=labels)
    # One of four pairs is the wrong way round; the unknown frame counts nothing.
    assert same.decisions.auroc == (0.75, 0.75)
    assert same.decisions.n_pairs == 4
    budget = replace(BUDGETS["int8"], min_rank_correlation=-1.0)
    one_pair = report_of([0.1, 0.3, 0.2, 0.4], [0.1, 0.3, 0.35, 0.4], labels=[0, 0, 1, 1], budget=budget)
    assert one_pair.decisions.auroc == (0.75, 1.0)
    assert one_pair.passed
    two_pairs = report_of([0.1, 0.15, 0.2, 0.4], [0.3, 0.35, 0.2, 0.4], labels=[0, 0, 1, 1], budget=budget)
    assert two_pairs.failures() == [
        "separation not kept: it shifts from 1.0000 to 0.5000, expected a shift of at most 0.005"
    ]
    assert report_of([0.1, 0.2], [0.1, 0.2], labels=[0, UNKNOWN]).decisions.auroc is None


def test_a_frame_is_as_anomalous_as_its_worst_tile() -> None:
    report = report_of([0.2, 1.5, 0.3, 0.1], [0.2, 0.8, 0.3, 0.1], groups=[0, 0, 1, 1], labels=[1, 0])
    assert report.decisions.n_frames == 2
    assert report.decisions.flips == 1
    assert report.decisions.auroc == (1.0, 1.0)


def test_below_the_median_image_scores_may_differ() -> None:
    report = report_of([-40.0, 0.5], [-12.0, 0.5], budget=BUDGETS["fp32"])
    (score,) = [item for item in report.comparisons if item.where.endswith(": score")]
    assert (score.max_error, score.passed) == (0.0, True)


def test_what_is_found_beside_the_outputs_stands_behind_them_and_before_the_decisions() -> None:
    outputs = Outputs(np.array([[0.5, 0.0], [2.0, 0.0]]), np.zeros((2, 2)), np.zeros((2, 2, 3)))
    actual = replace(outputs, criteria=outputs.criteria - np.array([[0.0, 0.0], [1.5, 0.0]]))
    levels = compare("preprocess: network_input", np.zeros((1, 2)), np.full((1, 2), 3.0), Tolerance(1.0, 0.0))
    report = compare_outputs(
        outputs, actual, CRITERIA, IS_ERROR, backend="here", against="there", preprocessing=[levels], altered=["prior"]
    )
    assert [item.where for item in report.comparisons][-2:] == ["detector.onnx: score", "preprocess: network_input"]
    assert report.comparisons[:-2] == report.graphs
    lines = report.failures()
    assert [line.split(" ")[:2] for line in lines] == [
        ["detector.onnx:", "reconstruction_error"],
        ["detector.onnx:", "score"],
        ["preprocess:", "network_input"],
        ["prior", "is"],
        ["1", "of"],
        ["rank", "correlation"],
    ]
    assert lines == [
        *(line for item in report.comparisons for line in report.failures_of(item)),
        *report.failures_of_files(),
        *report.failures_of_decisions(),
    ]


SCENES = np.linspace(0.2, 1.8, 8)[:, None, None] * np.linspace(0.5, 1.5, 12).reshape(3, 4)
"""(8, 3, 4) maps that grow from frame to frame, 0.1 to 2.7"""


def noisy_report(maps: NDArray[Any], precision: str, backend: str, **changes: Any) -> GateReport:
    """On frames whose scores and codes agree, and whose maps are these in the place of SCENES."""
    errors = np.linspace(0.0, 2.0, 8)
    frames = Outputs(np.stack([errors, errors], axis=1), np.outer(errors, [1.0, -1.0]), SCENES)
    actual = replace(frames, anomaly_map=maps)
    found = {"backend": backend, "against": "there", "precision": precision, "contrast": True, **changes}
    return compare_outputs(frames, actual, CRITERIA, IS_ERROR, **found)


@pytest.mark.parametrize(("precision", "backend"), [("int8", "here"), ("fp32", "openvino-bf16"), ("fp16", "here")])
@pytest.mark.parametrize("value", [-7.0, 0.0, 1.0])
def test_the_same_map_for_every_frame_is_refused(precision: str, backend: str, value: float) -> None:
    report = noisy_report(np.full_like(SCENES, value), precision, backend)
    (item,) = [item for item in report.comparisons if not item.passed]
    assert item.where.endswith("anomaly_map")
    assert item.too_noisy
    assert re.search(
        r"anomaly_map differs from there: signal-to-noise ratio -?\d+\.\d dB, expected at least", str(report.failures())
    )


def test_the_usual_map_for_every_frame_is_refused() -> None:
    usual = np.broadcast_to(SCENES.mean(axis=0), SCENES.shape)
    report = noisy_report(usual, "int8", "here")
    assert [item.snr_db for item in report.comparisons if not item.passed] == [pytest.approx(0.0)]


def test_noise_is_measured_as_by_hand() -> None:
    noise = 0.1 * np.where(np.arange(12).reshape(3, 4) % 2, 1.0, -1.0)
    report = noisy_report(SCENES + noise, "int8", "here")
    (item,) = [item for item in report.comparisons if item.where.endswith("anomaly_map")]
    assert report.passed
    assert item.snr_db == pytest.approx(10 * np.log10(SCENES.var(axis=0).mean() / 0.01))
    assert report.to_json()["outputs"][item.where]["snr_db"] == item.snr_db
    assert report.to_json()["outputs"][item.where]["min_snr_db"] == 6.0


def test_a_map_that_is_right_but_for_one_wild_value_is_refused() -> None:
    maps = SCENES.copy()
    maps[3, 1, 1] = 40.0
    report = noisy_report(maps, "int8", "here")
    assert [item.worst_frame for item in report.comparisons if not item.passed] == [3]


@pytest.mark.parametrize(("precision", "backend"), [("int8", "here"), ("fp32", "openvino-bf16")])
def test_a_relative_tolerance_acts_on_reduced_precisions(precision: str, backend: str) -> None:
    maps = SCENES * 1.05
    budget = budget_of(precision, backend)
    assert noisy_report(maps, precision, backend, budget=budget).passed
    for rtol, passes in ((0.2, True), (0.01, False), (0.0, False)):
        tight = budget.tightened(atol=None, rtol=rtol, max_flips=None)
        assert noisy_report(maps, precision, backend, budget=tight).passed is passes
        assert noisy_report(SCENES, precision, backend, budget=tight).passed


@pytest.mark.parametrize(("precision", "backend"), [("int8", "here"), ("fp32", "openvino-bf16")])
def test_an_absolute_tolerance_acts_on_every_output_of_reduced_precisions(precision: str, backend: str) -> None:
    tight = budget_of(precision, backend).tightened(atol=1e-3, rtol=0.0, max_flips=None)
    report = noisy_report(SCENES + 2e-3, precision, backend, budget=tight)
    assert [item.where.split(": ")[1] for item in report.comparisons if not item.passed] == ["anomaly_map"]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_still_scene_has_no_order(precision: str) -> None:
    # Frames that are all alike: their scores differ by rounding alone, here and there in another order.
    rng = np.random.default_rng(0)
    came = (0.3 + 1e-6 * rng.normal(size=10)).tolist()
    report = report_of((0.3 + 1e-6 * rng.normal(size=10)).tolist(), came, budget=BUDGETS[precision])
    assert report.decisions.rank_correlation == pytest.approx(1.0)
    assert report.passed


def test_a_still_scene_that_moved_as_one_has_no_order_either() -> None:
    rng = np.random.default_rng(0)
    came = (0.36 + 1e-6 * rng.normal(size=10)).tolist()
    assert report_of((0.3 + 1e-6 * rng.normal(size=10)).tolist(), came).passed


def test_scores_that_fall_together_lose_their_order() -> None:
    assert report_of([0.0, 0.3, 0.6, 0.9], [0.45] * 4).decisions.rank_correlation == 0.0


def test_budgets_tighten_and_never_loosen() -> None:
    tight = BUDGETS["fp16"].tightened(atol=1e-3, rtol=1.0, max_flips=0.5)
    assert tight.tolerances["score"].atol == 1e-3
    assert tight.tolerances["score"].rtol == BUDGETS["fp16"].tolerances["score"].rtol
    assert tight.max_flips == 0.0
    assert tight.of_criterion(1e6).atol == 1e-3
    assert BUDGETS["fp16"].of_criterion(1e6).atol == 2e4
    assert BUDGETS["int8"].tightened(atol=None, rtol=None, max_flips=0.0).max_flips == 0.0
    assert BUDGETS["int8"].tightened(atol=0.1, rtol=None, max_flips=None).tolerances["score"].atol == 0.1
    with pytest.raises(ConfigError, match="--atol is -1, expected 0 or more"):
        BUDGETS["fp32"].tightened(atol=-1.0, rtol=None, max_flips=None)


def test_every_precision_has_a_budget_and_a_file() -> None:
    assert [detector_file(name) for name in PRECISIONS] == [
        "detector.onnx",
        "detector-fp16.onnx",
        "detector-int8.onnx",
    ]
    assert all(name in BUDGETS for name in PRECISIONS)
    assert budget_of("fp32", "openvino-bf16") == BUDGETS["bf16"]
    assert budget_of("fp32", "openvino") == BUDGETS["fp32"]
    with pytest.raises(ConfigError, match="precision is 'fp8', expected one of fp32, fp16, int8"):
        detector_file("fp8")
