"""`edge-aae bench`, `doctor` and `calibrate` as their users meet them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np

from tests.edge_aae.conftest import Cli

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


def test_bench_says_so_where_frames_and_mask_do_not_fit(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copy(workplace / "model.aae", tmp_path / "model.aae")
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[:20] = 255
    cv2.imwrite(str(tmp_path / "half.png"), mask)
    made = cli("calibrate", "--source", photos / "train/c", "--loop", "10", "--target-fpr", "10%", "--mask", "half.png",
               cwd=tmp_path)  # fmt: skip
    assert made.returncode == 0, made.stderr
    ended = cli("bench", "--source", SOURCE, "--frames", "60", cwd=tmp_path)
    assert ended.returncode == 1
    assert "error: frame has 48 rows and 64 columns, the mask 40 and 48" in ended.stderr
    assert "Traceback" not in ended.stderr


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
    few = cli("calibrate", "--source", photos / "train/c", "--strict", cwd=tmp_path)
    assert few.returncode == 1
    assert "a threshold needs 20 or more" in few.stderr or "leave --strict out" in few.stderr
    assert not Path(f"{model}.calibration.json").exists()
    Path(f"{model}.calibration.json").write_text("damaged")
    told = cli("info", cwd=tmp_path)
    assert "calibrate again" in told.stderr
    again = cli("calibrate", "--source", photos / "train/c", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "the calibration so far is replaced" in again.stderr
    assert "20 frames cannot show 1 %; set for about 4.8 % false alarms, 90 % interval 0.26 % to 14 %" in again.stdout
    assert "frames are images that the bundle was trained on" in again.stderr
    assert "for 0.0476 false alarms" in cli("info", cwd=tmp_path).stdout


def test_a_threshold_that_a_person_chose_is_kept_until_it_is_undone(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copy(workplace / "model.aae", tmp_path / "model.aae")
    Path(tmp_path / "model.aae.calibration.json").write_text("damaged")
    made = cli("calibrate", "--threshold", "1.75", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "threshold 1.75, chosen by a person" in made.stdout
    assert "on site     threshold 1.75, chosen by a person" in cli("info", cwd=tmp_path).stdout
    scored = cli("run", "--source", photos / "test/good", "--drift", "50", cwd=tmp_path)
    assert {json.loads(line)["threshold"] for line in scored.stdout.splitlines()} == {1.75}
    both = cli("calibrate", "--threshold", "1.75", "--source", photos / "test/good", cwd=tmp_path)
    assert (both.returncode, "takes no frames" in both.stderr) == (2, True)
    assert cli("calibrate", "--undo", cwd=tmp_path).returncode == 0
    assert "on site" not in cli("info", cwd=tmp_path).stdout


def test_known_defects_set_the_threshold_between_them_and_the_frames(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    model = Path(shutil.copy(workplace / "model.aae", tmp_path / "model.aae"))
    known = ("--known-bad", photos / "test/scratch")
    made = cli("calibrate", "--source", photos / "test/good", "--loop", "5", *known, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "known defects found: 8 of 8, TPR 100.0%, 67.6% to 100.0% (95 %)" in made.stdout
    assert "false alarms expected: 0 per 1,000 good frames, 0 to 87.6 (95 %), from 0 of 40" in made.stdout
    assert "40 frames have 8 different scores" in made.stderr
    assert json.loads(Path(f"{model}.calibration.json").read_text())["basis"] == "defects"
    told = cli("score", photos / "test", "--json", "s.json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    images = json.loads((tmp_path / "s.json").read_text())["images"]
    assert [image["is_anomaly"] for image in images] == ["scratch" in image["name"] for image in images]


def test_a_mask_is_calibrated_with_and_then_need_not_be_named(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    shutil.copy(workplace / "model.aae", tmp_path / "model.aae")
    mask = np.zeros((40, 48), dtype=np.uint8)
    cv2.circle(mask, (24, 20), 14, 255, -1)
    cv2.imwrite(str(tmp_path / "disc.png"), mask)
    view = ("--mask", "disc.png", "--roi", "4,0,40,40")
    source = ("--source", photos / "train/c", "--loop", "10")
    made = cli("calibrate", *source, *view, "--target-fpr", "10%", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "region 4,0,40,40 and a mask of 48x40" in cli("info", cwd=tmp_path).stdout
    images = {folder: cv2.imread(str(photos / f"test/{folder}/0.png")) for folder in ("good", "scratch")}
    outside = images["good"].copy()
    outside[mask == 0] = images["scratch"][mask == 0]  # the scratch, as far as it is masked
    for name, image in (("good", images["good"]), ("outside", outside)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    scores = {}
    for options in ((), view):
        told = cli("score", "good.png", "outside.png", "--json", "s.json", *options, cwd=tmp_path)
        assert told.returncode == 0, told.stderr
        assert "calibrate again" not in told.stderr
        scores[options] = [image["score"] for image in json.loads((tmp_path / "s.json").read_text())["images"]]
        assert scores[options][0] == scores[options][1]
    assert scores[()] == scores[view]
    other = cli("run", "--source", "good.png", "--mask", "disc.png", cwd=tmp_path)
    assert "is not used; calibrate again" in other.stderr
    wrong = cli("run", "--source", SOURCE, "--max-frames", "3", "--mask", "disc.png", cwd=tmp_path)
    assert "frame has 48 rows and 64 columns, the mask 40 and 48" in wrong.stdout
    assert wrong.returncode == 1


def test_scores_of_another_scene_are_reported_as_drift(workplace: Path, photos: Path, cli: Cli) -> None:
    arguments = ("--source", photos / "test/scratch", "--loop", "20", "--drift", "100")
    done = cli("run", *arguments, cwd=workplace)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    drift = [record for record in records if record["type"] == "status"]
    assert [record["event_type"] for record in drift] == ["SCORES_DRIFT"]
    assert drift[0]["payload"]["distance"] > drift[0]["payload"]["limit"]
    assert "`edge-aae calibrate` with frames of now" in drift[0]["payload"]["reason"]
    assert drift[0]["payload"]["reason"] in done.stderr
