"""The command line as a user has it, a folder of small photographs, and one run and bundle made through it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


LIMIT_S = 300
"""Against a hang: no command of a test takes a tenth of it on an idle machine."""


class Starter:
    """Runs command lines, each in a process forked from one that has imported what they need; see starter.py."""

    def __init__(self, outputs: Path) -> None:
        """outputs: folder for what the commands print."""
        self._outputs = outputs
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("starter.py")],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """`edge-aae ARGUMENTS` in a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        stdout, stderr = self._outputs / "stdout", self._outputs / "stderr"
        stdout.write_bytes(b"")
        stderr.write_bytes(b"")
        clean = {key: value for key, value in os.environ.items() if key != "EDGE_AAE_MODEL"}
        asked = {
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": {**clean, "PYTHONPATH": str(ROOT), **environment},
            "stdout": str(stdout),
            "stderr": str(stderr),
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        timer = threading.Timer(LIMIT_S, os.kill, (pid, signal.SIGKILL))
        timer.start()
        status = int(self._process.stdout.readline())
        timer.cancel()
        return subprocess.CompletedProcess(asked["arguments"], status, stdout.read_text(), stderr.read_text())

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """Runs the command line; cwd= names the folder, other keywords are environment variables."""
    starter = Starter(tmp_path_factory.mktemp("outputs"))
    yield starter
    starter.close()


@pytest.fixture(scope="session")
def photos(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """train/: 40 grey photographs of a bright disc; test/good and test/scratch: 8 each, the latter scratched."""
    return made_once("photos", _draw_photos)


@pytest.fixture(scope="session")
def workplace(cli: Cli, photos: Path, made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A folder in which train and export were run on the photographs with defaults: runs/photos..., model.aae.

    export.txt: what export printed. Not to be changed by a test, for several processes read it.
    """

    def make(place: Path) -> None:
        trained = cli(
            "train", photos / "train", "--imgsz", "32x32", "--epochs", "40", "--refine-epochs", "2",
            "--latent", "4", cwd=place,
        )  # fmt: skip
        assert trained.returncode == 0, trained.stderr
        exported = cli("export", cwd=place)
        assert exported.returncode == 0, exported.stderr
        (place / "export.txt").write_text(exported.stdout)

    return made_once("workplace", make)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def _draw_photos(root: Path) -> None:
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
