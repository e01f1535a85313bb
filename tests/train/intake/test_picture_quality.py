"""Training images' picture quality: which differ, what is usual, and what a run folder says of it."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.image_quality import MEASURES, QualityLimits
from edge_runtime.model.images import write_image
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.intake.picture_quality import PictureQualities, tell_differing
from train.learning.settings import TrainSettings
from train.runs.session import train

Quick = Callable[..., TrainSettings]


def scene(seed: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0.0, 40.0, (96, 128)).astype(np.float32)
    return np.clip(120.0 + cv2.GaussianBlur(noise, (0, 0), 0.8), 0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty pictures, of which one is dark and one out of focus."""
    for index in range(30):
        picture = scene(index)
        if index == 7:
            picture = (picture // 4).astype(np.uint8)
        if index == 21:
            picture = cv2.GaussianBlur(picture, (0, 0), 3.0)
        write_image(tmp_path / "images" / f"{index:02d}.png", picture)
    return tmp_path / "images"


def test_images_that_differ_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = load_training_set(DataSettings(path=str(folder)), "conv")
    with caplog.at_level(logging.WARNING):
        tell_differing(images.names, images.qualities)
    (line,) = caplog.messages
    assert line.startswith("2 of 30 images differ in picture quality (")
    assert "07.png (dark)" in line
    assert "21.png (blurred along rows, blurred along columns)" in line


def test_alike_images_and_few_are_not_spoken_of(caplog: pytest.LogCaptureFixture) -> None:
    alike, few = PictureQualities(), PictureQualities()
    for index in range(30):
        alike.add(scene(index), None)
    for index in range(10):
        few.add(scene(index) // 4 if index == 3 else scene(index), None)
    tell_differing([str(index) for index in range(30)], alike)
    tell_differing([str(index) for index in range(10)], few)
    assert caplog.messages == []
    assert few.limits() is None


def test_images_left_out_leave_the_others_in_order() -> None:
    qualities = PictureQualities()
    for index in range(30):
        qualities.add(scene(index) // 4 if index == 9 else scene(index), None)
    qualities.keep_only(range(5, 30))
    limits = qualities.limits()
    assert limits is not None
    assert limits.n == len(qualities) == 25
    assert [bool(faults) for faults in qualities.faults(limits)] == [index == 4 for index in range(25)]


def test_a_run_keeps_the_limits_and_lists_images_that_differ(folder: Path, tmp_path: Path, quick: Quick) -> None:
    outcome = train(
        DataSettings(path=str(folder), imgsz=(32, 32)), quick(network="conv"), tmp_path / "run", announce=False
    )
    kept = json.loads(outcome.folder.calibration.read_text())["calibration"]["image_quality"]
    limits = QualityLimits.from_json(kept)
    assert limits is not None
    assert limits.n == 30
    with (tmp_path / "run/image_quality.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["07.png", "21.png"]
    assert rows[0]["differs"] == "dark"
    assert float(rows[0][MEASURES[2]]) < limits.low[2]
    assert limits.aspects is not None


def test_where_a_part_keeps_its_shape_no_frame_is_squeezed(folder: Path, tmp_path: Path, quick: Quick) -> None:
    outcome = train(
        DataSettings(path=str(folder), imgsz=(32, 32), fit="letterbox"),
        quick(network="conv"),
        tmp_path / "run",
        announce=False,
    )
    kept = json.loads(outcome.folder.calibration.read_text())["calibration"]["image_quality"]
    assert "aspects" not in kept
