"""A whole run of robust training, from images to a run folder, its review, and the run that follows it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

import train.runs.session
from edge_runtime.errors import DataError
from edge_runtime.model.prior import FullNormal
from edge_runtime.model.score import FusedRule, UnionRule
from train.data.guidance import GuidanceFiles
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.networks.autoencoder import EXPOSURE
from train.refinement.settings import RobustSettings
from train.runs.run_folder import RunFolder
from train.runs.session import TrainingOutcome, resume
from train.schedule import Schedule

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]

N_IMAGES = 120
SETTINGS = TrainSettings(
    network="hog",
    refine="robust",
    latent_dim=4,
    batch_size=32,
    schedule=Schedule(train=1, refine=1),
    robust=RobustSettings(folds=2, screen_latent=3),
)
EPOCHS = 2 + 2 + 1


@pytest.fixture(scope="module")
def data(shapes: Shapes, tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    """120 images of 16x16, ten of them crosses, in one .npz file."""
    path = tmp_path_factory.mktemp("robust") / "shapes.npz"
    np.savez(path, images=shapes(N_IMAGES, 10)[0][..., 0])
    return DataSettings(path=str(path))


@pytest.fixture(scope="module")
def finished(data: DataSettings, tmp_path_factory: pytest.TempPathFactory) -> TrainingOutcome:
    """A complete run with its review; tests read it, none changes it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return train.runs.session.train(data, SETTINGS, out, device="cpu", announce=False, review=True)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def names_in(path: Path) -> set[str]:
    return {row["name"] for row in read_csv(path)}


def stopping_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run is asked to stop once it has so many epochs."""
    original = train.runs.session.TrainingProgress.__call__
    asked = False

    def count(progress: Any, row: Any) -> None:
        nonlocal asked
        original(progress, row)
        asked = row.epoch >= epochs

    class Requests:
        def __init__(self, say: Callable[[], None]) -> None: ...

        def __enter__(self) -> Callable[[], bool]:
            return lambda: asked

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(train.runs.session.TrainingProgress, "__call__", count)
    monkeypatch.setattr(train.runs.session, "stop_requests", Requests)


def test_a_run_read_back_has_a_fitted_prior_and_one_threshold(finished: TrainingOutcome) -> None:
    assert finished.complete
    assert finished.config.epochs_done == EPOCHS
    run = finished.folder.load()
    assert isinstance(run.prior, FullNormal)
    assert isinstance(run.decision, FusedRule)
    assert tuple(run.decision.criteria) == tuple(run.autoencoder.criteria)
    calibration = json.loads((finished.folder.path / "calibration.json").read_text())["calibration"]
    assert calibration["limit"]["n"] == N_IMAGES
    assert 0.0 <= calibration["contamination"]["low"] <= calibration["contamination"]["high"] <= 1.0


def test_every_image_has_its_out_of_fold_criteria_written_down(finished: TrainingOutcome) -> None:
    rows = read_csv(finished.folder.path / "refinement.csv")
    assert len(rows) == N_IMAGES
    rule = finished.folder.load().decision
    criteria = np.array([[float(row[name]) for name in rule.criteria] for row in rows])
    assert np.isfinite(criteria).all()
    np.testing.assert_allclose(rule.score(criteria), [float(row["score"]) for row in rows], rtol=1e-3, atol=1e-3)
    rejected = [row for row in rows if row["kept"] == "0"]
    assert len(rejected) == finished.n_rejected == N_IMAGES // 5
    assert all(row["reason"].startswith("screening score") for row in rejected)


def test_the_review_holds_what_was_rejected(finished: TrainingOutcome) -> None:
    rows = read_csv(finished.folder.path / "refinement.csv")
    assert names_in(finished.folder.path / "review/review.csv") == {row["name"] for row in rows if row["kept"] == "0"}


def test_a_group_of_the_review_guides_the_next_run(
    finished: TrainingOutcome, data: DataSettings, tmp_path: Path
) -> None:
    group = finished.folder.path / "review/group-1.csv"
    word: dict[str, Callable[[dict[str, str]], bool]] = {
        "reject": lambda row: row["kept"] == "0" and row["reason"] == "rejected by a person",
        "keep": lambda row: row["kept"] == "1" and row["reason"] == "kept by a person",
    }
    for option, holds in word.items():
        guided = replace(data, guidance=GuidanceFiles.of(**{option: group}))
        outcome = train.runs.session.train(guided, SETTINGS, tmp_path / option, device="cpu", announce=False)
        rows = {row["name"]: row for row in read_csv(tmp_path / option / "refinement.csv")}
        assert all(holds(rows[name]) for name in names_in(group)), option
        # Exposure needs images that a person called anomalous.
        assert (EXPOSURE in outcome.folder.load().decision.criteria) == (option == "reject")


def test_a_folder_of_images_is_refined_and_reviewed(shapes: Shapes, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index, image in enumerate(shapes(40, 4)[0]):
        cv2.imwrite(str(tmp_path / f"photos/{index:02}.png"), image)
    data = DataSettings(path=str(tmp_path / "photos"), imgsz=(16, 16))
    outcome = train.runs.session.train(data, SETTINGS, tmp_path / "run", device="cpu", announce=False, review=True)
    rejected = names_in(outcome.folder.path / "review/review.csv")
    assert len(rejected) == 8
    assert rejected <= {f"{index:02}.png" for index in range(40)}


def test_the_papers_rule_can_be_asked_for(data: DataSettings, tmp_path: Path) -> None:
    settings = replace(SETTINGS, decision="union")
    outcome = train.runs.session.train(data, settings, tmp_path / "run", device="cpu", announce=False)
    rule = outcome.folder.load().decision
    assert isinstance(rule, UnionRule)
    assert list(rule.limits) == ["reconstruction_error", "neg_log_prior"]


# In screening, between screening and judging, in the last network's phase.
@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_an_interrupted_run_does_not_load_and_resumes_to_the_one_without_a_break(
    finished: TrainingOutcome, data: DataSettings, tmp_path: Path, epochs: int
) -> None:
    out = RunFolder(tmp_path / "run")
    with pytest.MonkeyPatch.context() as patch:
        stopping_after(epochs, patch)
        outcome = train.runs.session.train(data, SETTINGS, out.path, device="cpu", announce=False)
    assert (outcome.complete, outcome.calibration, outcome.config.epochs_done) == (False, None, epochs)
    assert not out.weights.exists()
    with pytest.raises(DataError, match=r"finish it with `edge-aae train --resume --out \S+/run`"):
        out.load()

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)  # runs/latest is made here
        assert resume(out.path, device="cpu", review=True).complete
    ours, theirs = load_file(out.weights), load_file(finished.folder.weights)
    assert sorted(ours) == sorted(theirs)
    assert not [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    for name in ("refinement.csv", "calibration.json", "prior.npz", "samples.npz", "review/review.csv"):
        assert (out.path / name).read_bytes() == (finished.folder.path / name).read_bytes(), name


def test_one_seed_gives_one_run_and_another_seed_another(
    finished: TrainingOutcome, data: DataSettings, tmp_path: Path
) -> None:
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        train.runs.session.train(data, replace(SETTINGS, seed=seed), out, device="cpu", announce=False)
        there = (finished.folder.path / "refinement.csv").read_bytes()
        assert ((out / "refinement.csv").read_bytes() == there) is same
