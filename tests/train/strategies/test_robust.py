"""Robust training on squares with a few crosses: who judges whom, what is rejected, and resuming anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from train.data.guidance import KEEP, REJECT, UNGUIDED
from train.learning.augmentation import AugmentSettings
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.autoencoder import EXPOSURE
from train.refinement.robust import RobustRefinement, drawn_folds
from train.refinement.settings import RobustSettings
from train.schedule import Schedule
from train.strategies import robust
from train.strategies.robust import RobustTraining

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]

CPU = torch.device("cpu")
N_IMAGES, N_CROSSES = 120, 8
EPOCHS = 3 * 2 + 3 * 2 + 2
"""Three folds screen, three judge, one network is kept; two epochs each."""


@pytest.fixture
def make_trainer(shapes: Shapes, quick: Quick) -> Callable[..., Trainer]:
    """A trainer of 120 images of 16x16, every network two epochs."""

    def make(guidance: NDArray[np.int8] | None = None, **changes: Any) -> Trainer:
        settings = {
            "network": "hog",
            "refine": "robust",
            "latent_dim": 6,
            "schedule": Schedule(train=2, refine=2),
            "robust": RobustSettings(screen_latent=4),
            **changes,
        }
        return Trainer(RobustTraining(Task.of(quick(**settings), shapes(N_IMAGES, N_CROSSES)[0], CPU, guidance)))

    return make


MakeTrainer = Callable[..., Trainer]


def guidance_of(keep: list[int], reject: list[int]) -> NDArray[np.int8]:
    guidance = np.full(N_IMAGES, UNGUIDED, dtype=np.int8)
    guidance[keep], guidance[reject] = KEEP, REJECT
    return guidance


def assert_same(one: Trainer, other: Trainer) -> None:
    ours, theirs = one.snapshot(), other.snapshot()
    assert sorted(ours.tensors) == sorted(theirs.tensors)
    assert not [name for name, tensor in ours.tensors.items() if not torch.equal(tensor, theirs.tensors[name])]
    np.testing.assert_array_equal(one.strategy.calibration_criteria(), other.strategy.calibration_criteria())
    np.testing.assert_array_equal(one.strategy.refinement.screening, other.strategy.refinement.screening)


def trained_on(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """Runs the trainer; gives the images that each phase's network took a step on."""
    seen: dict[str, set[int]] = {}
    original = trainer.strategy._training_inputs

    def spy(indices: torch.Tensor, mine: slice) -> torch.Tensor:
        phase = trainer.strategy.phases[trainer.phase_index]
        seen.setdefault(phase.name, set()).update(indices.tolist())
        return original(indices, mine)

    monkeypatch.setattr(trainer.strategy, "_training_inputs", spy)
    assert trainer.run()
    return seen


def test_every_fold_screens_and_judges_before_the_last_network(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    assert trainer.total_epochs == EPOCHS
    assert not trainer.can_calibrate
    assert trainer.run()
    assert trainer.can_calibrate
    names = [row.phase for row in trainer.rows]
    assert names == [
        *(f"screen-{fold}" for fold in (1, 2, 3) for _ in range(2)),
        *(f"judge-{fold}" for fold in (1, 2, 3) for _ in range(2)),
        *["final"] * 2,
    ]


def test_no_image_is_judged_by_a_network_that_has_seen_it(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer()
    seen = trained_on(trainer, monkeypatch)
    for fold in range(3):
        members = set(np.flatnonzero(trainer.strategy.refinement.fold == fold).tolist())
        assert len(members) == N_IMAGES / 3
        assert not members & seen[f"screen-{fold + 1}"]
        assert not members & seen[f"judge-{fold + 1}"]
    candidates = set(np.flatnonzero(trainer.strategy.refinement.candidates).tolist())
    assert seen["final"] == set(range(N_IMAGES)) - candidates


def test_every_image_gets_finite_criteria_and_a_fifth_is_rejected(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    assert np.isnan(trainer.strategy.refinement.screening).all()
    trainer.run()
    assert trainer.strategy.calibration_criteria().shape == (N_IMAGES, len(trainer.strategy.autoencoder.criteria))
    assert np.isfinite(trainer.strategy.calibration_criteria()).all()
    assert trainer.strategy.refinement.candidates.sum() == N_IMAGES // 5
    assert EXPOSURE not in trainer.strategy.autoencoder.criteria


def test_screening_networks_train_on_the_share_that_fits_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(robust=RobustSettings(screen_latent=4, screen_keep=0.5))
    trainer.run()
    of_others = N_IMAGES * 2 // 3
    screening = [row.images for row in trainer.rows if row.phase == "screen-1"]
    assert screening == [of_others, of_others // 2]


def test_anomalies_end_among_the_rejected(shapes: Shapes, quick: Quick) -> None:
    images, labels = shapes(300, 15)
    settings = quick(network="hog", refine="robust", latent_dim=8, batch_size=16, schedule=Schedule(train=1, refine=8))
    trainer = Trainer(RobustTraining(Task.of(settings, images, CPU)))
    trainer.run()
    assert (labels[trainer.strategy.refinement.candidates] == 1).sum() >= 13


def test_a_persons_word_stands(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make_trainer()
    plain.run()
    rejected = np.flatnonzero(plain.strategy.refinement.candidates)
    keep, reject = rejected[:4].tolist(), np.flatnonzero(~plain.strategy.refinement.candidates)[:4].tolist()
    trainer = make_trainer(guidance_of(keep, reject))
    seen = trained_on(trainer, monkeypatch)
    assert not any(set(reject) & indices for indices in seen.values())
    assert set(keep) <= seen["final"]
    assert not trainer.strategy.refinement.candidates[keep].any()
    assert trainer.strategy.refinement.verdict(reject[0]).reason == "rejected by a person"
    assert trainer.strategy.refinement.verdict(keep[0]).reason == "kept by a person"


def test_what_a_person_rejects_scores_higher_for_it(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(guidance_of([], list(range(6))))
    trainer.run()
    assert trainer.strategy.autoencoder.criteria[-1] == EXPOSURE
    exposure = trainer.strategy.calibration_criteria()[:, -1]
    assert ((exposure >= 0.0) & (exposure <= 1.0)).all()
    terms = trainer.strategy.terms()
    assert terms[EXPOSURE].transform == "linear"
    assert terms[EXPOSURE].weight > 0.0


# In and between phases of each kind.
@pytest.mark.parametrize("epochs_before", [1, 2, 6, 7, 12, 13])
def test_a_run_resumed_anywhere_ends_as_one_without_a_break(
    make_trainer: MakeTrainer, tmp_path: Path, epochs_before: int
) -> None:
    guidance = guidance_of([3], [5, 6])
    straight = make_trainer(guidance)
    whole: list[Snapshot] = []
    straight.run(on_whole=whole.append)
    whole[epochs_before - 1].write(tmp_path / "checkpoint.safetensors")
    resumed = make_trainer(guidance)
    resumed.restore(Snapshot.read(tmp_path / "checkpoint.safetensors"))
    assert len(resumed.rows) == epochs_before
    assert resumed.run()
    assert_same(straight, resumed)


def test_a_stop_in_the_first_epoch_goes_back_to_the_start(make_trainer: MakeTrainer) -> None:
    trainer, asked = make_trainer(), iter([False, True])
    assert not trainer.run(stopped=lambda: next(asked, False))
    assert trainer.rows == []
    assert trainer.run()
    straight = make_trainer()
    straight.run()
    assert_same(straight, trainer)


def test_a_finished_run_restored_measures_the_same(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.run()
    trainer.snapshot().write(tmp_path / "checkpoint.safetensors")
    restored = make_trainer()
    restored.restore(Snapshot.read(tmp_path / "checkpoint.safetensors"))
    ours, theirs = trainer.strategy.criteria_and_codes(), restored.strategy.criteria_and_codes()
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(trainer.strategy.calibration_criteria(), restored.strategy.calibration_criteria())


def test_images_prepared_for_every_batch_train_the_same(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = make_trainer()
    kept.run()
    monkeypatch.setattr(robust, "MOST_KEPT_BYTES", 0)
    streamed = make_trainer()
    assert streamed.strategy._prepared is None
    streamed.run()
    np.testing.assert_allclose(
        kept.strategy.calibration_criteria(), streamed.strategy.calibration_criteria(), rtol=2e-3, atol=1e-3
    )


def test_augmentation_changes_training_and_nothing_that_is_measured(make_trainer: MakeTrainer) -> None:
    plain, augmented = make_trainer(), make_trainer(augment=AugmentSettings(shift_px=1))
    indices = torch.arange(4)
    torch.testing.assert_close(plain.strategy._inputs(indices), augmented.strategy._inputs(indices))
    assert not torch.allclose(
        augmented.strategy._inputs(indices), augmented.strategy._training_inputs(indices, slice(None))
    )
    assert augmented.run()


def test_a_conventional_autoencoder_refines_too(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(method="ae")
    trainer.run()
    assert all(row.discriminator_loss == 0.0 for row in trainer.rows)
    assert np.isfinite(trainer.strategy.calibration_criteria()).all()


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_networks_on_pixels_refine_too(make_trainer: MakeTrainer, network: str) -> None:
    trainer = make_trainer(network=network)
    trainer.run()
    assert trainer.strategy.calibration_criteria().shape == (N_IMAGES, 2)
    assert set(trainer.strategy.terms()) == {"reconstruction_error", "neg_log_prior"}


def test_each_networks_density_is_laid_on_one_floor(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.run()
    above = trainer.strategy.calibration_criteria()[:, 1] - trainer.strategy.prior.floor
    assert (above >= -1e-3).all()
    medians = [np.median(above[trainer.strategy.refinement.fold == fold]) for fold in range(3)]
    # Half a chi-squared of six dimensions has its median at 2.7 nats, for images that a network has seen.
    assert all(1.0 < median < 20.0 for median in medians)


@pytest.mark.parametrize(("n_images", "n_folds", "seed"), [(120, 3, 0), (41, 3, 7), (16, 5, 2)])
def test_images_on_their_own_are_dealt_out_as_the_seed_has_them(n_images: int, n_folds: int, seed: int) -> None:
    expected = np.random.default_rng(seed).permutation(n_images) % n_folds
    assert drawn_folds(np.arange(n_images), n_folds, seed).tolist() == expected.tolist()


def test_groups_stay_whole_in_folds_as_equal_as_they_let_them_be() -> None:
    groups = np.repeat(np.arange(20), np.random.default_rng(0).integers(1, 9, 20))
    fold = drawn_folds(groups, 3, seed=1)
    assert all(len(set(fold[groups == group])) == 1 for group in range(20))
    assert np.ptp(np.bincount(fold, minlength=3)) <= 1
    assert drawn_folds(groups, 3, seed=2).tolist() != fold.tolist()


def test_a_run_s_folds_keep_its_groups_whole(shapes: Shapes, quick: Quick) -> None:
    groups = np.arange(30) // 3
    settings = quick(network="hog", refine="robust", latent_dim=6)
    training = RobustTraining(Task.of(settings, shapes(30)[0], CPU, groups=groups))
    assert np.array_equal(training.refinement.fold, training.refinement.fold[::3].repeat(3))
    assert sorted(np.bincount(training.refinement.fold)) == [9, 9, 12]


def test_verdicts_name_the_score_and_the_share() -> None:
    refinement = RobustRefinement.fresh(RobustSettings(reject_share=0.25), np.zeros(4, dtype=np.int8), 2, seed=0)
    assert not refinement.candidates.any()
    refinement.screening[:] = [0.0, 5.0, -1.0, 1.0]
    assert refinement.candidates.tolist() == [False, True, False, False]
    assert refinement.weights.tolist() == [1.0, 0.0, 1.0, 1.0]
    assert refinement.verdict(1).reason.startswith("screening score 5.00 spreads above the median")
    assert "among the highest 25%" in refinement.verdict(1).reason
    assert refinement.verdict(0).kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 1}, "folds are 1, expected at least 2"),
        ({"screen_keep": 0.05}, r"screen keep is 0\.05"),
        ({"reject_share": 0.5}, r"reject share is 0\.5"),
        ({"code_noise": -1.0}, r"code noise is -1\.0, expected 0 or more"),
        ({"screen_latent": 0}, "screening latent dimensions are 0"),
        ({"discriminator_units": 0}, "discriminator units are 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RobustSettings(**changes)
