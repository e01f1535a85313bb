"""The public names have types that a user's checker sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

SCRIPT = """
from pathlib import Path
from typing import assert_type

import numpy as np

import edge_aae
from edge_aae import Bundle, Detector, Result
from train.runs.session import TrainingOutcome

detector = Detector.load("model.aae")
assert_type(detector.score("part.png"), Result)
assert_type(detector.score(np.zeros((8, 8), dtype=np.uint8)), Result)
assert_type(detector.score(["a.png", "b.png"]), list[Result])
assert_type(detector.score([np.zeros((8, 8), dtype=np.uint8)]), list[Result])
assert_type(detector.score(Path("part.png")).score, float)
assert_type(edge_aae.train("photos"), TrainingOutcome)
assert_type(edge_aae.train("photos").path, Path)
assert_type(edge_aae.export("runs/latest"), Bundle)
detector.score(7)
"""


@pytest.mark.slow
def test_a_users_checker_sees_the_types_and_what_does_not_fit(tmp_path: Path) -> None:
    script = tmp_path / "face.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--python-version", "3.11", "--follow-imports", "silent", "--config-file",
         str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache"), str(script)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert 'No overload variant of "score" of "Detector" matches argument type "int"' in errors[0]
    for package in ("edge_aae", "edge_runtime", "train", "export"):
        assert (ROOT / package / "py.typed").exists()
