"""Images and folders as users have them: what a command takes, leaves out, refuses and says."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_runtime.scoring.detector import Detector

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = ("--epochs", "1", "--refine-epochs", "1", "--no-report")


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str, status: int = 1) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in last, last


def draw(
    folder: Path, n: int, *, suffix: str = ".png", dtype: type = np.uint8, side: tuple[int, int] = (48, 64)
) -> None:
    """Bright discs, which line up; as uint16 in 12 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(n)
    for number in range(n):
        image = rng.integers(20, 50, side).astype(dtype)
        cv2.circle(image, (side[1] // 2, side[0] // 2), 12, int(rng.integers(150, 200)), -1)
        cv2.imwrite(str(folder / f"{number}{suffix}"), image * 20 if dtype == np.uint16 else image)


def test_tagged_photographs_are_of_one_size_for_training(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 18, suffix=".jpg")
    for number in (0, 3, 6, 9):  # a third, held upright: they lie in their files on the side
        file = tmp_path / f"photos/{number}.jpg"
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).rotate(90, expand=True).save(file, exif=exif, quality=95)
    done = cli("train", "photos", *QUICK, "--imgsz", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "network hog: the images show one thing in one place" in done.stderr
    assert '"fit": "stretch"' in (tmp_path / "runs/latest/config.json").read_text()


def test_12_bits_are_said_kept_and_used_on_the_device(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 18, dtype=np.uint16)
    done = cli("train", "photos", *QUICK, "--imgsz", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "18 images have 16 bits a sample, of which level" in done.stderr
    assert "0 to 4095 become black to white; --levels LOW,HIGH sets others" in done.stderr
    exported = cli("export", "--precision", "fp32", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    detector = Detector.load(tmp_path / "model.aae")
    assert detector.preprocess.levels == (0, 4095)
    scored = cli("score", "photos", "--csv", "scores.csv", cwd=tmp_path)
    assert scored.returncode == 0, scored.stderr
    with (tmp_path / "scores.csv").open() as stream:
        by_command = {row["name"]: float(row["score"]) for row in csv.DictReader(stream)}
    for name in ("0.png", "7.png"):
        assert by_command[name] == detector.score(tmp_path / "photos" / name).score
    cv2.imwrite(str(tmp_path / "bright.png"), np.full((48, 64), 9000, np.uint16))
    assert "bright.png reaches level 9000, above the 4095" in cli("score", "bright.png", cwd=tmp_path).stderr
    asked = cli("train", "photos", *QUICK, "--imgsz", "32", "--levels", "0,8191", "--dry-run", cwd=tmp_path)
    assert asked.returncode == 0, asked.stderr
    assert "become black to white" not in asked.stderr
    assert_refused(cli("train", "photos", "--levels", "9,3", cwd=tmp_path), "'9,3', expected LOW,HIGH", status=2)
    assert_refused(
        cli("train", "photos", "--levels", "9", cwd=tmp_path), "expected LOW,HIGH of 16-bit images", status=2
    )


def test_a_data_set_s_root_and_a_run_folder(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "tile/train/good", 18)
    draw(tmp_path / "tile/test/scratch", 3)
    done = cli("train", "tile", *QUICK, "--imgsz", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tile is a data set: training on tile/train/good alone" in done.stderr
    assert "on 18 images" in done.stderr
    refused = "is a run folder, not images"
    assert_refused(cli("train", "runs/latest", cwd=tmp_path), refused, "edge-aae train --resume --out runs/latest")
    exported = cli("export", "--out", "m.aae", "--precision", "fp32", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert "in place of" not in exported.stdout
    assert exported.stdout.splitlines()[-1] == (
        "next: edge-aae verify m.aae, edge-aae score IMAGES --model m.aae, edge-aae run --camera 0 --model m.aae"
    )
    again = cli("export", "--out", "m.aae", "--precision", "fp32", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert ", in place of model sha256:" in again.stdout
    assert_refused(
        cli("score", "runs/latest", "--model", "m.aae", cwd=tmp_path), refused, "edge-aae export runs/latest"
    )
    by_run = cli("score", "tile/test", "--model", "runs/latest", cwd=tmp_path)
    assert_refused(by_run, "is a run folder, not a bundle; make one of it: edge-aae export runs/latest")


def test_auto_takes_a_network_that_takes_the_size(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(18):  # they do not line up, and have several sizes: patch, whose tiles are 64 and more
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), rng.integers(0, 256, (40 + 2 * number, 50), dtype=np.uint8))
    done = cli("train", "photos", *QUICK, "--imgsz", "32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "network hog: " in done.stderr
    assert "not patch: " in done.stderr


def test_a_head_is_for_features_alone(cli: Cli, tmp_path: Path) -> None:
    draw(tmp_path / "photos", 6)
    done = cli("train", "photos", "--network", "hog", "--head", "try", cwd=tmp_path)
    assert_refused(done, "--head try belongs to --network features; hog has no head to try", status=2)


@pytest.mark.parametrize("network", ["hog", "conv", "mlp", "patch"])
def test_the_same_image_again_and_again_is_one_line(cli: Cli, tmp_path: Path, network: str) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(8):
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), np.zeros((64, 64), np.uint8))
    for more in ((), ("--dry-run",)):
        done = cli("train", "photos", "--network", network, "--imgsz", "64", *more, cwd=tmp_path)
        assert_refused(done, "all 8 images of photos show the same")
    assert not (tmp_path / "runs/latest/weights.safetensors").exists()


def test_the_demo_s_bundle_is_never_taken_unasked(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "demo-out").mkdir()
    shutil.copy(workplace / "model.aae", tmp_path / "demo-out")
    for command in (("score", photos / "test"), ("run", "--source", photos / "test"), ("info",)):
        assert_refused(cli(*command, cwd=tmp_path), "no bundle: there is no ./model.aae")
    within = cli("score", photos / "test", cwd=tmp_path / "demo-out")
    assert within.returncode == 0, within.stderr
    assert f"bundle model.aae in {tmp_path / 'demo-out'}, the default" in within.stderr
    named = cli("info", "demo-out/model.aae", cwd=tmp_path)
    assert "bundle demo-out/model.aae" in named.stderr.splitlines()


def test_most_files_unreadable_is_a_failure_after_all_is_written(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "test/good", tmp_path / "mixed")
    for number in range(9):
        (tmp_path / f"mixed/x{number}.png").write_bytes(b"no image")
    model = ("--model", workplace / "model.aae")
    scored = cli("score", "mixed", *model, "--csv", "scores.csv", cwd=tmp_path)
    said = "9 of 17 images of mixed could not be scored (52.9%, --max-bad allows 50.0%)"
    assert_refused(scored, said)
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 9
    assert_refused(cli("run", "--source", "mixed", *model, "--out", "r.jsonl", cwd=tmp_path), said)
    assert (tmp_path / "r.jsonl").read_text().count('"type":"frame"') == 8
    for more in (("score", "mixed", *model), ("run", "--source", "mixed", *model, "--out", "-")):
        assert cli(*more, "--max-bad", "60%", cwd=tmp_path).returncode == 0
    assert_refused(
        cli("score", "mixed", *model, "--max-bad", "160%", cwd=tmp_path), "--max-bad is 160.00%, expected", status=2
    )


def test_a_link_to_a_folder_is_scored(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    (tmp_path / "all/linked").symlink_to(photos / "test/good")
    (tmp_path / "all/round").symlink_to(tmp_path / "all")
    done = cli("score", "all", "--model", workplace / "model.aae", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 images scored")
    assert "all/round leads to" in done.stderr
