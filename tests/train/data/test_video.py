from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DataError
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet

RATE = 10


@pytest.fixture(scope="module")
def belt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 10 frames a second: a square stands still for two seconds, moves for two, and stands again."""
    file = tmp_path_factory.mktemp("video") / "belt.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    rng = np.random.default_rng(0)
    for number in range(60):
        left = min(max(number - 20, 0), 20) * 2
        frame = np.full((48, 64, 3), 60.0) + rng.normal(0.0, 2.0, (48, 64, 1))
        frame[16:32, left : left + 16] += 150.0
        writer.write(frame.clip(0, 255).astype(np.uint8))
    writer.release()
    return file


def load(file: Path, **settings: object) -> TrainingSet:
    return load_training_set(DataSettings(path=str(file), imgsz=(48, 64), **settings), "conv")  # type: ignore[arg-type]


def test_frames_are_sampled_evenly_and_named_by_their_number(belt: Path) -> None:
    data = load(belt, drop_duplicates=False)
    # 2 of 10 frames a second: every fifth.
    assert data.names == [f"belt.avi#{number:06d}" for number in range(0, 60, 5)]
    assert data.images.shape == (12, 48, 64, 1)
    assert data.preprocess.fit == "stretch"
    assert len(load(belt, drop_duplicates=False, sample_fps=3.0).names) == 18


def test_more_frames_a_second_than_there_are_takes_each_once(belt: Path) -> None:
    assert len(load(belt, drop_duplicates=False, sample_fps=100.0).names) == 60


def test_frames_in_which_nothing_moved_are_left_out(belt: Path) -> None:
    data = load(belt)
    assert data.names == [f"belt.avi#{number:06d}" for number in (0, 25, 30, 35, 40)]
    assert len(data.duplicates) == 7
    assert data.duplicates[0] == ("belt.avi#000005", "belt.avi#000000")
    assert data.duplicates[-1] == ("belt.avi#000055", "belt.avi#000040")


def test_images_are_those_of_their_frames(belt: Path) -> None:
    data = load(belt)
    # Frame 30 has the square 20 pixels from the left.
    columns = data.images[2, 24, :, 0] > 130
    assert abs(int(np.flatnonzero(columns)[0]) - 20) <= 1


def test_a_few_unprocessed_frames_are_kept(belt: Path) -> None:
    assert [frame.shape for frame in load(belt).raw_frames] == [(48, 64, 3)] * 4


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    with pytest.raises(DataError, match=r"notes\.txt is no video that OpenCV can read; expected a folder of images"):
        load(tmp_path / "notes.txt")


def test_classes_on_a_video_are_refused(belt: Path) -> None:
    with pytest.raises(DataError, match=r"--classes and --contaminate need labels; .*belt\.avi is a video without"):
        load(belt, classes=(0,))


def test_a_region_that_leaves_every_frame_is_refused(belt: Path) -> None:
    with pytest.raises(DataError, match=r"12 of 12 frames of .* cannot be used .*region of interest"):
        load(belt, roi=(0, 0, 100, 100))


def test_frames_below_the_network_s_smallest_side_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), RATE, (14, 14))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MJPG video")
    for _ in range(4):
        writer.write(np.zeros((14, 14, 3), np.uint8))
    writer.release()
    with pytest.raises(DataError, match=r"frames of .* are 14x14, network conv needs at least 16x16"):
        load(file)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_sampling_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match=r"--sample-fps is .*, expected frames a second, above 0"):
        DataSettings(path="x", sample_fps=rate)


def test_the_settings_of_a_video_survive_json() -> None:
    settings = DataSettings(path="x.mp4", sample_fps=0.5, drop_duplicates=False, cache="disk")
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
