"""What people said of alarms, as a training takes it: good images join, defects are never trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.live.feedback import Feedback
from edge_runtime.model.images import write_image
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.intake.feedback_images import FeedbackImages
from train.runs.known_defects import has_known_defects


def picture(level: int) -> np.ndarray:
    image = np.full((40, 48), level, np.uint8)
    image[10:20] = 255 - level
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Feedback of one false alarm, one defect and one that nobody is sure of."""
    feedback = Feedback(tmp_path / "feedback")
    for number, answer in enumerate(("wrong", "right", "unsure")):
        feedback.add(f"e{number}", "camera:0", 2.0, answer, picture(100 + number))
    return feedback.folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(30):
        write_image(tmp_path / f"photos/{number:02}.png", picture(number)) if number else (tmp_path / "photos").mkdir()
    return tmp_path / "photos"


def test_false_alarms_join_as_known_good_and_defects_are_left_to_the_threshold(photos: Path, folder: Path) -> None:
    settings = DataSettings(path=str(photos), feedback=FeedbackImages.of(folder), imgsz=(32, 32))
    images = load_training_set(settings, "conv")
    good = str(folder / "images/e0.png")
    assert len(images.names) == 30
    assert images.names[-1] == good
    assert images.guidance.keep.tolist() == [False] * 29 + [True]
    assert has_known_defects(settings)
    assert settings.feedback is not None
    assert settings.feedback.defects == (str(folder / "images/e1.png"),)


def test_copies_among_the_photographs_are_not_trained_on_again(photos: Path, folder: Path) -> None:
    """As the recipe of before had it: `cp feedback/images/* photos/`, the defects with them."""
    for file in (folder / "images").iterdir():
        shutil.copy(file, photos / f"copied-{file.name}")
    settings = DataSettings(path=str(photos), feedback=FeedbackImages.of(folder), imgsz=(32, 32))
    names = load_training_set(settings, "conv").names
    assert [name for name in names if "copied" in name] == ["copied-e2.png"]  # nobody was sure of it
    assert len(names) == 31


def test_a_feedback_folder_inside_the_photographs_gives_each_image_once(photos: Path, folder: Path) -> None:
    shutil.move(folder, photos / "feedback")
    settings = DataSettings(path=str(photos), feedback=FeedbackImages.of(photos / "feedback"), imgsz=(32, 32))
    images = load_training_set(settings, "conv")
    names = images.names
    assert [name for name, kept in zip(names, images.guidance.keep, strict=True) if kept] == ["feedback/images/e0.png"]
    assert sorted(name for name in names if "feedback" in name) == ["feedback/images/e0.png", "feedback/images/e2.png"]


def test_settings_come_back_as_they_were(photos: Path, folder: Path) -> None:
    settings = DataSettings(path=str(photos), feedback=FeedbackImages.of(folder))
    assert DataSettings.from_json(settings.to_json()) == settings
    before = {key: value for key, value in settings.to_json().items() if key != "feedback"}
    assert DataSettings.from_json(before).feedback is None


def test_what_is_no_feedback_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="is no folder, expected that of"):
        FeedbackImages.of(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no answer right or wrong"):
        FeedbackImages.of(tmp_path / "empty")
    (folder / "images/e1.png").unlink()
    with pytest.raises(DataError, match=r"names 'e1\.png', which is not in"):
        FeedbackImages.of(folder)


def test_a_video_or_labelled_set_takes_no_feedback(tmp_path: Path, folder: Path) -> None:
    np.savez(tmp_path / "set.npz", train_images=np.zeros((4, 8, 8), np.uint8), train_labels=np.zeros(4, np.uint8))
    settings = DataSettings(path=str(tmp_path / "set.npz"), feedback=FeedbackImages.of(folder))
    with pytest.raises(DataError, match="--feedback adds photographs to a folder"):
        load_training_set(settings, "mlp")
