"""Workflows and the page on CI: YAML that parses, and commands and options that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from edge_aae.cli import cli

ROOT = Path(__file__).resolve().parents[3]
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")


def yaml_documents() -> dict[str, Any]:
    """Every workflow, and every YAML block of docs/ci.md."""
    found = {file.name: file.read_text() for file in sorted((ROOT / ".github/workflows").glob("*.yml"))}
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/ci.md").read_text(), flags=re.DOTALL)
    return {**found, **{f"docs/ci.md {index}": block for index, block in enumerate(blocks)}}


def commands(value: Any) -> list[str]:
    """Every `run:` line of a workflow and `script:` line of a GitLab job."""
    if isinstance(value, dict):
        own = [value["run"]] if isinstance(value.get("run"), str) else value.get("script", [])
        return [*own, *(line for item in value.values() for line in commands(item))]
    return [line for item in value for line in commands(item)] if isinstance(value, list) else []


@pytest.mark.parametrize("name", yaml_documents())
def test_yaml_parses_and_every_command_of_ours_exists_with_its_options(name: str) -> None:
    content = yaml.safe_load(yaml_documents()[name])
    lines = [line for text in commands(content) for line in text.splitlines()]
    assert lines
    for line in lines:
        words = shlex.split(line)
        if not words[0].endswith("edge-aae"):
            continue
        command = cli.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words[2:] if word.startswith("--")} <= known, line


def test_the_workflow_runs_lint_tests_parity_and_builds() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert set(jobs) == {"everything", "runtime", "systems", "parity", "tensorrt-rtx", "aarch64", "image", "audit"}
    pythons = {version for job in ("everything", "runtime") for version in jobs[job]["strategy"]["matrix"]["python"]}
    assert pythons == {"3.10", "3.11", "3.12", "3.13"}


def test_the_light_runtime_is_tried_where_there_is_no_posix() -> None:
    job = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["systems"]
    assert job["strategy"]["matrix"]["system"] == ["windows-latest", "macos-latest"]
    (tests,) = [line for line in commands(job) if "pytest tests" in line]
    tried = [word for word in tests.split() if word.startswith("tests/")]
    assert "tests/edge_runtime/systems" in tried
    assert [path for path in tried if not (ROOT / path).exists()] == []


def test_the_page_names_only_options_that_there_are() -> None:
    verify = cli.commands["verify"]
    assert isinstance(verify, click.Command)
    known = {option for parameter in verify.params for option in parameter.opts}
    export = {option for parameter in cli.commands["export"].params for option in parameter.opts}
    named = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs/ci.md").read_text()))
    assert named <= known | export
