"""Training of `patch` on small textures: folds, resuming, out-of-fold calibration, the fused score, whole runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.score import sum_of_terms
from train.data.guidance import REJECT
from train.data.loading import load_training_set
from train.data.photograph_store import PhotographStore
from train.data.settings import DataSettings
from train.evaluation.run_scorer import RunScorer
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.refinement.settings import RobustSettings
from train.runs.session import train
from train.schedule import Schedule
from train.strategies.patch import PatchTraining
from train.strategies.patch_drawing import held_out_kinds, trained_kinds
from train.strategies.patch_fusion import as_terms, from_terms, fused_weights

N_PHOTOGRAPHS = 24
PREPROCESS = Preprocess(height=64, width=64, fit="tile", scale=0.5, overlap=16, self_reference="row_column")
SETTINGS = TrainSettings(
    network="patch",
    refine="robust",
    latent_dim=4,
    width=0.5,
    schedule=Schedule(train=3, refine=2),
    batch_size=8,
    robust=RobustSettings(folds=2),
)


def _photographs() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [
        np.clip(rng.normal(120, 10, width) + rng.normal(0, 4, (height, width)), 0, 255).astype(np.uint8)
        for height, width in rng.integers(60, 100, (N_PHOTOGRAPHS, 2))
    ]


def _trainer(settings: TrainSettings = SETTINGS, guidance: NDArray[np.int8] | None = None) -> Trainer:
    return Trainer(
        PatchTraining(Task.of(settings, PhotographStore(_photographs(), PREPROCESS), torch.device("cpu"), guidance))
    )


@pytest.fixture(scope="module")
def trained() -> Trainer:
    trainer = _trainer()
    assert trainer.run()
    return trainer


def test_phases_screen_each_fold_and_then_train_on_what_is_kept(trained: Trainer) -> None:
    assert [row.phase for row in trained.rows] == ["screen-1"] * 2 + ["screen-2"] * 2 + ["final"] * 3
    assert len(trained.rows) == trained.total_epochs
    n_rejected = int(trained.strategy.refinement.candidates.sum())
    assert n_rejected == round(0.2 * N_PHOTOGRAPHS)
    assert trained.rows[0].images == N_PHOTOGRAPHS // 2
    assert trained.rows[-1].images == N_PHOTOGRAPHS - n_rejected
    rejected = int(np.flatnonzero(trained.strategy.refinement.candidates)[0])
    assert "by networks that had not seen it" in trained.strategy.refinement.verdict(rejected).reason


def test_calibration_criteria_are_finite_and_the_score_has_positive_weights(trained: Trainer) -> None:
    criteria = trained.strategy.calibration_criteria()
    names = trained.strategy.autoencoder.criteria
    assert criteria.shape == (N_PHOTOGRAPHS, len(names))
    assert np.isfinite(criteria).all()
    terms = trained.strategy.terms()
    assert all(term.weight > 0 for term in terms.values() if term is not terms["defect_score"])
    assert np.isfinite(sum_of_terms(criteria, names, terms)).all()


def test_thresholds_rest_on_the_last_network_where_it_has_not_seen_a_photograph(trained: Trainer) -> None:
    calibrating, (own, _) = trained.strategy.calibration_criteria(), trained.strategy.criteria_and_codes()
    rejected = trained.strategy.refinement.candidates
    np.testing.assert_allclose(calibrating[rejected], own[rejected], rtol=1e-6)
    # Those it was trained on look less anomalous to it than they would if they were new.
    assert (calibrating[~rejected] >= own[~rejected] - 1e-4).all()
    assert (calibrating[~rejected] > own[~rejected] + 1e-4).any()


def test_a_photograph_is_as_anomalous_as_its_worst_tile(trained: Trainer) -> None:
    criteria, codes = trained.strategy.criteria_and_codes()
    photograph = trained.task.images.photographs[3]
    with torch.inference_mode():
        measured = trained.strategy.autoencoder.measure(
            trained.task.images.tiles(photograph).float() / 255.0, trained.strategy.prior
        )
    np.testing.assert_allclose(criteria[3], measured.criteria.amax(dim=0).numpy(), rtol=1e-3, atol=1e-3)
    assert codes.shape == (N_PHOTOGRAPHS, 4)


def test_a_run_stopped_and_restored_ends_in_the_same_weights(trained: Trainer) -> None:
    trainer = _trainer()
    calls = 0

    def stopped() -> bool:
        nonlocal calls
        calls += 1
        return calls > 8

    assert not trainer.run(stopped=stopped)
    assert not trainer.can_calibrate
    resumed = _trainer()
    resumed.restore(trainer.snapshot())
    assert resumed.run()
    for name, value in resumed.strategy.autoencoder.state_dict().items():
        torch.testing.assert_close(value, trained.strategy.autoencoder.state_dict()[name], msg=name)
    np.testing.assert_array_equal(resumed.strategy.calibration_criteria(), trained.strategy.calibration_criteria())
    kept, same = trained.strategy.held_out(), resumed.strategy.held_out()
    assert kept is not None
    assert kept.synthetic is not None
    assert same is not None
    assert kept.synthetic.shape == resumed.strategy.calibration_criteria().shape
    np.testing.assert_array_equal(same.synthetic, kept.synthetic)


def test_a_finished_run_restored_gives_the_same_criteria(trained: Trainer) -> None:
    again = _trainer()
    again.restore(trained.snapshot())
    assert again.finished
    np.testing.assert_allclose(
        again.strategy.calibration_criteria(), trained.strategy.calibration_criteria(), rtol=1e-4
    )
    np.testing.assert_allclose(again.strategy.prior.mean, trained.strategy.prior.mean, rtol=1e-4, atol=1e-6)  # type: ignore[union-attr]


def test_what_a_person_rejects_is_never_trained_on() -> None:
    guidance = np.zeros(N_PHOTOGRAPHS, dtype=np.int8)
    guidance[:3] = REJECT
    trainer = _trainer(guidance=guidance)
    for index in range(len(trainer.strategy.phases)):
        assert not set(range(3)) & set(trainer.strategy._seen(index).tolist())


def test_a_screening_network_is_judged_on_kinds_it_has_not_seen() -> None:
    trainer = _trainer()
    for phase in trainer.strategy.phases[:-1]:
        assert held_out_kinds(phase)
        assert not set(held_out_kinds(phase)) & set(trained_kinds(phase))


def test_without_refinement_one_network_trains_on_everything() -> None:
    trainer = _trainer(
        TrainSettings(network="patch", latent_dim=4, width=0.5, schedule=Schedule(train=1), batch_size=8)
    )
    assert trainer.run()
    assert [row.images for row in trainer.rows] == [N_PHOTOGRAPHS]
    assert np.isfinite(trainer.strategy.calibration_criteria()).all()


def test_terms_and_criteria_are_each_others_inverse() -> None:
    names = ("reconstruction_error", "neg_log_prior", "structural_error", "defect_score")
    criteria = np.array([[2.0, -3.0, 0.1, -4.0], [1.0, 7.0, 0.5, 2.0]], dtype=np.float32)
    np.testing.assert_allclose(from_terms(as_terms(criteria, names, -5.0), names, -5.0), criteria, rtol=1e-6)
    assert as_terms(criteria, names, -5.0)[0, 1] == pytest.approx(np.log(2.0))


def test_weights_go_to_what_tells_apart_and_are_never_negative() -> None:
    rng = np.random.default_rng(0)
    normal, defective = rng.normal(0, 1, (2, 300, 3)).astype(np.float32)
    defective[:, 2] += 3.0
    defective[:, 0] -= 1.0  # lower for defects: of no use to a score that only adds
    weights = fused_weights(normal, defective)
    assert weights.sum() == pytest.approx(1.0)
    assert weights[0] == 0.0
    assert weights[2] > 0.8


def test_the_decision_is_fused_and_cannot_be_the_paper_s() -> None:
    settings = TrainSettings(network="patch", latent_dim=4, schedule=Schedule(train=1), batch_size=8)
    assert settings.rule == "fused"
    with pytest.raises(ConfigError, match="network patch decides by fused"):
        replace(settings, decision="union")


def test_itsr_and_a_width_for_other_networks_are_refused() -> None:
    with pytest.raises(ConfigError, match="use robust"):
        TrainSettings(network="patch", refine="itsr", latent_dim=4, schedule=Schedule(train=1), batch_size=8)
    with pytest.raises(ConfigError, match="--width belongs to --network patch"):
        TrainSettings(network="conv", width=2.0, latent_dim=4, schedule=Schedule(train=1), batch_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("textures") / "good"
    root.mkdir()
    for index, photograph in enumerate(_photographs()):
        cv2.imwrite(str(root / f"{index:02}.png"), cv2.resize(photograph, None, fx=2, fy=2))
    return root


def test_a_folder_becomes_whole_scaled_photographs(folder: Path) -> None:
    images = load_training_set(DataSettings(path=str(folder), imgsz=(64, 64)), "patch")
    assert isinstance(images.store, PhotographStore)
    assert images.preprocess.fit == "tile"
    assert images.preprocess.scale == 0.5
    assert images.images.shape == (N_PHOTOGRAPHS, 64, 64, 4)
    assert images.picture(0).shape == _photographs()[0].shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "stretch"}, "leave --fit out"),
        ({"channels": 3}, "--channels 3"),
        ({"imgsz": (50, 64)}, "multiples of 16"),
        ({"drop_duplicates": True}, "patch keeps all"),
        ({"cache": "disk"}, "in memory"),
    ],
)
def test_options_that_patch_cannot_follow_are_refused(folder: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_training_set(DataSettings(path=str(folder), **settings), "patch")  # type: ignore[arg-type]


def test_scale_and_overlap_are_refused_where_nothing_is_cut(folder: Path) -> None:
    with pytest.raises(ConfigError, match="belong to --network patch"):
        load_training_set(DataSettings(path=str(folder), scale=0.5), "conv")


def test_labelled_sets_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((20, 28, 28), dtype=np.uint8))
    with pytest.raises(DataError, match="a folder of photographs"):
        load_training_set(DataSettings(path=str(tmp_path / "set.npz")), "patch")


def test_a_whole_run_scores_frames_of_any_size(folder: Path, tmp_path: Path) -> None:
    outcome = train(DataSettings(path=str(folder), imgsz=(64, 64)), SETTINGS, tmp_path / "run", announce=False)
    assert outcome.complete
    scorer = RunScorer(tmp_path / "run")
    frame = np.random.default_rng(0).normal(120, 10, (300, 420)).clip(0, 255).astype(np.uint8)
    scored = scorer.score(frame)
    assert np.isfinite(scored.score)
    assert scored.heatmap().shape == (300, 420)
