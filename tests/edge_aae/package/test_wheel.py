"""What the wheel holds: the four packages, the sample with its notice, typing marks, and nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge_runtime import __version__

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("edge_aae", "train", "export", "edge_runtime")

UPLOT = {
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""SHA-256 of the files in dist/ of the npm package uplot 1.6.32"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of the working tree, built by hatchling without isolation: no network."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (file,) = out.glob("*.whl")
    assert file.name == f"edge_aae-{__version__}-py3-none-any.whl"
    return zipfile.ZipFile(file)


def test_every_module_of_the_four_packages_is_in_the_wheel_and_no_other_folder(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    expected = {str(file.relative_to(ROOT)) for package in PACKAGES for file in (ROOT / package).rglob("*.py")}
    assert expected <= names
    assert {name.split("/")[0] for name in names} == {*PACKAGES, f"edge_aae-{__version__}.dist-info"}


def test_the_wheel_is_typed_and_carries_sample_notice_and_license(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {"edge_aae/sample/fashion.npz", "edge_aae/sample/NOTICE"} <= names
    assert {f"export/standalone/{name}" for name in ("reference.cpp", "CMakeLists.txt", "README.txt")} <= names
    licenses = {name.split("licenses/")[1] for name in names if ".dist-info/licenses/" in name}
    assert licenses == {"LICENSE", "edge_aae/sample/NOTICE"}
    assert "Zalando" in wheel.read("edge_aae/sample/NOTICE").decode()


def test_the_embedded_sample_has_at_most_two_megabytes(wheel: zipfile.ZipFile) -> None:
    assert wheel.getinfo("edge_aae/sample/fashion.npz").file_size <= 2_000_000


def test_metadata_names_the_script_the_extras_and_the_core_dependencies(wheel: zipfile.ZipFile) -> None:
    info = f"edge_aae-{__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(line.split()[1].split(">")[0] for line in required) == ["click", "numpy", "tomli"]
    assert "python_version < '3.11'" in next(line for line in required if "tomli" in line).replace('"', "'")
    extras = {line.split()[1] for line in metadata.splitlines() if line.startswith("Provides-Extra:")}
    assert {
        "camera",
        "cpu",
        "gpu",
        "openvino",
        "tensorrt",
        "train",
        "export",
        "mqtt",
        "metrics",
        "dashboard",
        "qr",
        "sign",
        "heic",
    } <= extras
    assert "Requires-Python: >=3.10" in metadata
    assert "edge-aae = edge_aae.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()


def test_pages_bring_their_files_and_the_vendored_ones_are_those_of_the_package(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for folder in ("edge_runtime/live/assets", "train/pages/review_assets"):
        files = {str(file.relative_to(ROOT)) for file in (ROOT / folder).rglob("*") if file.is_file()}
        assert len(files) >= 3
        assert files <= names
    assert "edge_runtime/live/assets/vendor/uPlot.LICENSE" in names
    for name, digest in UPLOT.items():
        content = wheel.read(f"edge_runtime/live/assets/vendor/{name}")
        assert hashlib.sha256(content).hexdigest() == digest
