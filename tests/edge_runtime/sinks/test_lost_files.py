"""Files that go away or fill up while a run writes them: what comes next is where it belongs, or said and counted."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.scoring.detector import Detector
from edge_runtime.sinks import Clips, CsvFile, Emission, JsonLinesFile, Recording, Sinks, StandardOutput
from edge_runtime.sinks.textfiles import TextFile
from tests.edge_runtime.sinks.test_sinks import CRITERIA, frame, running
from tests.edge_runtime.waiting import wait_until

FrameOf = Callable[[int], Emission]


def removed(path: Path) -> None:
    path.unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("older"))


def rotated(path: Path) -> None:
    """As logrotate does it by default: rename, then create."""
    path.rename(path.with_name("older"))
    path.touch()


def replaced(path: Path) -> None:
    path.with_name("other").write_text("")
    path.with_name("other").replace(path)


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


GONE = [removed, renamed, rotated, replaced, folder_removed]
KINDS: list[Callable[[Path], TextFile]] = [JsonLinesFile, lambda path: CsvFile(path, CRITERIA)]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("kind", KINDS, ids=["jsonl", "csv"])
@pytest.mark.parametrize("go_away", GONE, ids=lambda way: way.__name__)
def test_a_file_that_went_away_is_begun_again_and_that_is_said(
    tmp_path: Path, kind: Callable[[Path], TextFile], go_away: Callable[[Path], None]
) -> None:
    path = tmp_path / "folder" / "out"
    with running(kind(path)) as (runner, said):
        runner.put(frame(0))
        wait_until(lambda: runner.counts.written == 1)
        n_before = len(lines(path))
        go_away(path)
        runner.put(frame(1))
        wait_until(lambda: runner.counts.written == 2)
        assert len(lines(path)) == n_before  # the header again, and the one record
        runner.put(frame(2))
    assert len(lines(path)) == n_before + 1
    assert [(status["event_type"], status["severity"]) for status in said] == [("SINK_REOPENED", "warning")]
    assert str(path) in said[0]["payload"]["reason"]


def test_it_is_seen_without_a_record_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    with running(JsonLinesFile(path)) as (_, said):
        path.unlink()
        wait_until(lambda: bool(said))
        assert path.exists()
    assert "was removed or renamed while it was written" in caplog.text


def test_whoever_asks_gets_the_file_that_stands_there_now(tmp_path: Path) -> None:
    sink = JsonLinesFile(tmp_path / "out.jsonl")
    with running(sink) as (runner, _):
        first = sink._stream
        runner.reopen()
        wait_until(lambda: sink._stream is not None and sink._stream is not first)
        runner.put(frame(0))
    assert len(lines(tmp_path / "out.jsonl")) == 1


def test_a_file_that_somebody_emptied_goes_on_from_there(tmp_path: Path) -> None:
    """logrotate's copytruncate; a line that is taken back must not fill the file up with zeros."""
    path = tmp_path / "out.jsonl"
    sink = JsonLinesFile(path)
    sink.open()
    for number in range(3):
        sink.write(frame(number))
    os.truncate(path, 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(frame(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b""
    sink.write(frame(4))
    sink.close()
    assert len(lines(path)) == 1


@pytest.mark.parametrize("kind", KINDS, ids=["jsonl", "csv"])
def test_a_disk_that_takes_nothing_is_named_counted_and_unhealthy(kind: Callable[[Path], TextFile]) -> None:
    sinks = Sinks([kind(Path("/dev/full"))], lambda record: None, lossless=True)
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    sinks.start()
    assert sinks.health()[0]["ok"]
    for number in range(3):
        sinks.emit(frame(number))
    sinks.close(patient=True)
    (health,) = sinks.health()
    assert (health["ok"], health["failed"], health["dropped"]) == (False, 3, 0)
    assert "No space left on device" in health["last_error"]
    with pytest.raises(DataError, match=r"could not be written: 3 to /dev/full .*No space left on device"):
        sinks.check_lost()


def test_standard_output_on_a_full_disk_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        sinks = Sinks([StandardOutput()], lambda record: None, lossless=True)
        sinks.start()
        sinks.emit(frame())
        sinks.close(patient=True)
        with pytest.raises(DataError, match="1 to stdout"):
            sinks.check_lost()


@pytest.fixture
def frame_of(detector: Detector) -> FrameOf:
    """Frames of 64x64, a tenth of a second apart, with their pictures."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)

    def make(number: int) -> Emission:
        return replace(frame(number), image=image, result=detector.score(image), grabbed_s=number / 10)

    return make


def new_event() -> Emission:
    record = {"type": "event", "phase": "new", "event_id": "e", "source_id": "camera:0", "start_time": "2026-01-02T03"}
    return Emission(record)


@pytest.mark.parametrize("kind", [Recording, Clips])
def test_a_video_whose_file_went_away_is_begun_again(
    tmp_path: Path, frame_of: FrameOf, kind: Callable[[Path], Any]
) -> None:
    said: list[str] = []
    sink = kind(tmp_path / "videos")
    sink.say = lambda severity, event_type, **payload: said.append(event_type)
    sink.open()
    sink.write(frame_of(0))
    if kind is Clips:
        sink.write(new_event())
    for number in range(1, 20):
        sink.write(frame_of(number))
    assert list(tmp_path.rglob("*.part.avi"))
    shutil.rmtree(tmp_path / "videos")
    sink.tick()
    for number in range(20, 40):
        sink.write(frame_of(number))
    sink.close()
    assert said == ["SINK_REOPENED"]
    assert [file.suffixes for file in tmp_path.rglob("*.avi")] == [[".avi"]]


def test_a_video_that_the_disk_did_not_take_is_no_success(tmp_path: Path, frame_of: FrameOf) -> None:
    sink = Recording(tmp_path)
    sink.open()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        for number in range(200):
            sink.write(frame_of(number))
        with pytest.raises(OSError, match="the disk did not take the video"):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir() if ".part." not in file.name] == []
