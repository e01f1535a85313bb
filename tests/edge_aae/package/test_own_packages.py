"""A user's own train.py or export.py in the working folder: the commands are immune, a script is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge_aae
from edge_runtime.errors import ConfigError
from tests.edge_aae.conftest import ROOT

OURS = {
    "python -m edge_aae": ["-m", "edge_aae"],
    "the command with the folder on the path": ["-c", "from edge_aae.cli import main; main()"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose train.py, export.py and edge_runtime.py must not be imported."""
    for name in ("train", "export"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the user's own {name}.py')\n")
    return tmp_path


def python(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("way", OURS.values(), ids=OURS)
def test_a_command_takes_its_own_packages(folder: Path, photos: Path, way: list[str]) -> None:
    pytest.importorskip("torch")
    done = python(*way, "train", photos / "train", "--imgsz", "16", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "40 to train on" in done.stdout
    exported = python(*way, "export", "nowhere", cwd=folder)
    assert (exported.returncode, "nowhere is no run folder" in exported.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize("way", OURS.values(), ids=OURS)
def test_the_processes_of_the_demo_take_them_too(folder: Path, way: list[str]) -> None:
    done = python(*way, "demo", "--epochs-scale", "0.025", cwd=folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_torchrun_takes_them_too(folder: Path, photos: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1", "-m", "edge_aae"]
    done = python(*torchrun, "train", photos / "train", "--imgsz", "16", "--dry-run", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_module_of_that_name_that_came_first_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("answer = 42\n")
    (tmp_path / "mine.py").write_text("import train\nfrom edge_aae.cli import main\n\nmain()\n")
    done = python("mine.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        f"error: {tmp_path / 'train.py'} hides edge-aae's own package 'train': rename it, or start from another folder"
    ]


def test_a_users_modules_are_left_alone_where_only_a_detector_is_used(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("answer = 42\n")
    (tmp_path / "mine.py").write_text("from edge_aae import Detector\nimport train\n\nprint(train.answer)\n")
    assert python("mine.py", cwd=tmp_path).stdout == "42\n"


def test_a_device_without_the_training_packages_runs(tmp_path: Path) -> None:
    for name in ("edge_aae", "edge_runtime"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "edge_aae", "run", "--help"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, "--camera" in done.stdout) == (0, True), done.stderr


API = """
import edge_aae

outcome = edge_aae.train({photos!r}, out="run", imgsz=(16, 16), network="mlp", refine="none", epochs=1, latent=2)
print(outcome.complete, outcome.config.data.imgsz)
print(edge_aae.export("run", precisions=("fp32",)).path)
"""


def test_a_script_trains_and_exports_though_its_folder_has_a_train_py(folder: Path, photos: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    (folder / "mine.py").write_text(API.format(photos=str(photos / "train")))
    done = python("mine.py", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True (16, 16)", "model.aae"]


def test_a_script_whose_own_module_came_first_is_told(tmp_path: Path) -> None:
    (tmp_path / "export.py").write_text("")
    (tmp_path / "mine.py").write_text("import export\nimport edge_aae\nedge_aae.train('photos')\n")
    done = python("mine.py", cwd=tmp_path)
    assert done.stderr.strip().splitlines()[-1] == (
        f"edge_runtime.errors.ConfigError: {tmp_path / 'export.py'} hides edge-aae's own package 'export': "
        "rename it, or start from another folder"
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [({"epoch": 3}, "train has no option epoch; it has network,"), ({"imgsz": "x"}, "expected pixels such as 128")],
)
def test_an_option_that_is_none_or_wrong_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        edge_aae.train("photos", **options)
