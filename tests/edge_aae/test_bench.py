"""`edge-aae bench`, `doctor` and `calibrate` as their users meet them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from .conftest import Cli

SOURCE = "test://pattern?fps=1000&width=64&height=48"


def test_bench_prints_the_stages_and_its_gates_end_with_3(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    fine = cli("bench", "--source", SOURCE, "--frames", "60", "--json", tmp_path / "b.json", cwd=workplace)
    assert fine.returncode == 0, fine.stderr
    for words in ("capture", "end to end", "network alone", "times the network alone", "MiB resident"):
        assert words in fine.stdout
    assert json.loads((tmp_path / "b.json").read_text())["frames"] == 60
    slow = cli("bench", "--source", SOURCE, "--frames", "60", "--no-cold", "--min-fps", "1e9", "--max-p99-ms", "1e-9",
               "--max-overhead", "1e-9", cwd=workplace)  # fmt: skip
    assert slow.returncode == 3
    assert "frames a second, asked for 1e+09 or more; p99 " in slow.stderr
    assert "times the bare network, asked for 1e-09 or less" in slow.stderr


def test_the_doctor_prints_a_line_a_check_and_fails_where_a_run_would(workplace: Path, cli: Cli) -> None:
    fine = cli("doctor", "--camera", SOURCE, cwd=workplace)
    assert fine.returncode == 0, fine.stdout
    assert "runs the bundle's detector" in fine.stdout
    assert "frames a second measured" in fine.stdout
    failing = cli("doctor", "--camera", "97", "--json", cwd=workplace)
    assert failing.returncode == 1
    told = json.loads(failing.stdout)
    assert told["ok"] is False
    assert [check["name"] for check in told["checks"] if check["state"] == "error"] == ["camera 97"]


def test_calibrate_moves_the_threshold_and_undo_moves_it_back(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    model = Path(shutil.copy(workplace / "model.aae", tmp_path / "model.aae"))
    made = cli("calibrate", "--source", photos / "train/c", "--loop", "10", "--target-fpr", "10%", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "undo: edge-aae calibrate --undo model.aae" in made.stdout
    assert "on site     threshold" in cli("info", cwd=tmp_path).stdout
    scored = cli("run", "--source", photos / "train/c", "--drift", "50", "--loop", "3", cwd=tmp_path)
    records = [json.loads(line) for line in scored.stdout.splitlines()]
    threshold = json.loads(Path(f"{model}.calibration.json").read_text())["threshold"]
    assert {record["threshold"] for record in records} == {threshold}
    assert sum(record["is_anomaly"] for record in records) <= 0.15 * len(records)
    assert cli("calibrate", "--undo", cwd=tmp_path).returncode == 0
    assert "on site" not in cli("info", cwd=tmp_path).stdout
    assert "nothing to undo" in cli("calibrate", "--undo", cwd=tmp_path).stderr
    few = cli("calibrate", "--source", photos / "train/c", cwd=tmp_path)
    assert few.returncode == 1
    assert "take --frames more" in few.stderr


def test_scores_of_another_scene_are_reported_as_drift(workplace: Path, photos: Path, cli: Cli) -> None:
    arguments = ("--source", photos / "test/scratch", "--loop", "20", "--drift", "100")
    records = [json.loads(line) for line in cli("run", *arguments, cwd=workplace).stdout.splitlines()]
    drift = [record for record in records if record["type"] == "status"]
    assert [record["event_type"] for record in drift] == ["SCORES_DRIFT"]
    assert drift[0]["payload"]["distance"] > drift[0]["payload"]["limit"]
