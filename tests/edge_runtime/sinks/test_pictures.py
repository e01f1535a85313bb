"""Snapshots, clips, recordings, and how much of them is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.scoring.regions import regions_of
from edge_runtime.sinks import Clips, Emission, Recording, Retention, Snapshots, pictures
from edge_runtime.sinks.annotate import annotated
from edge_runtime.sinks.records import timestamp
from edge_runtime.sinks.retention import KeptFolder

Grey = NDArray[np.uint8]
FIRST_S = 1_767_322_800.0
"""2026-01-02T03:00:00Z"""

ID = "1767323045000-0a1b2c3d"


def seen(
    detector: Detector, number: int, *, bright: bool = False, source: str = "camera:0", set_by_s: float = 0.0
) -> Emission:
    """A scored frame, 10 a second. set_by_s: by how much the time of day has been set since the first."""
    image = np.full((60, 80), 128, dtype=np.uint8)
    image[:, :40] = 255 if bright else 120
    record = {
        "type": "frame",
        "source_id": source,
        "t_capture": timestamp(FIRST_S + number / 10 + set_by_s),
    }
    return Emission(record, image, detector.score(image), grabbed_s=1000.0 + number / 10)


def event(phase: str, frame: Emission | None = None) -> Emission:
    record = {
        "type": "event", "phase": phase, "event_id": ID, "source_id": "camera:0",
        "start_time": "2026-01-02T03:04:05.000Z", "peak_time": "2026-01-02T03:04:05.000Z",
    }  # fmt: skip
    return Emission(record, frame.image, frame.result) if frame else Emission(record)


def frames_of(video: Path) -> list[Any]:
    capture = cv2.VideoCapture(str(video))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def test_an_event_s_picture_is_the_one_that_came_last(tmp_path: Path, detector: Detector) -> None:
    sink = Snapshots(tmp_path / "shots")
    sink.open()
    new = event("new", seen(detector, 0))
    path = Path(sink.fields(new.record)["snapshot"])
    assert path == tmp_path / "shots" / "2026-01-02" / f"{ID}.jpg"
    sink.write(new)
    first = path.read_bytes()
    sink.write(event("update"))
    assert path.read_bytes() == first
    sink.write(event("end", seen(detector, 1, bright=True)))
    assert path.read_bytes() != first
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape == (240 + 24, 320, 3)  # enlarged, with a strip of text below


def test_a_picture_is_drawn_by_the_region_and_the_scale_that_its_frame_was_scored_with(
    make_bundle: Callable[..., Bundle],
) -> None:
    frame = np.full((60, 80), 128, dtype=np.uint8)
    frame[20:28, 40:44] = 255
    pictures = []
    for x in (38, 36):
        scorer = make_bundle(Preprocess(height=8, width=8, roi=(x, 20, 8, 8)))
        result = Detector(scorer, OnnxRuntimeCpu(scorer.files["detector.onnx"], threads=1), threshold=-9.0).score(frame)
        result = replace(result, heat_scale=HeatScale(0.0, float(result.heatmap(frame.shape).max())))
        pictures.append(annotated(frame, result, {}))
        rows, columns = np.nonzero(result.heatmap(frame.shape))
        assert (columns.min() >= x, columns.max() < x + 8, rows.min() >= 20, rows.max() < 28) == (True,) * 4
        assert not np.array_equal(annotated(frame, replace(result, heat_scale=HeatScale(0.0, 1e3)), {}), pictures[-1])
    assert not np.array_equal(*pictures)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot make the folder"):
        Snapshots(tmp_path / "file" / "shots").open()


def test_a_clip_has_the_seconds_before_and_after_its_event(tmp_path: Path, detector: Detector) -> None:
    sink = Clips(tmp_path, before_s=1.0, after_s=0.5)
    sink.open()
    for number in range(30):
        sink.write(seen(detector, number))
    sink.write(event("new"))
    for number in range(30, 50):
        sink.write(seen(detector, number, bright=True))
    sink.write(event("end"))
    path = Path(sink.fields(event("new").record)["clip"])
    assert not path.exists()  # not before it is whole
    for number in range(50, 70):
        sink.write(seen(detector, number))
    assert len(frames_of(path)) == 10 + 20 + 5
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10.0, abs=0.1)
    brightness = [frame[:200, :100].mean() for frame in frames_of(path)]
    assert min(brightness[10:30]) > max(*brightness[:10], *brightness[30:])
    sink.close()


def test_a_clip_that_is_open_at_the_end_is_finished(tmp_path: Path, detector: Detector) -> None:
    sink = Clips(tmp_path)
    sink.open()
    sink.write(event("new"))
    sink.write(seen(detector, 0))
    sink.write(seen(detector, 1))
    sink.close()
    assert len(frames_of(Path(sink.fields(event("new").record)["clip"]))) == 2


def test_an_event_without_end_does_not_fill_the_disk(
    tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clips, "MOST_S", 2.0)
    sink = Clips(tmp_path)
    sink.open()
    sink.write(event("new"))
    for number in range(60):
        sink.write(seen(detector, number))
    sink.close()
    assert len(frames_of(Path(sink.fields(event("new").record)["clip"]))) == 21


def test_a_recording_holds_every_frame_in_files_of_some_length(tmp_path: Path, detector: Detector) -> None:
    sink = Recording(tmp_path, segment_s=3.0)
    sink.open()
    for number in range(64):
        sink.write(seen(detector, number))
        if number < 5:
            sink.write(seen(detector, number, source="rtsp://user:secret@10.0.0.5/live"))
    sink.close()
    lengths = {file.name: len(frames_of(file)) for file in sorted(tmp_path.iterdir())}
    assert lengths == {
        "camera_0-20260102T030000Z.avi": 30,
        "camera_0-20260102T030003Z.avi": 30,
        "camera_0-20260102T030006Z.avi": 4,
        "rtsp_10.0.0.5_live-20260102T030000Z.avi": 5,
    }


@pytest.mark.parametrize("set_by_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_a_clip_and_its_ring_last_as_long_however_the_clock_is_set(
    tmp_path: Path, detector: Detector, set_by_s: float
) -> None:
    sink = Clips(tmp_path, before_s=1.0, after_s=0.5)
    sink.open()
    for number in range(30):
        sink.write(seen(detector, number, set_by_s=set_by_s if number >= 25 else 0.0))
    (reel,) = sink._reels.values()
    assert len(reel.ring) == 11
    sink.write(event("new"))
    for number in range(30, 50):
        sink.write(seen(detector, number, set_by_s=0.0 if number < 40 else set_by_s))
    sink.write(event("end"))
    for number in range(50, 70):
        sink.write(seen(detector, number))
    path = Path(sink.fields(event("new").record)["clip"])
    assert len(frames_of(path)) == 10 + 20 + 5
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(10.0, abs=0.1)


def test_the_ring_is_bounded_in_frames_and_in_bytes(
    tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = Clips(tmp_path, before_s=60.0)
    monkeypatch.setattr(pictures, "MOST_RING_FRAMES", 20)
    for number in range(50):
        sink.write(seen(detector, number))
    (reel,) = sink._reels.values()
    assert len(reel.ring) == 20
    one = reel.ring[0][1].nbytes
    monkeypatch.setattr(pictures, "MOST_RING_BYTES", 5 * one + one // 2)
    for number in range(50, 60):
        sink.write(seen(detector, number))
    assert len(reel.ring) == 5
    assert reel.ring_bytes == sum(jpeg.nbytes for _, jpeg in reel.ring) <= 5.5 * one


@pytest.mark.parametrize("set_by_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_a_recording_s_files_are_as_long_and_none_is_written_over_however_the_clock_is_set(
    tmp_path: Path, detector: Detector, set_by_s: float
) -> None:
    sink = Recording(tmp_path, segment_s=3.0)
    sink.open()
    for number in range(90):
        sink.write(seen(detector, number, set_by_s=set_by_s if 30 <= number < 60 else 0.0))
    for number in range(90, 120):
        sink.write(seen(detector, number, set_by_s=-12.0))  # the names of the first again
    sink.close()
    assert [len(frames_of(file)) for file in sorted(tmp_path.iterdir())] == [30] * 4


def files_by_day(folder: Path, *days: tuple[int, int]) -> float:
    """Files of so many days ago and bytes; the time of now."""
    now = time.time()
    for day, size in days:
        file = folder / f"day{day}" / "shot.jpg"
        file.parent.mkdir(parents=True)
        file.write_bytes(bytes(size))
        os.utime(file, (now - 86_400 * day, now - 86_400 * day))
    return now


def test_retention_deletes_the_oldest_by_age_and_by_size(tmp_path: Path) -> None:
    files_by_day(tmp_path, (40, 10), (3, 600), (2, 600), (1, 600))
    (tmp_path / "notes.txt").write_text("mine")
    assert KeptFolder(tmp_path, [".jpg"], Retention(days=30, max_bytes=1300)).clean() == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day1", "day2", "notes.txt"]
    assert KeptFolder(tmp_path, [".jpg"], Retention(days=0, max_bytes=0)).clean() == 0


@pytest.mark.parametrize("set_by_days", [-1.0, -1 / 24, 1 / 24, 1.0, 100.0])
def test_what_a_run_makes_is_as_old_as_it_is_however_the_clock_is_set(tmp_path: Path, set_by_days: float) -> None:
    start = files_by_day(tmp_path, (29, 600))
    clock = [5000.0]
    kept = KeptFolder(tmp_path, [".jpg"], Retention(days=30, max_bytes=1300), clock=lambda: clock[0])
    assert kept.clean() == 0
    made = []
    for number in range(4):  # a file a quarter of a day, of which the second half by another clock
        clock[0] += 0.2 * 86_400
        file = tmp_path / f"made{number}.jpg"
        file.write_bytes(bytes(600))
        wall = start + 0.2 * 86_400 * (number + 1) + (86_400 * set_by_days if number >= 2 else 0.0)
        os.utime(file, (wall, wall))
        made.append(file)
        kept.clean()
    # The oldest went first, by when they came and not by what their files say; there is room for two.
    assert [file.exists() for file in made] == [False, False, True, True]
    assert not (tmp_path / "day29").exists()
    clock[0] += 29.5 * 86_400
    assert kept.clean() == 0
    clock[0] += 0.4 * 86_400
    assert kept.clean() == 1
    clock[0] += 0.2 * 86_400
    assert kept.clean() == 1


def test_files_from_the_future_are_of_now(tmp_path: Path) -> None:
    files_by_day(tmp_path, (-400, 10))  # a board without a battery begins in the past
    clock = [0.0]
    kept = KeptFolder(tmp_path, [".jpg"], Retention(days=30), clock=lambda: clock[0])
    assert kept.clean() == 0
    clock[0] = 31 * 86_400.0
    assert kept.clean() == 1


def test_a_week_of_events_leaves_memory_and_files_bounded(
    tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Minutes of frames and an event every three hours, the clock set each day; a day of each folder fits."""
    monkeypatch.setattr("edge_runtime.sinks.pictures.RETENTION_EVERY_S", -1.0)
    now = [0.0]
    retention = Retention(days=1.0, max_bytes=150_000)
    clips = Clips(tmp_path / "clips", retention, before_s=60.0, after_s=60.0)
    shots = Snapshots(tmp_path / "shots", retention)
    for sink in (clips, shots):
        sink._kept = KeptFolder(sink.folder, sink.suffixes, retention, clock=lambda: now[0])
        sink.open()
    frame, sizes = seen(detector, 0, bright=True), []
    most_ring = most_open = 0
    for minute in range(7 * 24 * 60):
        now[0] = 60.0 * minute
        day_s = FIRST_S + now[0] + 3600.0 * (-1) ** (minute // 1440)
        emission = replace(frame, record={**frame.record, "t_capture": timestamp(day_s)}, grabbed_s=now[0])
        event_number, of_event = divmod(minute, 180)
        if of_event in (5, 8):
            record = {
                "type": "event", "phase": "new" if of_event == 5 else "end", "event_id": f"{event_number:08x}",
                "source_id": "camera:0", "start_time": timestamp(day_s), "peak_time": timestamp(day_s),
            }  # fmt: skip
            for sink in (clips, shots):
                sink.write(replace(emission, record=record))
        if 4 <= of_event <= 12:
            clips.write(emission)
        if of_event == 59:
            clips.tick()
            shots.tick()
            sizes.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
        most_ring = max(most_ring, *(reel.ring_bytes for reel in clips._reels.values()), 0)
        most_open = max(most_open, len(clips._reels))
    assert most_open == 1
    assert most_ring <= 3 * 30_000
    assert max(sizes) <= 2 * 150_000 + 50_000 < sum(sizes)
    assert all(len(sink._kept._born_s) <= 10 for sink in (clips, shots))


@pytest.mark.parametrize("make", [
    lambda: Retention(days=-1), lambda: Clips(Path("x"), before_s=61), lambda: Recording(Path("x"), segment_s=0),
])  # fmt: skip
def test_settings_out_of_range_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_regions_are_boxes_around_what_is_bright() -> None:
    heat = np.zeros((100, 200), dtype=np.float32)
    heat[10:20, 30:50] = 2.0
    heat[60:90, 150:160] = 3.0
    heat[0, 0] = 9.0  # a speck
    boxes = [(box.x, box.y, box.width, box.height, box.peak) for box in regions_of(heat, usual_peak=1.0)]
    assert boxes == [(150, 60, 10, 30, 3.0), (30, 10, 20, 10, 2.0)]
    assert regions_of(np.zeros((10, 10), dtype=np.float32), 1.0) == []


def test_a_map_below_the_usual_peak_shows_its_own_brightest_part() -> None:
    heat = np.full((50, 50), 0.1, dtype=np.float32)
    heat[5:10, 5:10] = 0.5
    assert [(box.x, box.y) for box in regions_of(heat, usual_peak=1.0)] == [(5, 5)]
