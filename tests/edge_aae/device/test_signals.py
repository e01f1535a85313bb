"""Commands that stay end on SIGTERM, and on SIGINT even where a parent left it ignored, as a shell does with `&`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.edge_aae.conftest import ROOT

HANG_S = 120
ENDLESS = ("--network", "conv", "--imgsz", "16", "--epochs", "100000", "--refine", "none", "--out", "endless")

COMMANDS = {
    "run": (
        ("run", "--source", "test://pattern?fps=50&width=64&height=48", "--out", "-"),
        '"type":"frame"',
        0,
        "frames",
    ),
    "train": (("train", "photos", *ENDLESS), "epoch 1/100000", 130, "stopping at the last whole epoch"),
    "review": (("review", "runs/latest", "--serve", ":0"), "ready; Ctrl-C", 0, ""),
}
"""Arguments; what it says once it is at work; exit status; what it says at its end"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=() if name == "run" else pytest.mark.slow) for name in COMMANDS]
)
def test_a_signal_ends_it_though_a_parent_ignored_it(
    workplace: Path, photos: Path, tmp_path: Path, command: str, number: signal.Signals
) -> None:
    if command == "review":
        pytest.importorskip("starlette", reason="starlette is not installed")
    arguments, at_work, status, says = COMMANDS[command]
    (tmp_path / "photos").symlink_to(photos / "train")
    (tmp_path / "model.aae").symlink_to(workplace / "model.aae")
    shutil.copytree(workplace / "runs", tmp_path / "runs", symlinks=True)
    with subprocess.Popen(
        [sys.executable, "-m", "edge_aae", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    ) as process:
        timer = threading.Timer(HANG_S, process.kill)
        timer.start()
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if at_work in line:
                break
        process.send_signal(number)
        said += process.stdout.read()
        timer.cancel()
    assert process.returncode == status, said
    assert says in said
    assert "Traceback" not in said
