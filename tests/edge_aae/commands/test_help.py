"""Help: short by --help, whole by --help-all, options under headings; a bare command shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli
from edge_aae.commands.help_pages import Command
from edge_aae.commands.help_sections import SECTIONS, sections_of


def commands(group: click.Group = cli) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in commands(command))
        else:
            yield name, command


def flags(command: click.Command) -> set[str]:
    options = (param for param in command.params if isinstance(param, click.Option))
    return {max(option.opts, key=len).lstrip("-") for option in options}


def shown(*words: str) -> str:
    ended = CliRunner().invoke(cli, list(words))
    assert ended.exit_code == 0, ended.output
    return ended.output


def listed(text: str) -> Counter[str]:
    """Long flags of a help's rows."""
    options = text[re.search(r"^\w.*:$", text, flags=re.MULTILINE).start() :]  # type: ignore[union-attr]
    rows = (line.strip() for line in options.splitlines() if line.startswith("  -"))
    return Counter(next(word for word in row.replace(",", " ").replace("/", " ").split() if word.startswith("--"))[2:]
                   for row in rows)  # fmt: skip


ALL = dict(commands())


@pytest.mark.parametrize("name", SECTIONS)
def test_every_option_stands_under_one_heading(name: str) -> None:
    """A new option needs its place in edge_aae/commands/help_sections.py."""
    placed = Counter(flag for section in sections_of(name) for flag in section.all)
    assert set(placed) == flags(ALL[name])
    assert max(placed.values()) == 1


def test_no_command_has_a_list_too_long_for_one_heading() -> None:
    assert {name for name, command in ALL.items() if len(flags(command)) > 12} <= set(SECTIONS)


@pytest.mark.parametrize("name", ALL)
def test_the_whole_help_shows_every_option_once(name: str) -> None:
    assert all(isinstance(command, Command) for command in ALL.values())
    whole = "--help-all" if any(section.more for section in sections_of(name)) else "--help"
    found = listed(shown(*name.split(), whole))
    assert set(found) - {"help", "help-all"} == flags(ALL[name])
    assert max(found.values()) == 1


@pytest.mark.parametrize("name", ["", "service", "keys", *(name for name in ALL if name not in SECTIONS)])
def test_where_nothing_is_left_out_the_whole_help_is_the_short_one(name: str) -> None:
    assert shown(*name.split(), "--help-all") == shown(*name.split(), "--help")


@pytest.mark.parametrize("name", [name for name in SECTIONS if any(section.more for section in SECTIONS[name])])
def test_the_short_help_fits_a_screen_or_two_and_names_the_whole_one(name: str) -> None:
    short, whole = shown(name, "--help"), shown(name, "--help-all")
    assert short == shown(name, "-h")
    assert f"Show all {len(flags(ALL[name]))} options" in short
    assert set(listed(short)) < set(listed(whole))
    assert len(listed(short)) <= 22
    example = f"  edge-aae {name} "
    assert (example in short) == (example in whole)


def test_the_headings_of_a_run() -> None:
    for words in ("Source:", "Model:", "Alarm:", "Records:", "Live page:", "Service and upkeep:"):
        assert words in shown("run", "--help"), words
    assert "SIGHUP" in shown("run", "--help-all")
    assert "SIGHUP" not in shown("run", "--help")


@pytest.mark.parametrize("words", [[], ["service"], ["keys"], ["cache"]], ids=str)
def test_a_bare_command_shows_its_help_and_ends_well(words: list[str]) -> None:
    assert shown(*words) == shown(*words, "--help")


def test_commands_stand_in_the_order_of_their_use() -> None:
    text = shown()
    assert text.index("\n  train ") < text.index("\n  export ") < text.index("\n  run ")


def test_help_and_errors_load_no_more_than_the_command_line_itself() -> None:
    """In particular nothing that draws on terminals, and no engine."""
    code = (
        "import sys, runpy\n"
        "sys.argv = ['edge-aae', 'run', '--help-all']\n"
        "try: runpy.run_module('edge_aae', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print(sorted({'rich', 'cv2', 'onnxruntime', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--rotate-mb" in done.stdout
    assert done.stderr.strip() == "[]"
