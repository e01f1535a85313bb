"""JUnit XML: read back, every output a case, every failure with its text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edge_runtime.bundle.comparison import Outputs
from edge_runtime.gate.junit import junit_bytes, write_junit
from edge_runtime.gate.report import GateReport, compare_outputs
from edge_runtime.model.score import CRITERIA, Limit, UnionRule

DECISION = UnionRule(limits={"reconstruction_error": Limit(threshold=1.0, center=0.0)})


def report_of(error: float, altered: Sequence[str] = ()) -> GateReport:
    outputs = Outputs(np.array([[0.5, 0.0], [2.0, 0.0]]), np.zeros((2, 2)), np.zeros((2, 2, 3)))
    actual = replace(outputs, criteria=outputs.criteria + np.array([[0.0, 0.0], [error, 0.0]]))
    return compare_outputs(
        outputs, actual, CRITERIA, DECISION, backend="here", against="<there> & elsewhere", altered=altered
    )


def test_a_passing_report_is_a_suite_without_failures() -> None:
    root = ElementTree.fromstring(junit_bytes([report_of(0.0)]))
    (suite,) = root
    assert suite.get("name") == "fp32 here against <there> & elsewhere"
    assert (suite.get("tests"), suite.get("failures")) == ("7", "0")
    assert [case.get("name") for case in suite][:2] == [
        "detector.onnx: reconstruction_error",
        "detector.onnx: neg_log_prior",
    ]
    assert not list(root.iter("failure"))


def test_failures_stand_at_their_output_and_decisions_and_files_on_their_own(tmp_path: Path) -> None:
    report = report_of(-1.5, altered=["encoder.onnx"])
    write_junit(tmp_path / "parity.xml", [report], ["encoder.onnx has opset 17, it was written with 18"])
    root = ElementTree.parse(tmp_path / "parity.xml").getroot()
    suite, files = root
    failed = {case.get("name"): failure.text for case in suite for failure in case}
    assert set(failed) == {
        "detector.onnx: reconstruction_error",
        "detector.onnx: score",
        "decisions, ranks, separation",
        "files",
    }
    assert str(failed["decisions, ranks, separation"]).startswith("1 of 2 decisions flip")
    assert str(failed["files"]).startswith("encoder.onnx is not what was exported")
    assert suite.get("failures") == "4"
    assert [failure.get("message") for failure in files.iter("failure")] == [
        "encoder.onnx has opset 17, it was written with 18"
    ]
