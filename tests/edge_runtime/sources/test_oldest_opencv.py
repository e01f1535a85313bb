"""What is said of cut files, torn frames and damaged videos holds with the oldest OpenCV allowed, where one is given.

EDGE_AAE_OLD_PYTHON names a Python that has it, see CONTRIBUTING.md.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = os.environ.get("EDGE_AAE_OLD_PYTHON", "")
TESTS = [
    "tests/edge_runtime/image_files/test_wholeness.py",
    "tests/edge_runtime/sources/test_motion_jpeg.py",
    "tests/edge_runtime/sources/test_damaged_videos.py",
    "tests/edge_runtime/sources/test_codecs.py",
]


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="EDGE_AAE_OLD_PYTHON names no Python with the oldest OpenCV")
def test_damage_is_told_with_the_oldest_opencv() -> None:
    (oldest,) = re.findall(
        r'^camera = \["opencv-python-headless>=([\d.]+)"\]', (ROOT / "pyproject.toml").read_text(), re.M
    )
    run = [PYTHON, "-c", "import cv2; print(cv2.__version__)"]
    version = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout
    assert version.startswith(f"{oldest}."), f"{PYTHON} has OpenCV {version.strip()}, expected {oldest}"
    # A bundle needs PyTorch, which such an environment lacks: the run over one is left out, and fixtures with it.
    left_out = ["--noconftest", "-k", "not a_run_over"]
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left_out, *TESTS],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\d{3} passed", done.stdout)
