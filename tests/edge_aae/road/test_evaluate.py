"""`edge-aae evaluate` as a user has it: a run and its bundle agree, masks, names to leave out, and mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
RUN = "runs/latest"


@pytest.fixture(scope="module")
def masked(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test photographs with the scratch marked in ground_truth/ beside them."""
    root = tmp_path_factory.mktemp("masked")
    shutil.copytree(photos / "test", root / "test")
    mask = np.zeros((40, 48), np.uint8)
    cv2.line(mask, (4, 4), (44, 36), 255, 5)
    (root / "ground_truth/scratch").mkdir(parents=True)
    for index in range(8):
        cv2.imwrite(str(root / f"ground_truth/scratch/{index}_mask.png"), mask)
    return root


def evaluated(cli: Cli, workplace: Path, out: Path, *arguments: str | Path) -> tuple[dict[str, Any], str]:
    """The report.json and standard output of an evaluation that succeeds."""
    done = cli("evaluate", *arguments, "--out", out, "--bootstrap", "100", cwd=workplace)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text()), done.stdout


def assert_fails(done: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr.strip().splitlines()[-1]


def test_a_run_and_its_bundle_come_to_the_same_figures(cli: Cli, workplace: Path, masked: Path, tmp_path: Path) -> None:
    of_run, _ = evaluated(cli, workplace, tmp_path / "run", RUN, masked / "test")
    of_bundle, text = evaluated(cli, workplace, tmp_path / "bundle", "model.aae", masked / "test")
    assert (of_run["model"]["kind"], of_bundle["model"]["kind"]) == ("run", "bundle")
    assert of_run["decision"] == of_bundle["decision"]
    for name in ("all", "scratch"):
        for key in ("auroc", "average_precision", "balanced_accuracy", "fpr_at_95_tpr", "intervals"):
            assert of_run["subsets"][name][key] == of_bundle["subsets"][name][key]
    whole = of_bundle["subsets"]["all"]
    assert whole["auroc"] > 0.9
    low, high = whole["intervals"]["auroc"]
    assert low <= whole["auroc"] <= high
    assert whole["pixels"]["n_regions"] == 8
    assert whole["pixels"]["auroc"] > 0.8
    assert whole["pixels"]["auroc"] == pytest.approx(of_run["subsets"]["all"]["pixels"]["auroc"], abs=1e-4)
    assert f"{whole['auroc']:.3f} [{low:.3f}, {high:.3f}]" in text
    assert "AUPRO" in text
    assert {file.name for file in (tmp_path / "bundle").iterdir()} == {
        "report.json", "report.md", "scores.csv", "roc.png", "precision_recall.png", "scores.png", "groups.png",
    }  # fmt: skip
    assert "![roc](roc.png)" in (tmp_path / "bundle/report.md").read_text()


def test_evaluate_and_score_agree(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    report, _ = evaluated(cli, workplace, tmp_path / "out", "model.aae", photos / "test")
    assert cli("score", photos / "test", "--json", tmp_path / "s.json", cwd=workplace).returncode == 0
    metrics = json.loads((tmp_path / "s.json").read_text())["metrics"]
    for name, figures in metrics.items():
        assert {key: report["subsets"][name][key] for key in figures} == figures
    assert report["masks"] is None


def test_excluded_images_are_in_no_figure(cli: Cli, workplace: Path, masked: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text("scratch/0.png\nscratch/1.png\ngood/7.png\n")
    report, text = evaluated(
        cli, workplace, tmp_path / "out", "model.aae", masked / "test", "--exclude", tmp_path / "seen.txt"
    )
    assert (report["n_images"], report["n_excluded"]) == (13, 3)
    assert "13 images scored, 3 left out by name" in text
    whole = report["subsets"]["all"]
    assert (whole["n_normal"], whole["n_anomalous"], whole["pixels"]["n_images"]) == (7, 6, 13)
    with (tmp_path / "out/scores.csv").open() as stream:
        names = [line["name"] for line in csv.DictReader(stream)]
    assert len(names) == 13
    assert "scratch/0.png" not in names


def test_threshold_labels_and_heatmaps(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("name,label\n" + "".join(f"{index}.png,{index % 2}\n" for index in range(8)))
    report, _ = evaluated(
        cli, workplace, tmp_path / "out", RUN, photos / "test/good", "--labels", tmp_path / "l.csv",
        "--threshold", "-1000", "--heatmaps", tmp_path / "heat",
    )  # fmt: skip
    assert report["decision"]["threshold"] == -1000
    whole = report["subsets"]["all"]
    assert (whole["n_normal"], whole["n_anomalous"]) == (4, 4)
    assert (whole["true_positive_rate"], whole["false_positive_rate"], whole["balanced_accuracy"]) == (1.0, 1.0, 0.5)
    assert len(list((tmp_path / "heat").glob("*.png"))) == 8


def test_without_out_nothing_is_written(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    done = cli("evaluate", workplace / "model.aae", photos / "test", "--bootstrap", "0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "F1max is an oracle" in done.stdout
    assert "no bootstrap" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_named(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    data = photos / "test"
    assert_fails(cli("evaluate", "model.aae", cwd=workplace), 2, "name labelled images: edge-aae evaluate model.aae")
    assert_fails(cli("evaluate", "nowhere", data, cwd=workplace), 1, "no bundle or run folder at nowhere")
    assert_fails(cli("evaluate", data, data, cwd=workplace), 2, "is neither a run folder nor a bundle")
    assert_fails(cli("evaluate", "model.aae", data / "good", cwd=workplace), 1, "none of 8 images has a label")
    assert_fails(cli("evaluate", "model.aae", data, "--masks", "x", cwd=workplace), 1, "no folder of masks at x")
    assert_fails(cli("evaluate", "model.aae", data, "--device", "cpu", cwd=workplace), 2, "--device is for run folders")
    done = cli("evaluate", RUN, data, "--device", "tpu", cwd=workplace)
    assert_fails(done, done.returncode, "'tpu', expected auto, cpu, cuda")


def test_a_mask_of_another_size_is_named_with_both(cli: Cli, workplace: Path, masked: Path, tmp_path: Path) -> None:
    shutil.copytree(masked / "ground_truth", tmp_path / "masks")
    cv2.imwrite(str(tmp_path / "masks/scratch/3_mask.png"), np.full((20, 24), 255, np.uint8))
    done = cli("evaluate", "model.aae", masked / "test", "--masks", tmp_path / "masks", cwd=workplace)
    assert_fails(done, 1, "3_mask.png is 20x24, its image is 40x48")


def test_a_folder_that_cannot_be_written_costs_no_figures(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    done = cli("evaluate", "model.aae", photos / "test", "--out", tmp_path / "file", cwd=workplace)
    assert_fails(done, 1, "cannot write", "file")
    assert "AUROC" in done.stdout
