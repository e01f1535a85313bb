"""The runtime in an environment that has its own dependencies alone: no torch, no scikit-learn, no onnx."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
RUNTIME_DISTRIBUTIONS = ("numpy", "click", "opencv-python-headless", "onnxruntime")
"""What `pip install edge-aae[camera,cpu]` brings, with what those require."""


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site-packages folder of links to exactly the runtime's distributions and the project's packages."""
    site = tmp_path_factory.mktemp("site")
    names = list(RUNTIME_DISTRIBUTIONS)
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement for another platform or Python
        for required in distribution.requires or ():
            if "extra ==" not in required:
                names.append(re.split(r"[ ;<>=!~\[(]", required)[0])
        for file in distribution.files or ():
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    for package in ("edge_aae", "edge_runtime", "train", "export"):
        (site / package).symlink_to(ROOT / package)
    return site


def bare_python(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Python without site-packages (-S) that sees the bare folder alone."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "EDGE_AAE"))}
    return subprocess.run(
        [sys.executable, "-S", *arguments],
        cwd=cwd,
        env={**environment, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_environment_really_has_no_torch(bare_site: Path, tmp_path: Path) -> None:
    for module in ("torch", "sklearn", "onnx", "safetensors", "matplotlib", "rich"):
        done = bare_python(bare_site, "-c", f"import {module}", cwd=tmp_path)
        assert "ModuleNotFoundError" in done.stderr, module


@pytest.mark.parametrize(
    "command", ["run", "score", "check", "compare", "evaluate", "verify", "info", "train", "export", "demo"]
)
def test_every_command_shows_its_help(bare_site: Path, tmp_path: Path, command: str) -> None:
    done = bare_python(bare_site, "-m", "edge_aae.cli", command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage:")


def test_a_full_run_verify_and_score_work(bare_site: Path, workplace: Path, photos: Path, tmp_path: Path) -> None:
    run = bare_python(
        bare_site, "-m", "edge_aae.cli", "run", "--source", str(photos / "test"),
        "--model", str(workplace / "model.aae"), cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    records = [json.loads(line) for line in run.stdout.splitlines()]
    assert [record["frame_id"] for record in records] == list(range(16))
    verify = bare_python(bare_site, "-m", "edge_aae.cli", "verify", str(workplace / "model.aae"), cwd=tmp_path)
    assert verify.returncode == 0, verify.stderr
    score = bare_python(
        bare_site, "-m", "edge_aae.cli", "score", str(photos / "test"), "--model", str(workplace / "model.aae"),
        "--heatmaps", "heat", cwd=tmp_path,
    )  # fmt: skip
    assert score.returncode == 0, score.stderr
    assert "AUROC" in score.stdout


def test_a_bundle_is_evaluated_and_missing_plots_name_the_extra(
    bare_site: Path, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    done = bare_python(
        bare_site, "-m", "edge_aae.cli", "evaluate", str(workplace / "model.aae"), str(photos / "test"),
        "--bootstrap", "50", "--out", "figures", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
    assert 'no plots: plots need matplotlib: pip install "edge-aae[train]"' in done.stderr
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"report.json", "report.md", "scores.csv"}
    run = bare_python(
        bare_site, "-m", "edge_aae.cli", "evaluate", str(workplace / "runs/latest"), str(photos / "test"), cwd=tmp_path
    )
    assert run.returncode == 1
    assert 'evaluations of run folders need torch: pip install "edge-aae[train]"' in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [["train", "x"], ["export"], ["demo"]])
def test_commands_that_need_torch_name_the_extra(bare_site: Path, tmp_path: Path, arguments: list[str]) -> None:
    done = bare_python(bare_site, "-m", "edge_aae.cli", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert 'need torch: pip install "edge-aae[' in done.stderr
    assert "Traceback" not in done.stderr


def test_scoring_a_frame_imports_no_training_library(workplace: Path) -> None:
    code = (
        "import sys, numpy, edge_runtime; assert not {'torch', 'cv2', 'onnxruntime'} & set(sys.modules);"
        "from edge_aae import Detector;"
        "r = Detector.load('model.aae').score(numpy.zeros((40, 48, 3), numpy.uint8));"
        "assert r.anomaly_map.shape == (32, 32), r.anomaly_map.shape;"
        "assert not {'torch', 'sklearn', 'onnx', 'matplotlib', 'train', 'export'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
