"""The gate's frames: hostile ones, pasted ones, blends astride the threshold, and training images by reference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import PrecisionName
from edge_runtime.errors import ConfigError, DataError
from export.frames import (
    GateFrames,
    _kept,
    hostile_frames,
    straddling_frames,
    training_frames,
    with_pasted_patch,
)
from export.precisions import ExportRequest, _training_frames
from train.runs.run_folder import TrainedRun


def test_hostile_frames_reach_the_ends_of_the_range() -> None:
    frames = hostile_frames((4, 6, 3))
    assert frames.shape == (8, 4, 6, 3)
    assert frames.dtype == np.uint8
    assert [int(frame.min()) for frame in frames[:3]] == [0, 255, 128]
    assert [int(frame.max()) for frame in frames[:3]] == [0, 255, 128]
    assert set(np.unique(frames[3])) == {0, 255}
    assert len({frame.tobytes() for frame in frames[4:]}) == 4


def test_a_patch_of_another_frame_is_pasted_and_the_mask_is_left_alone() -> None:
    frames = np.stack([np.full((32, 40, 4), level, dtype=np.uint8) for level in (10, 20, 30)])
    pasted = with_pasted_patch(frames, self_referenced=True)
    for index, frame in enumerate(pasted):
        changed = frame[..., 0] != frames[index, ..., 0]
        assert 0.01 < changed.mean() < 0.25
        assert set(np.unique(frame[changed][:, 0])) <= {10, 20, 30} - {int(frames[index, 0, 0, 0])}
        assert (frame[..., 3] == frames[index, ..., 3]).all()
    assert (with_pasted_patch(frames, self_referenced=True) == pasted).all()
    assert (frames[0] == 10).all()


def test_straddling_frames_lie_on_both_sides_and_near() -> None:
    dark, bright = np.full((4, 4, 1), 10, np.uint8), np.full((4, 4, 1), 210, np.uint8)

    def brightness(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        return frames.mean(axis=(1, 2, 3)) / 100.0

    found = straddling_frames(np.stack([dark, bright]), brightness, 1.005)
    # Of the blends' levels 100 and 101, two to a hundredth from each other.
    assert sorted(found.mean(axis=(1, 2, 3)).tolist()) == [100.0, 101.0]
    assert len(straddling_frames(np.stack([dark, dark]), brightness, 1.005)) == 0


def test_joined_frames_keep_labels_and_tiles_apart() -> None:
    two = GateFrames.of(np.zeros((2, 4, 4, 1), np.uint8), 0)
    tiled = GateFrames(np.zeros((3, 4, 4, 1), np.uint8), np.array([1], np.int8), np.zeros(3, np.int64))
    joined = two.joined(tiled)
    assert joined.labels.tolist() == [0, 0, 1]
    assert joined.groups.tolist() == [0, 1, 2, 2, 2]


def test_training_frames_are_those_that_were_kept_half_to_calibrate_and_half_to_judge(
    runs: dict[str, TrainedRun],
) -> None:
    run = runs["hog"]  # robust: a fifth of 48 was rejected
    frames = training_frames(run)
    assert len(frames.inputs) == 48 - 10
    assert len(frames.calibrating) == len(frames.judging) == 19
    assert frames.to_json()["n"] == 19
    images = np.load(run.config.data.path)["images"]
    known = {image.tobytes() for image in images}
    assert all(frame.tobytes() in known for frame in frames.inputs)


def test_other_images_than_those_trained_on_are_refused_with_what_to_do(
    runs: dict[str, TrainedRun], tmp_path: Path
) -> None:
    np.savez(tmp_path / "others.npz", images=np.zeros((48, 28, 28), dtype=np.uint8))
    with pytest.raises(DataError, match=r"no longer holds the 48 images .* --calibration, or train again"):
        training_frames(runs["hog"], tmp_path / "others.npz")
    with pytest.raises(DataError, match="no data at"):
        training_frames(runs["hog"], tmp_path / "nothing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not tell which images were kept"),
        ("index,name\n0,a\n", "does not tell which images were kept: 'kept'"),
        ("index,kept\nx,1\n", "does not tell which images were kept"),
        ("index,kept\n0,1\n9,1\n", "tells of 10 images or more, there are 8"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "refinement.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        _kept(tmp_path / "refinement.csv", 8)


@pytest.mark.parametrize("precisions", [("fp32",), ("fp32", "fp16")])
def test_images_for_int8_that_cannot_be_used_are_no_fault_of_int8_where_it_is_not_asked_for(
    runs: dict[str, TrainedRun], tmp_path: Path, precisions: tuple[PrecisionName, ...]
) -> None:
    np.savez(tmp_path / "others.npz", images=np.zeros((48, 28, 28), dtype=np.uint8))
    request = ExportRequest(precisions=precisions, calibration=tmp_path / "others.npz")
    with pytest.raises(
        ConfigError, match=f"--precision {', '.join(precisions)} .*: leave --calibration out"
    ) as refused:
        _training_frames(runs["hog"], request)
    assert "INT8" not in str(refused.value)
    assert refused.value.exit_code == 2
    with pytest.raises(DataError, match="no longer holds the 48 images"):
        _training_frames(runs["hog"], replace(request, precisions=("int8",)))


def test_a_run_with_few_images_does_not_name_int8_to_who_asks_for_fp32(
    runs: dict[str, TrainedRun], tmp_path: Path
) -> None:
    run = replace(runs["hog"], path=tmp_path)
    (tmp_path / "refinement.csv").write_text("index,kept\n0,1\n1,1\n")
    with pytest.raises(ConfigError, match="kept 2 training images, expected 16 or more") as refused:
        _training_frames(run, ExportRequest(precisions=("fp32",), calibration=Path(run.config.data.path)))
    assert "INT8" not in str(refused.value)
