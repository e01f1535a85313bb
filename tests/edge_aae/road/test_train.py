"""What `edge-aae train` says of its choices and its threshold; in this process, on few and small images."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_aae.cli import cli
from edge_aae.commands.training.outcome_lines import calibration_lines, outcome_lines
from edge_runtime.errors import ConfigError
from edge_runtime.model.images import list_images, read_image, write_image
from edge_runtime.verdict import verdict_of
from train.evaluation.run_scorer import RunScorer
from train.learning.augmentation import AUGMENTATIONS
from train.networks.registry import NETWORKS
from train.pages.run_page import run_page
from train.runs.run_folder import RunFolder
from train.schedule import METHODS, REFINEMENTS


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Any:
    """The command line sets the root logger's handlers and the packages' levels; the other tests want theirs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    packages = [logging.getLogger(name) for name in ("edge_aae", "train", "export", "edge_runtime")]
    levels = [package.level for package in packages]
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for package, before in zip(packages, levels, strict=True):
        package.setLevel(before)


@pytest.fixture
def train(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Trains on the photographs, one epoch a network, with further options."""

    def invoke(*options: str) -> Result:
        monkeypatch.chdir(tmp_path)
        quick = [
            "--imgsz",
            "16",
            "--epochs",
            "1",
            "--refine-epochs",
            "1",
            "--latent",
            "4",
            "--out",
            "run",
            "--no-report",
        ]
        return CliRunner().invoke(cli, ["train", str(photos / "train"), *quick, *options])

    return invoke


def calibration(*, n: int, extrapolated: bool = False) -> dict[str, Any]:
    return {
        "limit": {"n": n, "target_fpr": 0.01, "extrapolated": extrapolated, "realised_fpr": [0.004, 0.018]},
        "contamination": {"share": 0.05, "low": 0.02, "high": 0.09},
        "n_images": n,
    }


def test_the_options_offer_every_network_method_and_refinement_there_is() -> None:
    choices = {
        option.name: list(option.type.choices)
        for option in cli.commands["train"].params
        if isinstance(option.type, click.Choice)
    }
    assert choices["network"] == ["auto", *NETWORKS]
    assert choices["method"] == list(METHODS)
    assert sorted(choices["refine"]) == sorted(REFINEMENTS)
    assert sorted(choices["augment"]) == sorted(AUGMENTATIONS)


def test_the_chosen_network_and_its_reason_are_said(train: Any) -> None:
    done = train()
    assert done.exit_code == 0, done.output
    assert "network hog: the images show one thing in one place (correlation with their median" in done.output


def test_a_rate_that_few_images_cannot_show_is_not_pretended(train: Any, tmp_path: Path) -> None:
    done = train("--network", "hog", "--target-fpr", "0.0001", "--review")
    assert done.exit_code == 0, done.output
    assert "threshold: set for about 2.4% false alarms; 40 images cannot show the 0.0001 asked for" in done.output
    assert "only 40 images: with 200 or more" in done.output
    assert (tmp_path / "run/review/group-1.csv").exists()


def test_a_guaranteed_rate_that_few_images_cannot_show_is_called_extrapolated(train: Any) -> None:
    done = train("--network", "hog", "--target-fpr", "0.0001", "--threshold-rule", "conformal")
    assert done.exit_code == 0, done.output
    assert "threshold: set for at most 0.0001 false alarms; 40 images cannot show so low a rate" in done.output
    assert "extrapolated from the tail of their scores" in done.output


def test_what_a_miss_costs_moves_the_rate(train: Any) -> None:
    done = train("--network", "hog", "--cost-miss", "3", "--cost-false-alarm", "1.5")
    assert done.exit_code == 0, done.output
    assert "threshold: set for about 10.0% false alarms (--target-fpr asks for another rate)" in done.output
    refused = train("--network", "hog", "--cost-miss", "3", "--target-fpr", "2%")
    assert (refused.exit_code, type(refused.exception)) == (1, ConfigError)
    assert "choose the rate of --threshold-rule balanced; leave them out" in str(refused.exception)


def test_a_word_in_percent_is_a_rate(train: Any) -> None:
    done = train("--network", "hog", "--target-fpr", "10%")
    assert done.exit_code == 0, done.output
    assert "threshold: set for about 10.0% false alarms, as asked for" in done.output


def test_the_fused_rule_without_robust_is_refused_with_the_reason(train: Any, tmp_path: Path) -> None:
    done = train("--network", "conv", "--refine", "itsr", "--decision", "fused")
    assert isinstance(done.exception, ConfigError)
    assert "--decision fused needs out-of-fold scores, which only --refine robust makes" in str(done.exception)
    assert not (tmp_path / "run").exists()


def test_the_papers_rule_says_nothing_of_a_rate(train: Any) -> None:
    done = train("--network", "hog", "--decision", "union")
    assert done.exit_code == 0, done.output
    assert "threshold: set for" not in done.output
    assert "of the training images lie above its threshold, and as many good parts may" in done.output


def test_the_verdict_comes_before_what_the_threshold_was_set_for() -> None:
    lines = calibration_lines(calibration(n=500))
    assert lines == [
        verdict_of(calibration(n=500)).line,
        "threshold: set for at most 0.01 false alarms, whatever is mixed in among the images",
    ]


@pytest.mark.parametrize(("n", "said"), [(199, True), (200, False)])
def test_few_images_are_called_few(n: int, said: bool) -> None:
    assert any(line.startswith("only ") for line in calibration_lines(calibration(n=n))) is said


def test_without_a_fused_calibration_nothing_is_said_of_the_threshold() -> None:
    assert calibration_lines({}) == [verdict_of({}).line]
    assert calibration_lines({"flagged_share": 0.1}) == [verdict_of({"flagged_share": 0.1}).line]


@pytest.mark.parametrize(("n_skipped", "n_rejected"), [(0, 0), (2, 3)])
@pytest.mark.parametrize("calibrated", [{"flagged_share": 0.1}, None])
def test_only_what_is_there_is_named(calibrated: dict[str, Any] | None, n_skipped: int, n_rejected: int) -> None:
    outcome: Any = SimpleNamespace(
        config=SimpleNamespace(epochs_done=1, epochs_total=5, n_images=40, n_skipped=n_skipped),
        folder=SimpleNamespace(path=Path("runs/photos-1")),
        calibration=calibrated,
        complete=False,
        seconds=1.0,
        n_rejected=n_rejected,
    )
    first, *verdict, where, more = outcome_lines(outcome)
    assert first.startswith("interrupted: 1 of 5 epochs in 1 s, 40 images")
    assert ("2 more could not be read" in first) is bool(n_skipped)
    assert ("3 of them set aside" in first) is bool(n_rejected)
    assert ("rejected.png" in first) is bool(n_rejected and calibrated)
    assert verdict == ([verdict_of(calibrated).line] if calibrated else [])
    assert where == "run folder: runs/photos-1"
    assert more == "go on with: edge-aae train --resume --out runs/photos-1"


def test_groups_by_name_are_said_stored_and_shown(train: Any, tmp_path: Path) -> None:
    done = train("--network", "hog", "--group-by", r"/(\d+)\.png")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "run/calibration.json").read_text())["calibration"]["groups"]
    assert found == {"by": r"/(\d+)\.png", "n": 20}
    assert json.loads((tmp_path / "run/config.json").read_text())["data"]["group_by"] == r"/(\d+)\.png"
    assert r"20 of 40 images, by /(\d+)\.png" in "".join(run_page(tmp_path / "run"))


def test_two_folders_make_no_three_folds(train: Any) -> None:
    done = train("--network", "hog", "--group-by", "folder")
    assert isinstance(done.exception, ConfigError)
    assert "--group-by folder: 2 groups of images for 3 folds" in str(done.exception)


def test_known_defects_set_the_threshold_and_are_never_trained_on(train: Any, photos: Path, tmp_path: Path) -> None:
    defects = tmp_path / "defects"
    defects.mkdir()
    rng = np.random.default_rng(0)
    for index in range(5):
        write_image(defects / f"{index}.png", rng.integers(0, 256, (48, 48), dtype=np.uint8))
    done = train("--network", "hog", "--known-bad", str(defects))
    assert done.exit_code == 0, done.output
    assert "known defects found: 5 of 5, TPR 100.0%, 56.6% to 100.0% (95 %)" in done.output
    run = RunFolder(tmp_path / "run").load()
    assert run.config.n_images == len(list_images(photos / "train"))
    assert run.calibration["known_bad"]["defects"] == 5
    assert run.calibration["known_bad"]["threshold"] == run.decision.threshold != 1.0
    assert f"threshold: {run.decision.threshold:.3g} on the score, by the known defects" in done.output
    assert "its threshold lies between the training images and 5 known defects, of which 5 are above it" in done.output
    scored = RunScorer(tmp_path / "run").score(read_image(defects / "0.png"))
    assert scored.is_anomaly


def test_a_folder_without_known_defects_is_refused_before_a_training(train: Any, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused = train("--network", "hog", "--known-bad", str(tmp_path / "none"))
    assert refused.exit_code == 1
    assert "holds no images, expected a folder with photographs of defects" in str(refused.exception)
    assert not (tmp_path / "run").exists()
