"""README and docs name commands, options and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from edge_aae.cli import cli

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands_in(page: Path) -> list[list[str]]:
    """The words of every indented `edge-aae ...` line, comments left out."""
    lines = re.findall(r"^(?: {4}| {8})(edge-aae .*)$", page.read_text(), flags=re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_exist(page: Path) -> None:
    context = click.Context(cli)
    for words in commands_in(page):
        command = cli.get_command(context, words[0])
        assert command is not None, words
        # Parses the line without running it: an unknown option or a bad value raises UsageError.
        command.make_context(words[0], words[1:])


def test_the_readme_shows_commands_at_all() -> None:
    assert len(commands_in(ROOT / "README.md")) == 3
    assert len(commands_in(ROOT / "docs/tour.md")) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_and_named_files_exist(page: Path) -> None:
    text = page.read_text()
    linked = {target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target}
    named = set(re.findall(r"`((?:tests|train|edge_aae|export|edge_runtime|benchmarks)/[\w./-]+)`", text))
    for target in linked:
        assert (page.parent / target).exists(), target
    for target in named:
        assert (ROOT / target).exists(), target


def test_the_constraints_pin_every_line_and_torch_to_the_cpu_release() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; python_version [<>=]+ \"[\d.]+\")?", line) for line in lines)
    assert "torch==2.13.0" in lines
