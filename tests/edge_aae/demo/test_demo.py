"""The demo at a tiny schedule: everything it promises is left behind, and its figures come from the files."""

from __future__ import annotations

import csv
import html
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from edge_runtime.bundle.bundle import Bundle
from train.pages.page import STYLE

pytestmark = pytest.mark.slow

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def demo(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder and the output of `edge-aae demo` with a fortieth of its epochs, run twice: it replaces its own."""
    place = tmp_path_factory.mktemp("demo")
    (place / "demo-out").mkdir()
    done = cli("demo", "--epochs-scale", "0.025", cwd=place)
    assert done.returncode == 0, done.stderr
    return place / "demo-out", done.stdout


def test_the_demo_leaves_everything_it_names(demo: tuple[Path, str]) -> None:
    out, _ = demo
    assert {file.name for file in out.iterdir()} >= {
        "model.aae", "records.jsonl", "conveyor.avi", "conveyor.csv", "strip.png", "report.html", "runs",
    }  # fmt: skip
    assert {run.name for run in (out / "runs").iterdir()} == {"ae", "aae", "aae-itsr", "robust"}
    assert Bundle.open(out / "model.aae").manifest["model"]["refine"] == "robust"
    assert cv2.imread(str(out / "strip.png")).shape[0] > 300


def test_the_demos_table_agrees_with_its_files(demo: tuple[Path, str]) -> None:
    out, text = demo
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    with (out / "conveyor.csv").open() as stream:
        truth = [row["anomalous"] == "1" for row in csv.DictReader(stream)]
    assert len(records) == len(truth) == 150
    found = sum(record["is_anomaly"] and anomalous for record, anomalous in zip(records, truth, strict=True))
    false_alarms = sum(record["is_anomaly"] and not anomalous for record, anomalous in zip(records, truth, strict=True))
    assert f"video: {found} of 30 anomalous frames found, {false_alarms} of 120 normal frames flagged" in text
    with (out / "runs/robust/refinement.csv").open() as stream:
        rejected = [row for row in csv.DictReader(stream) if row["kept"] == "0"]
    contaminants = sum(row["label"] == "9" for row in rejected)
    assert f"{contaminants}/105 in {len(rejected)}" in text
    assert re.search(r"decisions that flip against PyTorch float32 on \d+ frames: fp32 0, fp16 \d", text)


def test_the_page_is_one_file_with_table_and_pictures(demo: tuple[Path, str]) -> None:
    out, text = demo
    page = (out / "report.html").read_text()
    assert page.count('<img class="plain"') == 13
    assert page.count("<figure><img") == 8
    assert STYLE.read_text() in page
    (verdict,) = (line.removeprefix("verdict: ") for line in text.splitlines() if line.startswith("verdict: "))
    assert html.escape(verdict[:1].upper() + verdict[1:]) in page
    assert 'src="runs' not in page
    assert text.splitlines()[0].strip() in page
