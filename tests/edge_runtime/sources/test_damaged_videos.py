"""Videos that are cut or damaged: what can be read is read, and what is missing is an error that says how much."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.errors import SourceError
from edge_runtime.sources import CaptureSettings, VideoSource
from edge_runtime.stream.pipeline import Pipeline

N = 150
SAID = r"is cut or damaged: (\d+) of 150 frames could be read"


def video(path: Path, code: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV does not encode {code}")
    rng = np.random.default_rng(0)
    for _ in range(N):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def cut(path: Path, kept: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    return path


def zeroed(path: Path, begin: float, end: float) -> Path:
    content = bytearray(path.read_bytes())
    first, last = int(begin * len(content)), int(end * len(content))
    content[first:last] = bytes(last - first)
    path.write_bytes(content)
    return path


def read(source: VideoSource) -> tuple[list[int], str]:
    """Frames' numbers, and what is said at the end; empty where all is well."""
    numbers = []
    try:
        while source.grab():
            numbers.append(source.retrieve().frame_id)
    except SourceError as error:
        said = f"{error.code} {error}"
        return numbers, f"{said} and again" if source.grab() else said
    return numbers, ""


@pytest.mark.parametrize(("name", "code"), [("a.avi", "MJPG"), ("a.mkv", "MJPG"), ("a.mp4", "mp4v")])
def test_a_whole_video_ends_without_a_word(
    tmp_path: Path, name: str, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), VideoSource(video(tmp_path / name, code)) as source:
        assert read(source) == (list(range(N)), "")
    assert not caplog.records


@pytest.mark.parametrize("name", ["a.avi", "a.mkv"])
@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9])
def test_a_video_that_was_cut_says_how_many_of_its_frames_were_read(tmp_path: Path, name: str, kept: float) -> None:
    with VideoSource(cut(video(tmp_path / name, "MJPG"), kept)) as source:
        numbers, said = read(source)
    assert 0.7 * kept * N < len(numbers) < N
    assert f"{len(numbers)} of 150 frames could be read" in said


def test_frames_behind_damage_are_read_and_leave_a_gap(tmp_path: Path) -> None:
    with VideoSource(zeroed(video(tmp_path / "a.mp4", "mp4v"), 0.4, 0.5)) as source:
        numbers, said = read(source)
    assert numbers[-1] == N - 1
    assert 0 < N - len(numbers) < 0.2 * N
    assert f"{len(numbers)} of 150 frames could be read" in said


def test_each_pass_over_a_damaged_video_is_played_and_its_end_said_once(tmp_path: Path) -> None:
    file = cut(video(tmp_path / "a.avi", "MJPG"), 0.5)
    with VideoSource(file) as source:
        once, _ = read(source)
    with VideoSource(file, CaptureSettings(loop=2)) as source:
        twice, said = read(source)
    assert len(twice) == 2 * len(once)
    assert said.startswith("INCOMPLETE ")
    assert said.endswith("copy it again")


def test_an_mp4_whose_edit_leaves_frames_out_is_whole(tmp_path: Path) -> None:
    file = video(tmp_path / "a.mp4", "mp4v")
    content = bytearray(file.read_bytes())
    at = content.index(b"elst") + 4 + 4 + 4 + 4  # version, count of entries, duration: the media time
    content[at : at + 4] = (20 * 512).to_bytes(4, "big")
    file.write_bytes(content)
    with VideoSource(file) as source:
        numbers, said = read(source)
    assert said == ""
    assert len(numbers) <= N


def test_a_run_over_a_video_that_was_cut_scores_what_there_is_and_ends_with_another_status(
    tmp_path: Path, detector: Any
) -> None:
    records: list[dict[str, Any]] = []
    pipeline = Pipeline(detector, [VideoSource(cut(video(tmp_path / "a.avi", "MJPG"), 0.5))], records.append)
    with pytest.raises(SourceError, match=SAID) as caught:
        pipeline.run()
    assert caught.value.exit_code == 4
    frames = [record for record in records if record["type"] == "frame"]
    assert len(frames) == pipeline.summary.frames > 40
    (status,) = [record for record in records if record["type"] == "status"]
    assert (status["event_type"], status["payload"]["code"]) == ("SOURCE_LOST", "INCOMPLETE")
