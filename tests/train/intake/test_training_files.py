"""A data set's root, and what lies among photographs that is none of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_runtime.errors import DataError
from train.intake.training_files import training_files, training_folder


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


MVTEC = ("train/good/0.png", "train/good/1.png", "test/scratch/0.png", "test/good/0.png", "ground_truth/scratch/0.png")


def test_a_data_set_is_trained_on_its_good_training_images_which_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touched(tmp_path / "tile", *MVTEC)
    with caplog.at_level(logging.INFO):
        assert training_folder(tmp_path / "tile") == tmp_path / "tile/train/good"
        assert training_folder(tmp_path) == tmp_path / "tile/train/good"
    assert f"training on {tmp_path / 'tile/train/good'} alone" in caplog.messages[0]
    assert training_folder(tmp_path / "tile/test") == tmp_path / "tile/test"
    touched(tmp_path / "wood", *MVTEC)
    with pytest.raises(DataError, match=r"holds 2 data sets \(tile, wood\); train on one: edge-aae train .*tile"):
        training_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("good/0.png", "crack/0.png"),
            "has good/ and crack/ in it: all are trained on as unsorted; good ones alone: edge-aae train "
            "{0}/good --known-bad {0}/crack",
        ),
        (
            ("Good/0.png", "crack/0.png", "hole/0.png"),
            "has Good/, crack/ and hole/ in it: all are trained on as unsorted; good ones alone: edge-aae train "
            "{0}/Good",
        ),
        (("good/0.png", "test/0.png", "notes/a.txt", "runs/x-1/config.json", "runs/x-1/calibration.json"), None),
        (("red/0.png", "blue/0.png"), None),
        (("good/a.txt", "crack/0.png"), None),
    ],
)
def test_that_a_folder_of_sorted_images_is_trained_on_as_unsorted_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: tuple[str, ...], said: str | None
) -> None:
    touched(tmp_path / "labelled", *names)
    touched(tmp_path / "labelled", *(["runs/x-1/review/0.png"] if "runs/x-1/config.json" in names else []))
    data = tmp_path / "labelled"
    with caplog.at_level(logging.INFO):
        assert training_folder(data) == data
    assert caplog.messages == ([] if said is None else [f"{data} {said.format(data)}"])


def test_a_run_folder_is_refused_with_the_right_command(tmp_path: Path) -> None:
    touched(tmp_path / "run", "config.json", "weights.safetensors", "samples/0.png")
    with pytest.raises(DataError, match=r"is a run folder, not images; `edge-aae train --resume --out .*run`"):
        training_folder(tmp_path / "run")


def test_test_images_masks_runs_reports_and_heatmaps_are_left_out_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touched(tmp_path, "a.png", "b.jpg", "deep/c.png", "deep/test/d.png")
    touched(tmp_path, "test/good/0.png", "Ground_Truth/scratch/0.png", "Ground_Truth/scratch/1.png")
    touched(tmp_path, "runs/x-1/config.json", "runs/x-1/calibration.json", "runs/x-1/review/0.png")
    touched(tmp_path, "deep/evaluation/report.json", "deep/evaluation/plot.png", "heat/b.jpg.png", "z.jpg.png")
    with caplog.at_level(logging.WARNING):
        kept = [path.relative_to(tmp_path).as_posix() for path in training_files(tmp_path)]
    assert kept == ["a.png", "b.jpg", "deep/c.png", "deep/test/d.png", "z.jpg.png"]
    (message,) = caplog.messages
    assert message == (
        f"not trained on, below {tmp_path}: 1 of the report deep/evaluation/, 2 of Ground_Truth/, 1 of heatmaps, "
        "1 of the run folder runs/x-1/, 1 of test/; to train on such a folder name it"
    )
    assert training_files(tmp_path / "test") == [tmp_path / "test/good/0.png"]


def test_where_nothing_is_left_it_says_what_there_is(tmp_path: Path) -> None:
    touched(tmp_path, "test/good/0.png", "ground_truth/a/0.png")
    with pytest.raises(DataError, match="holds no training images but 1 of ground_truth/, 1 of test/; name the folder"):
        training_files(tmp_path)
