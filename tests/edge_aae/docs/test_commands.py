"""Every command that README and docs show is executed, or stands below with the reason why it cannot be here.

A command is a line of a `sh` block, or an indented line that begins with a program. Each page's commands run in order,
in a folder that has what a user's would: photos/, test/, model.aae, runs/. Cameras, brokers and addresses of a plant
are stood in for by test:// and by the loopback; trainings are shortened. docs/results is history and not run again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.edge_aae.docs.test_readme import PAGES, ROOT

PROGRAMS = re.compile(
    r"(sudo |[A-Z_]+=\S+ )*(edge-aae|\.|/opt/edge-aae/\S+|make|python3?|pip|torchrun|docker|polygraphy|unzip"
    r"|mosquitto_\w+|cp|mkdir|openssl|scp|ssh|tail|git|sha256sum|cyclonedx-py|apt-get|\.venv/\S+)( |$)"
)

ELSEWHERE = {
    r"^git clone|^make -C edge-aae install|^\. edge-aae/": "a clean clone; docs/results/quickstart.md has it measured",
    r"^make (demo|test)": "`make test` is what runs this; tests/edge_aae/demo/test_demo.py runs the demo",
    r"^(/opt/edge-aae/bin/)?pip install": "the package index; benchmarks/release/release_check.py installs every extra",
    r"^\.venv/bin/(python -m pytest|ruff) ": "these are the tests",
    r"^python3 -m venv /tmp/old |^EDGE_AAE_OLD_PYTHON=": "the package index; another OpenCV, tried by hand",
    r"^_EDGE_AAE_COMPLETE=fish": "fish; tests/edge_aae/commands tries what it prints",
    r"^docker |^GRAFANA_PASSWORD": "a Docker engine; tests/docker executes steps, settings and queries",
    r"^sudo apt-get ": "changes the system; .ci/run installs the same packages",
    r"^sudo \.venv/bin/python docker/run_steps\.py": "tests/docker/test_images.py runs it, as root",
    r"^python3 -m venv .*/opt/edge-aae": "writes to /opt",
    r"^/opt/edge-aae/bin/edge-aae doctor": "a Jetson; doctor without one is run from docs/sources.md",
    r"^sudo /opt/edge-aae/bin/edge-aae service|^edge-aae service": "systemd; test_service.py runs it with a stand-in",
    r"--backend tensorrt\b": "an NVIDIA GPU with TensorRT",
    r"^edge-aae run .*csi://|by-id:usb-Basler|v4l2src": "a camera",
    r"^edge-aae cache clear": "asks before it deletes; test_engines.py answers",
    r"^(POLYGRAPHY_\S+ )?polygraphy ": "NVIDIA's Polygraphy: not a dependency, tried by hand",
    r"^mosquitto_sub ": "a broker with that certificate; test_fleet.py subscribes as monitor",
    r"^scp |^ssh ": "another machine",
    r"^git checkout|^sha256sum|^python -m hatchling build": "a released tag; test_release.py builds twice",
    r"^cyclonedx-py": "cyclonedx-bom: not a dependency, tried by hand",
    r"^python benchmarks/(?!paper/table\.py .*--dry-run)": "minutes to days; benchmarks/ says what each needs",
    r"^edge-aae review": "serves until Ctrl-C; test_review_page.py opens it in a browser",
    r"--bad-image": "a bundle of 20 photographs or more; tests/edge_aae/device/test_image_quality.py runs it",
    r"^edge-aae train .*--feedback |--keep runs/latest": "what a person decided before",
    r"^torchrun .*--resume": "an interrupted run of two processes; tests/train/test_distributed.py makes one",
    r"^torchrun .*which edge-aae": "the same as the line before it",
}  # fmt: skip

STAND_INS = [
    ("doctor --camera 0", "doctor --camera 'test://pattern?fps=500&width=64&height=48'"),
    ("--camera 0", "--source 'test://pattern?fps=500&width=64&height=48'"),
    ("--camera line3=2", "--source 'line3=test://pattern?fps=500&width=64&height=48'"),
    ("rtsp://10.0.0.5/live", "'test://pattern?fps=500&width=64&height=48'"),
    ("images=photos/good&at=10&for=30", "images=photos/c&fps=500&at=10&for=30"),
    ("--frames 2000 --every 10", "--frames 300"),
    ("--frames 2000", "--frames 300"),
    ("--target-fpr 0.5%", "--target-fpr 3%"),
    ("--roi 120,40,400,400", "--roi 8,4,40,40"),
    ("https://factory.example/hook", "http://127.0.0.1:1/hook"),
    ("mqtt://broker", "mqtt://127.0.0.1:1"),
    ("--outbox /var/lib/edge-aae/events.db", "--outbox events.db"),
    ("--metrics 0.0.0.0:9100", "--metrics 0"),
    ("--metrics 9100", "--metrics 0"),
    ("--serve :8080", "--serve :0"),
    (
        "bench --threads 1 --min-fps 30 --max-p99-ms 40",
        "bench --source 'test://pattern?fps=500&width=64&height=48' "
        "--threads 1 --min-fps 0.1 --max-p99-ms 40000 --frames 60 --no-cold",
    ),
    ("--epochs-scale 0.02", "--epochs-scale 0.001"),
    ("fashion-mnist/ --exclude", "fashion-mnist/ --classes 0 --exclude"),
]
SHORTENED = {"run": "--max-frames 12", "train": "--epochs-scale 0.01"}


def commands_in(page: Path) -> list[str]:
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^(?: {4}| {8})(\S.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), flags=re.M)
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line for line in [*indented, *lines] if PROGRAMS.match(line)]


def reasons(command: str) -> list[str]:
    return [reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, command)]


SHOWN = [(page, command) for page in PAGES if page.parent.name != "results" for command in commands_in(page)]
EXECUTED = sorted({page for page, command in SHOWN if not reasons(command)})


def test_every_reason_is_needed_and_most_commands_have_none() -> None:
    assert len(SHOWN) > 70
    unused = [pattern for pattern in ELSEWHERE if not any(re.search(pattern, command) for _, command in SHOWN)]
    assert unused == []
    ours = [command for _, command in SHOWN if command.startswith("edge-aae")]
    assert sum(not reasons(command) for command in ours) > 0.65 * len(ours)


def test_what_looks_like_a_command_is_taken_for_one() -> None:
    """A fenced block that is no `sh` holds no command of ours, and no indented line of ours is missed."""
    for page in PAGES:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL):
            assert language in ("sh", "yaml", "python", "json", "toml", "") or page.name == "bundle.md", page
            assert language in ("sh", "yaml") or not re.search(r"^(sudo )?edge-aae ", block, flags=re.MULTILINE), page


@pytest.fixture
def folder(workplace: Path, photos: Path, tmp_path: Path) -> Path:
    """What a user of the pages would have."""
    shutil.copytree(photos / "train", tmp_path / "photos")
    shutil.copytree(photos / "test", tmp_path / "test")
    shutil.copytree(photos / "test", tmp_path / "tile/test")
    for known, group in (("good", "good"), ("bad", "scratch")):
        (tmp_path / "parts" / known).mkdir(parents=True)
        shutil.copy(photos / "test" / group / "0.png", tmp_path / "parts" / known)
    for name in ("model.aae", "new.aae"):
        shutil.copy(workplace / "model.aae", tmp_path / name)
    shutil.copytree(workplace / "runs", tmp_path / "runs", symlinks=True)
    latest = (workplace / "runs/latest").resolve().name
    for name in ("tile-7", "photos-1"):
        if not (tmp_path / "runs" / name).exists():
            (tmp_path / "runs" / name).symlink_to(latest)
    (tmp_path / "defects").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).choice(np.array([0, 255], dtype=np.uint8), (48, 64))
        cv2.imwrite(str(tmp_path / f"defects/{number}.png"), noise)
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[:, :50] = 255
    cv2.imwrite(str(tmp_path / "clamps.png"), mask)
    (tmp_path / "ca.pem").write_text("no certificate")
    (tmp_path / "broker.txt").write_text("mqtts://line3:password@127.0.0.1:1\n")
    (tmp_path / "token.txt").write_text("a-token-of-twenty-odd-characters\n")
    (tmp_path / "seen.txt").write_text("fashion-mnist/0\n")
    (tmp_path / "bad.txt").write_text("c/1.png\n")
    review = tmp_path / "runs/photos-1/review"
    review.mkdir(exist_ok=True)
    for number in (1, 2):
        (review / f"group-{number}.csv").write_text(f"name\nc/{number}.png\n")
    write_fashion(tmp_path / "fashion-mnist")
    return tmp_path


def write_fashion(folder: Path) -> None:
    """An IDX set of the embedded sample's images, a few of each class."""
    folder.mkdir()
    with np.load(ROOT / "edge_aae/sample/fashion.npz") as sample:
        images, labels = sample["test_images"], sample["test_labels"]
    for split, start in (("train", 0), ("t10k", 1)):
        kept = np.concatenate([np.flatnonzero(labels == label)[start::2][:60] for label in np.unique(labels)])
        rows, columns = images.shape[1:3]
        pixels = struct.pack(">IIII", 0x803, len(kept), rows, columns) + images[kept].tobytes()
        (folder / f"{split}-images-idx3-ubyte").write_bytes(pixels)
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, len(kept)) + labels[kept].astype(np.uint8).tobytes()
        )


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.name)
def test_the_commands_of_a_page_run_in_order(page: Path, folder: Path) -> None:
    tools = folder / "tools"
    tools.mkdir()
    (tools / "edge-aae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edge_aae "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "torchrun").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m torch.distributed.run "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EDGE_AAE")}
    environment |= {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "EDGE_AAE_CACHE": str(folder / "c"),
    }
    for command in commands_in(page):
        if reasons(command):
            continue
        ended = subprocess.run(
            shortened(command), shell=True, cwd=folder, env=environment,
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}\n{ended.stdout[-1500:]}\n{ended.stderr[-1500:]}"


def shortened(command: str) -> str:
    for shown, instead in STAND_INS:
        command = command.replace(shown, instead)
    words = shlex.split(command, comments=True)
    for name, more in SHORTENED.items():
        if name in words and "--print-config" not in words and more.split(" ")[0] not in words:
            command = re.sub(rf"\b{name}\b", f"{name} {more}", command, count=1)
    return command
