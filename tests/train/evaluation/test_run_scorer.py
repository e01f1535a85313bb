"""A run folder as a scorer: it gives what training calibrated with, frame by frame."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.errors import BackendError, ConfigError, DataError
from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.scoring.evaluation import score_items
from edge_runtime.scoring.image_items import TrainedOn, load_items
from tests.train.conftest import FinishedRun
from train.evaluation.run_scorer import RunScorer


@pytest.fixture(scope="module")
def scorer(finished_run: FinishedRun) -> RunScorer:
    return RunScorer(finished_run.path)


def test_it_scores_training_images_as_training_did(finished_run: FinishedRun, scorer: RunScorer) -> None:
    with (finished_run.path / "refinement.csv").open() as stream:
        expected = list(csv.DictReader(stream))
    for index in (0, 7, 199):
        found = scorer.score(finished_run.images[index])
        for name, value in found.criteria.items():
            assert value == pytest.approx(float(expected[index][name]), rel=1e-4)
        assert found.score == pytest.approx(float(expected[index]["score"]), abs=1e-4)
        assert found.is_anomaly == bool(int(expected[index]["above_threshold"]))


def test_the_heatmap_has_the_frame_s_size_and_the_error_s_sum(finished_run: FinishedRun, scorer: RunScorer) -> None:
    frame = finished_run.images[3, :, :, 0]
    found = scorer.score(frame)
    heat = found.heatmap()
    assert heat.shape == (16, 16)
    assert np.sqrt(heat.sum()) == pytest.approx(found.criteria["reconstruction_error"], rel=1e-4)
    large = np.kron(frame, np.ones((3, 2), np.uint8))
    assert scorer.score(large).heatmap().shape == (48, 32)


def test_the_threshold_in_force_decides(finished_run: FinishedRun, scorer: RunScorer) -> None:
    frame = finished_run.images[0]
    score = scorer.score(frame).score
    moved = RunScorer(finished_run.path, threshold=score - 1e-3)
    assert moved.decision.threshold == score - 1e-3
    assert moved.score(frame).is_anomaly
    assert moved.score(frame).score == score
    with pytest.raises(ConfigError, match="threshold is nan"):
        RunScorer(finished_run.path, threshold=float("nan"))


def test_a_smallest_area_decides_as_in_a_bundle(finished_run: FinishedRun, scorer: RunScorer) -> None:
    # One training image in a hundred reaches the usual peak.
    frame = max(finished_run.images, key=lambda image: float(scorer.score(image).heatmap().max()))
    asked = {"threshold": scorer.score(frame).score - 1e-3}
    everything = RunScorer(finished_run.path, size=DefectSize(min_area=Area(256.0, "px")), **asked).score(frame)
    least = RunScorer(finished_run.path, size=DefectSize(min_area=Area(1.0, "px")), **asked).score(frame)
    assert (least.is_anomaly, least.too_small) == (True, False)
    assert (everything.is_anomaly, everything.too_small, everything.score) == (False, True, least.score)
    with pytest.raises(ConfigError, match="give --mm-per-pixel too"):
        RunScorer(finished_run.path, size=DefectSize(min_area=Area(1.0, "mm2")))


def test_the_digest_names_the_weights(finished_run: FinishedRun, scorer: RunScorer, tmp_path: Path) -> None:
    assert len(scorer.digest) == 64
    copy = tmp_path / "run"
    shutil.copytree(finished_run.path, copy)
    assert RunScorer(copy).digest == scorer.digest
    text = (copy / "calibration.json").read_text()
    (copy / "calibration.json").write_text(text.replace('"n_images": 200', '"n_images": 201'))
    assert RunScorer(copy).digest != scorer.digest


def test_it_scores_items_with_the_run_s_colour_scale(
    finished_run: FinishedRun, scorer: RunScorer, tmp_path: Path
) -> None:
    data = tmp_path / "d.npz"
    np.savez(data, images=finished_run.images[:4, ..., 0], labels=finished_run.labels[:4])
    items = load_items([data], TrainedOn(called="run"), classes=(0,))
    evaluation = score_items(scorer, items, tmp_path / "heat")
    assert evaluation.model == scorer.digest
    assert len(evaluation.rows) == len(list((tmp_path / "heat").rglob("*.png"))) == 4
    assert 0 < scorer.heat_scale.peak <= 1.0


def test_a_network_that_gives_no_numbers_ends_the_evaluation(finished_run: FinishedRun) -> None:
    broken = RunScorer(finished_run.path)
    with torch.no_grad():
        next(broken.run.autoencoder.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(BackendError, match="expected finite numbers"):
        broken.score(finished_run.images[0])


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run folder"):
        RunScorer(tmp_path)
