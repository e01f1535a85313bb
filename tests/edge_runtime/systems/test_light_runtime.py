"""Scoring, runs on files and the page without POSIX: simulated where there is POSIX, on Windows as it is."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.model.images import write_image

ROOT = Path(__file__).resolve().parents[3]
WITHOUT_POSIX = Path(__file__).with_name("without_posix")
LIMIT_S = 240
"""Against a hang"""

WORLDS = [
    "here",
    pytest.param("without POSIX", marks=pytest.mark.skipif(os.name != "posix", reason="this system is without POSIX")),
]


def environment(world: str) -> dict[str, str]:
    path = [str(ROOT)] if world == "here" else [str(WITHOUT_POSIX), str(ROOT)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PYTHONIOENCODING": "utf-8"}


def edge_aae(world: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_aae", *map(str, arguments)]
    return subprocess.run(
        command, env=environment(world), capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False
    )


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Six small images, of which the name of one has a letter that is no ASCII."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(6):
        grey = np.random.default_rng(number).integers(90, 110, (20, 30, 3), dtype=np.uint8)
        write_image(folder / (f"{number}.png" if number else "prüfling.png"), grey)
    return folder


@pytest.mark.skipif(os.name != "posix", reason="this system is without POSIX")
def test_every_module_imports_where_nothing_of_posix_is() -> None:
    code = (
        "import importlib, os, pkgutil, select, signal, sys\n"
        "sys.modules['termios'] = None\n"
        "absent = 'fcntl', 'resource', 'pwd', 'grp', 'termios'\n"
        "assert all(sys.modules[name] is None for name in absent)\n"  # the world is what it claims to be
        "assert not hasattr(os, 'geteuid') and not hasattr(select, 'poll') and not hasattr(signal, 'SIGHUP')\n"
        "import edge_runtime\n"
        "names = [module.name for module in pkgutil.walk_packages(edge_runtime.__path__, 'edge_runtime.')]\n"
        "for name in [*names, 'edge_aae.cli']:\n"
        "    importlib.import_module(name)\n"
        "print(len(names))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=environment("without POSIX"), capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 100


@pytest.mark.parametrize("world", WORLDS)
def test_files_are_scored_and_heatmaps_written(world: str, bundle_file: Path, frames: Path, tmp_path: Path) -> None:
    ended = edge_aae(world, "score", frames, "--model", bundle_file, "--heatmaps", tmp_path / "heat")
    assert ended.returncode == 0, ended.stderr
    assert len(list((tmp_path / "heat").rglob("*.png"))) == 6


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_on_files_writes_a_record_of_each(world: str, bundle_file: Path, frames: Path, tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    ended = edge_aae(world, "run", "--source", frames, "--model", bundle_file, "--out", lines)
    assert ended.returncode == 0, ended.stderr
    records = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    scored = [record for record in records if record["type"] == "frame"]
    assert sorted(Path(record["name"]).name for record in scored) == sorted(file.name for file in frames.iterdir())


@pytest.mark.parametrize("world", WORLDS)
def test_a_run_keeps_events_in_its_outbox_and_pictures_in_its_folder(
    world: str, bundle_file: Path, tmp_path: Path
) -> None:
    ended = edge_aae(
        world, "run", "--source", "test://pattern?fps=50&width=64&height=48", "--max-frames", "12", "--model",
        bundle_file, "--alarm", "1/1", "--threshold", "-1000", "--min-duration", "0", "--snapshots",
        tmp_path / "snapshots", "--webhook", "http://127.0.0.1:1/hook", "--outbox", tmp_path / "events.db",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert '"type":"event"' in ended.stdout
    assert len(list((tmp_path / "snapshots").rglob("*.jpg"))) == 1
    assert (tmp_path / "events.db").stat().st_size > 0


@pytest.mark.parametrize("world", WORLDS)
def test_two_runs_do_not_share_an_outbox(world: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge_runtime.delivery.outbox import Outbox\n"
        "from edge_runtime.errors import ConfigError\n"
        "first = Outbox(Path(sys.argv[1]))\n"
        "try:\n"
        "    Outbox(Path(sys.argv[1]))\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
        "first.close()\n"
        "Outbox(Path(sys.argv[1])).close()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "events.db")],
        env=environment(world), capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "is another run's outbox" in ended.stdout


@pytest.mark.parametrize("world", WORLDS)
def test_frames_come_through_standard_input(world: str, bundle_file: Path) -> None:
    command = [sys.executable, "-m", "edge_aae", "run", "--source", "-", "--raw", "30x20x3", "--model", bundle_file]
    ended = subprocess.run(
        command, input=bytes(3 * 30 * 20 * 3), env=environment(world), capture_output=True, timeout=LIMIT_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len([line for line in ended.stdout.splitlines() if b'"frame_id"' in line]) >= 3


@pytest.mark.parametrize("world", WORLDS)
def test_a_new_bundle_is_tried_in_a_process_of_its_own(world: str, bundle_file: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from edge_runtime.gate.trial import Trial\n"
        "Trial().of(Path(sys.argv[1]))\n"
        "print('of use')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(bundle_file)],
        env=environment(world), capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert ended.stdout.strip() == "of use", ended.stderr


@pytest.mark.parametrize("world", WORLDS)
def test_the_page_is_served_and_ends_with_its_run(world: str, bundle_file: Path) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    command = [sys.executable, "-m", "edge_aae", "run", "--model", str(bundle_file), "--serve", ":0", "--source",
               "test://pattern?fps=50&width=64&height=48"]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment(world), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8"
    )
    try:
        assert process.stderr is not None
        said = []
        address = None
        for line in process.stderr:
            said.append(line)
            if address := re.search(r"http://\S+", line):
                break
        assert address is not None, said
        with urllib.request.urlopen(address[0].rstrip(".,"), timeout=60) as answer:
            assert b"<html" in answer.read()
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=LIMIT_S)
