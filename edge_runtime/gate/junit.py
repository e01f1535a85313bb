"""Gate reports as JUnit XML, which every CI system shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from edge_runtime.files import write_atomically
from edge_runtime.gate.report import GateReport

__all__ = ["junit_bytes", "write_junit"]


def junit_bytes(reports: Sequence[GateReport], failures: Sequence[str] = ()) -> bytes:
    """A test suite for each report: a case for each output, one for decisions, ranks and separation, one for the files.

    failures: what the files alone tell, such as another opset; a suite of their own where there are any.
    """
    root = ElementTree.Element("testsuites", name="parity")
    for report in reports:
        cases = [(item.where, report.failures_of(item)) for item in report.comparisons]
        cases += [
            ("decisions, ranks, separation", report.failures_of_decisions()),
            ("files", report.failures_of_files()),
        ]
        _suite(root, report.title, cases)
    if failures:
        _suite(root, "bundle against run", [(line.split(" ")[0], [line]) for line in failures])
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def write_junit(path: Path, reports: Sequence[GateReport], failures: Sequence[str] = ()) -> None:
    """Write the file, whole or not at all."""
    write_atomically(path, junit_bytes(reports, failures))


def _suite(root: ElementTree.Element, title: str, cases: Sequence[tuple[str, Sequence[str]]]) -> None:
    n_failed = sum(bool(lines) for _, lines in cases)
    suite = ElementTree.SubElement(root, "testsuite", name=title, tests=str(len(cases)), failures=str(n_failed))
    for name, lines in cases:
        case = ElementTree.SubElement(suite, "testcase", classname=title, name=name)
        if lines:
            failure = ElementTree.SubElement(case, "failure", message=lines[0])
            failure.text = "\n".join(lines)
