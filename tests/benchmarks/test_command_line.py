"""What the benchmarks' command lines share: choices, the exit status, results that are printed and kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.command_line import chosen, keep, status_of
from edge_runtime.errors import ConfigError, DataError


def test_choices_are_named_or_all() -> None:
    assert chosen("all", ("ae", "aae")) == ["ae", "aae"]
    assert chosen("aae", ("ae", "aae")) == ["aae"]


def test_a_name_nobody_knows_is_said_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="no svm here; expected all, or some of ae, aae"):
        chosen("svm", ("ae", "aae"))


def test_an_error_of_ours_is_said_and_is_status_1_and_others_pass(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> int:
        raise DataError("no data at /nowhere")

    assert status_of(lambda: 0) == 0
    assert status_of(fails) == 1
    assert capsys.readouterr().err == "error: no data at /nowhere\n"
    with pytest.raises(ZeroDivisionError):
        status_of(lambda: 1 // 0)


def test_a_result_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep({"machine": "a CPU", "seconds": 1.5}, tmp_path / "result.json")
    written = (tmp_path / "result.json").read_text()
    assert capsys.readouterr().out == written
    assert json.loads(written) == {"machine": "a CPU", "seconds": 1.5}
