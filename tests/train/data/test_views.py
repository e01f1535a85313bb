"""Training sets whose view follows the part, and inputs as large as the smallest defect needs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DataError
from tests.turned_part import part_frame
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photographs of a part at any angle."""
    folder = tmp_path_factory.mktemp("parts")
    rng = np.random.default_rng(0)
    for index in range(12):
        middle = tuple(rng.uniform((110, 100), (190, 140)))
        cv2.imwrite(str(folder / f"{index:02d}.png"), part_frame(rng.uniform(0, 360), middle, seed=index))
    return folder


def load(path: Path, network: Any = "conv", **settings: Any) -> TrainingSet:
    return load_training_set(DataSettings(path=str(path), **settings), network)


def test_images_are_views_that_follow_the_part(parts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "train"):
        turned = load(parts, align="turn")
    height, width = turned.preprocess.height, turned.preprocess.width
    assert width > 1.6 * height  # the part's aspect, at the usual number of pixels
    assert height * width == pytest.approx(128 * 128, rel=0.25)
    assert turned.preprocess.align is not None
    assert "view: " in caplog.text
    assert "centred on the part and turned along it" in caplog.text
    plain = load(parts)
    assert plain.preprocess.align is None
    spread = [images.images.astype(float).std(axis=0).mean() for images in (turned, plain)]
    assert spread[0] < 0.3 * spread[1]  # all look alike


@pytest.mark.parametrize("network", ["conv", "hog", "mlp"])
@pytest.mark.parametrize("align", ["centre", "turn"])
def test_the_size_is_one_that_the_network_takes(parts: Path, network: str, align: str) -> None:
    assert load(parts, network, align=align, channels=1).preprocess.align is not None


def test_a_named_size_is_kept(parts: Path) -> None:
    data = load(parts, align="turn", imgsz=(64, 64))
    assert data.images.shape == (12, 64, 64, 1)
    assert data.preprocess.align is not None
    assert data.preprocess.align.height == data.preprocess.align.width


def test_the_same_images_give_the_same_view(parts: Path) -> None:
    assert load(parts, align="turn").sha256() == load(parts, align="turn").sha256()


def test_an_alignment_that_the_images_do_not_allow_is_an_error(tmp_path: Path) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((60, 60), 40 + index, dtype=np.uint8))
    with pytest.raises(DataError, match=r"--align turn: no outline in 4 of 4 frames, no_part in 4; train with another"):
        load(tmp_path, align="turn")


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        ("patch", {"align": "turn"}, "--align and --smallest-defect: network patch cuts tiles"),
        ("patch", {"smallest_defect": 5.0}, "--align and --smallest-defect: network patch cuts tiles"),
        ("conv", {"align": "auto"}, "--align auto is not settled yet"),
        ("conv", {"align": "spin"}, "--align is 'spin', expected auto, none, centre or turn"),
        ("conv", {"align": "turn", "fit": "letterbox"}, "--fit letterbox with --align turn"),
        ("conv", {"smallest_defect": 0.0}, r"--smallest-defect is 0.0, expected pixels"),
        ("conv", {"smallest_defect": 9.0, "imgsz": (64, 64)}, "--smallest-defect sizes the network's input, and so"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(
    parts: Path, network: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load(parts, network, **settings)


def test_the_smallest_defect_sizes_the_input(parts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "train"):
        data = load(parts, smallest_defect=10.0)
    assert (data.preprocess.height, data.preprocess.width) == (192, 256)  # 8 of 10 pixels
    assert "the smallest defect spans 8.0 pixels of the network's input, 192x256" in caplog.text
    aligned = load(parts, smallest_defect=10.0, align="turn").preprocess
    assert aligned.align is not None
    assert aligned.height / aligned.align.height == pytest.approx(1.0, abs=0.35)


def test_a_defect_too_small_to_be_seen_is_warned_of(parts: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "train"):
        load(parts, smallest_defect=2.0)
    assert "spans 2.1 pixels" in caplog.text
    assert "from nearer" in caplog.text


def test_labelled_images_may_be_aligned(tmp_path: Path) -> None:
    images = np.stack([part_frame(30 * index, shape=(240, 300)) for index in range(8)])
    np.savez(tmp_path / "set.npz", images=images, labels=np.zeros(8, dtype=np.int64))
    data = load(tmp_path / "set.npz", align="centre", imgsz=(64, 64))
    assert data.preprocess.align is not None
    assert data.images.shape == (8, 64, 64, 1)


def test_settings_survive_json_and_those_of_before_load() -> None:
    settings = DataSettings(path="x", align="turn", smallest_defect=7.5)
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    values = DataSettings(path="x").to_json()
    del values["align"], values["smallest_defect"]
    assert DataSettings.from_json(values) == DataSettings(path="x")
