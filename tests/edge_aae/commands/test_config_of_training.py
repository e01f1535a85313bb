"""`edge-aae train --config FILE` and `--print-config`: every option of a training in a TOML file; flags win."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli as root
from edge_aae.commands.training.train import train
from edge_runtime.errors import ConfigError

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

GIVEN = [
    "--imgsz", "64x32", "--classes", "0,3", "--contaminate", "2:0.05,4:0.1", "--roi", "1,2,3,4", "--levels", "0,4095",
    "--channels", "3", "--amp", "--keep-duplicates", "--no-report", "--target-fpr", "3%", "--keep", "keep.txt",
    "--group-by", "minutes:5", "--epochs", "7", "--epochs-scale", "0.5", "--network", "conv", "--device", "cpu",
    "--out", "runs/first", "--max-pixels", "1000000", "--known-bad", "bad", "--width", "0.3",
]  # fmt: skip


def parsed(*words: str) -> dict[str, object]:
    return train.make_context("train", list(words)).params


def test_what_is_printed_is_read_back_as_it_was_given(tmp_path: Path) -> None:
    printed = CliRunner().invoke(root, ["train", "photos", *GIVEN, "--print-config"])
    assert printed.exit_code == 0, printed.output
    (tmp_path / "t.toml").write_text(printed.output)
    assert parsed("photos", "--config", str(tmp_path / "t.toml")) == parsed("photos", *GIVEN)


def test_flags_win_and_what_the_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('imgsz = 96\nrefine = "none"\n')
    found = parsed("photos", "--config", str(tmp_path / "t.toml"), "--refine", "itsr")
    assert (found["imgsz"], found["refine"], found["seed"]) == ((96, 96), "itsr", 0)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("epochz = 3", "'epochz', which is no option here"),
        ("network = [1]", "expected one value"),
        ("roi = [0, 0, 10]", r'expected one text, such as roi = "0,0,640,480"'),
        ('[train]\nnetwork = "hog"', r'a section \[train\]; options stand without .*, one a line: network = "hog"$'),
        ("[seed]\nepochs = 3", r"a section \[seed\]; .*, one a line: epochs = 3$"),
        ('[run]\npassword = "dear secret"', r"a section \[run\]; options stand without sections, one a line$"),
        ("x", "train --pri"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, line: str, part: str) -> None:
    (tmp_path / "t.toml").write_text(line)
    with pytest.raises(ConfigError, match=part):
        parsed("photos", "--config", str(tmp_path / "t.toml"))


def test_a_value_of_the_file_that_the_option_does_not_take_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('imgsz = "ten"\n')
    with pytest.raises(click.UsageError, match=r"t\.toml: imgsz: 'ten', expected pixels such as 128") as refused:
        parsed("photos", "--config", str(tmp_path / "t.toml"))
    assert refused.value.exit_code == 2
    with pytest.raises(click.BadParameter, match=r"^'nine', expected pixels such as 128"):
        parsed("photos", "--config", str(tmp_path / "t.toml"), "--imgsz", "nine")


@pytest.mark.parametrize(
    ("line", "flags", "says"),
    [
        ("epochs = 0", [], r"^t\.toml: --epochs is 0, expected 1 or more"),
        ("epochs = 0", ["--epochs", "-1"], r"^--epochs is -1, expected 1 or more"),
        ("seed = 3", ["--epochs", "0"], r"^--epochs is 0, expected 1 or more"),
        ('max-bad = "160%"', [], r"^t\.toml: --max-bad is 160"),
    ],
)
def test_what_turns_out_to_be_bad_later_is_said_to_be_of_the_file_that_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, flags: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.toml").write_text(f"{line}\n")
    ended = CliRunner().invoke(root, ["train", "photos", "--network", "conv", "--config", "t.toml", *flags])
    assert isinstance(ended.exception, ConfigError)
    assert re.search(says, str(ended.exception)), ended.exception


def test_a_training_follows_the_file(cli: Cli, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text('network = "conv"\nimgsz = 32\nepochs-scale = 0.01\nreport = false\n')
    done = cli("train", photos / "train", "--config", "t.toml", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "conv" in done.stdout
    assert "32x32" in done.stdout


def test_a_resumed_run_keeps_its_settings_and_takes_no_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("seed = 3\n")
    done = cli("train", "--resume", "--config", "t.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "a resumed run keeps its settings: drop --config" in done.stderr
