"""The gate passes what agrees with PyTorch, fails what does not, and names the output that differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_runtime.errors import BundleError, GateError
from edge_runtime.gate.report import GateReport, compare_outputs
from edge_runtime.model.score import CRITERIA, Limit, UnionRule
from export.frames import GateFrames, sample_frames
from export.parity import Reference, check_same_network, evidence, require_passed, torch_outputs
from tests.export.conftest import RUNS
from train.runs.run_folder import TrainedRun

Graphs = dict[str, dict[str, bytes]]


def reports_of(run: TrainedRun, files: dict[str, bytes], frames: GateFrames | None = None) -> list[GateReport]:
    return [check.report for check in Reference(run, frames or sample_frames(run)).check(files, run.decision)]


@pytest.mark.parametrize("name", RUNS)
def test_exported_graphs_pass_against_float32_and_float64(
    graphs: Graphs, runs: dict[str, TrainedRun], name: str
) -> None:
    run = runs[name]
    reports = reports_of(run, graphs[name])
    assert [report.reference for report in reports] == ["PyTorch float32", "PyTorch float64"]
    for report in reports:
        assert report.failures() == []
        assert report.decisions.flips == 0
        assert report.decisions.n_frames == len(run.sample_inputs) + 8
        assert len(report.comparisons) == 5 + len(runs[name].autoencoder.criteria)


@pytest.mark.parametrize("name", RUNS)
def test_one_perturbed_decoder_weight_fails_and_is_named(
    graphs: Graphs, runs: dict[str, TrainedRun], perturb: Callable[..., bytes], name: str
) -> None:
    run = runs[name]
    broken = {**graphs[name], "decoder.onnx": perturb(graphs[name]["decoder.onnx"], "", 0.5)}
    reports = reports_of(run, broken)
    assert [item.where for item in reports[0].comparisons if not item.passed] == ["decoder.onnx: x_hat"]
    with pytest.raises(GateError, match=r"the export failed the parity gate: fp32: decoder\.onnx: x_hat differs"):
        require_passed(reports, subject="the export")


def test_a_perturbed_encoder_inside_the_detector_shows_in_all_its_outputs(
    graphs: Graphs, runs: dict[str, TrainedRun], perturb: Callable[..., bytes]
) -> None:
    run = runs["conv"]
    broken = {**graphs["conv"], "detector.onnx": perturb(graphs["conv"]["detector.onnx"], ".encoder.", 0.5)}
    failed = {
        item.where
        for item in reports_of(run, broken, GateFrames.of(run.sample_inputs))[0].comparisons
        if not item.passed
    }
    assert "detector.onnx: latent" in failed
    assert "detector.onnx: neg_log_prior" in failed
    assert "encoder.onnx: latent" not in failed


def test_a_decision_flip_fails_the_gate_even_within_tolerance(runs: dict[str, TrainedRun]) -> None:
    run = runs["mlp"]
    reference = torch_outputs(run, run.sample_inputs, torch.float32)
    error = reference.criteria[:, 0]
    astride = float(np.sort(error)[-2]) + 1e-7
    decision = UnionRule(limits={"reconstruction_error": Limit(threshold=astride, center=astride - 1.0)})
    nudged = reference.criteria.copy()
    nudged[np.argsort(error)[-2], 0] += 1e-5
    report = compare_outputs(
        reference, replace(reference, criteria=nudged), CRITERIA, decision, backend="test", against="PyTorch"
    )
    assert all(item.passed for item in report.comparisons)
    assert report.decisions.flips == 1
    assert report.failures() == [f"1 of {len(error)} decisions flip; expected none"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_outputs_that_are_not_finite_fail(runs: dict[str, TrainedRun], value: float) -> None:
    run = runs["mlp"]
    reference = torch_outputs(run, run.sample_inputs, torch.float32)
    criteria = reference.criteria.copy()
    criteria[0, 1] = value
    report = compare_outputs(
        reference, replace(reference, criteria=criteria), CRITERIA, run.decision, backend="test", against="PyTorch"
    )
    assert not report.passed
    assert report.to_json()["outputs"]["detector.onnx: neg_log_prior"]["max"] is None


def test_float64_reference_is_computed_in_float64(runs: dict[str, TrainedRun]) -> None:
    outputs = torch_outputs(runs["mlp"], runs["mlp"].sample_inputs, torch.float64)
    assert outputs.criteria.dtype == np.float64
    assert next(runs["mlp"].autoencoder.parameters()).dtype == torch.float32


def test_a_run_of_another_network_is_refused_with_both_shapes(runs: dict[str, TrainedRun]) -> None:
    with pytest.raises(BundleError, match=r"takes \(12, 12, 1\) and has 3 latent dimensions.*\(12, 12, 1\) and 2"):
        check_same_network(runs["mlp"], (12, 12, 1), 3)


def test_evidence_names_versions_and_machine(graphs: Graphs, runs: dict[str, TrainedRun]) -> None:
    run = runs["mlp"]
    found = evidence(reports_of(run, graphs["mlp"]))
    assert found["versions"]["torch"] == torch.__version__
    assert set(found["machine"]) == {"system", "architecture", "python"}
    assert [report["passed"] for report in found["reports"]] == [True, True]
    assert (found["passed"], found["failures"]) == (True, [])
