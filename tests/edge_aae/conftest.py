"""The command line as a user has it, a folder of small photographs, and one run and bundle made through it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def run_cli(*arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`edge-aae ARGUMENTS` in a folder, as a process of its own."""
    clean = {key: value for key, value in os.environ.items() if key != "EDGE_AAE_MODEL"}
    return subprocess.run(
        [sys.executable, "-m", "edge_aae.cli", *map(str, arguments)],
        cwd=cwd,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Runs the command line; cwd= names the folder, other keywords are environment variables."""
    return run_cli


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/: 40 grey photographs of a bright disc; test/good and test/scratch: 8 each, the latter scratched."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(3)
    for folder, n_images, scratched in (
        ("train/a/b", 20, False),
        ("train/c", 20, False),
        ("test/good", 8, False),
        ("test/scratch", 8, True),
    ):
        (root / folder).mkdir(parents=True)
        for index in range(n_images):
            image = rng.integers(20, 50, (40, 48), dtype=np.uint8)
            cv2.circle(image, (24, 20), 12, int(rng.integers(150, 200)), -1)
            if scratched:
                cv2.line(image, (4, 4), (44, 36), 255, 5)
            cv2.imwrite(str(root / folder / f"{index}.png"), image)
    return root


@pytest.fixture(scope="session")
def workplace(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which train and export were run on the photographs with defaults: runs/photos..., model.aae."""
    place = tmp_path_factory.mktemp("workplace")
    trained = run_cli(
        "train", photos / "train", "--imgsz", "32x32", "--epochs", "40", "--refine-epochs", "2",
        "--latent", "4", cwd=place,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    exported = run_cli("export", cwd=place)
    assert exported.returncode == 0, exported.stderr
    return place
