"""Completion by the shell, as docs/command-line.md says it is set up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def started(tmp_path: Path, **variables: str) -> str:
    """What the program prints, called edge-aae as its console script is."""
    script = tmp_path / "edge-aae"
    script.write_text("from edge_aae.cli import main\nmain()\n")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_shell_gets_its_script(tmp_path: Path, shell: str) -> None:
    assert f"{shell}_complete" in started(tmp_path, _EDGE_AAE_COMPLETE=f"{shell}_source")


def test_commands_and_options_are_completed(tmp_path: Path) -> None:
    def completed(words: str, at: int) -> str:
        return started(tmp_path, _EDGE_AAE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(at))

    assert completed("edge-aae ca", 1).split() == ["plain,cache", "plain,calibrate"]
    assert "plain,--reconnect" in completed("edge-aae run --rec", 2)
    assert "plain,--help-all" in completed("edge-aae run --help", 2)
