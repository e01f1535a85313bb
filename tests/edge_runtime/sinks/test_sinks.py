"""Sinks: each in its own thread, none able to slow, stop or corrupt anything."""

from __future__ import annotations

import csv
import json
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.sinks import CsvFile, Emission, JsonLinesFile, Rotation, SinkBase, SinkRunner, Sinks, StandardOutput
from edge_runtime.sinks.runner import QUEUE_RECORDS
from edge_runtime.sinks.textfiles import TextFile
from tests.edge_runtime.waiting import wait_until

CRITERIA = ("reconstruction_error", "neg_log_prior")


def frame(number: int = 0) -> Emission:
    return Emission(
        {
            "v": 1, "type": "frame", "source_id": "camera:0", "frame_id": number, "name": "a,b.png",
            "t_capture": "2026-01-02T03:04:05.678Z", "t_emit": "2026-01-02T03:04:05.680Z", "age_ms": 2.0, "score": 0.5,
            "score_smoothed": 0.5, "threshold": 1.0, "is_anomaly": False, "state": "normal", "event_id": None,
            "criteria": dict.fromkeys(CRITERIA, 1.5), "model": "sha256:ab",
            "latency_ms": {"capture": 1.0, "preprocess": 0.1, "infer": 0.2, "post": 0.3},
        }
    )  # fmt: skip


def event(number: int = 0, phase: str = "new") -> Emission:
    return Emission({"type": "event", "phase": phase, "event_id": "e", "message_id": f"e/{number}"})


class Kept(SinkBase):
    """Remembers what it got; may be held up, and may fail."""

    def __init__(self) -> None:
        self.got: list[Emission] = []
        self.free = threading.Event()
        self.free.set()
        self.error: Exception | None = None
        self.closed = False

    def write(self, emission: Emission) -> None:
        self.free.wait()
        if self.error:
            raise self.error
        self.got.append(emission)

    def close(self) -> None:
        self.closed = True


@contextmanager
def running(sink: Any, *, lossless: bool = False) -> Iterator[tuple[SinkRunner, list[dict[str, Any]]]]:
    said: list[dict[str, Any]] = []
    runner = SinkRunner(sink, said.append, lossless=lossless)
    runner.start()
    yield runner, said
    runner.finish()
    runner.join(10)


def test_records_arrive_in_order_and_the_sink_is_closed() -> None:
    sink = Kept()
    with running(sink) as (runner, said):
        for number in range(100):
            runner.put(frame(number))
    assert [emission.record["frame_id"] for emission in sink.got] == list(range(100))
    assert sink.closed
    assert (runner.counts.written, runner.counts.dropped, said) == (100, 0, [])


def test_a_sink_gets_only_the_kinds_it_takes() -> None:
    sink = Kept()
    sink.kinds = ("event",)
    with running(sink) as (runner, _):
        runner.put(frame())
        runner.put(event())
    assert [emission.record["type"] for emission in sink.got] == ["event"]


def test_a_sink_that_hangs_drops_frames_keeps_events_and_holds_nobody_up() -> None:
    sink = Kept()
    sink.free.clear()
    with running(sink) as (runner, said):
        runner.put(event(0))
        started = time.perf_counter()
        for number in range(QUEUE_RECORDS + 500):
            runner.put(frame(number))
        runner.put(event(1, "end"))
        assert time.perf_counter() - started < 20
        assert runner.counts.dropped >= 500
        assert [status["event_type"] for status in said] == ["SINK_DROPS"]
        sink.free.set()
    assert [emission.record["message_id"] for emission in sink.got if emission.record["type"] == "event"] == [
        "e/0", "e/1",
    ]  # fmt: skip
    kept = [emission.record["frame_id"] for emission in sink.got if emission.record["type"] == "frame"]
    assert kept[-1] == QUEUE_RECORDS + 499  # the newest stay
    assert kept == sorted(kept)


def test_a_sink_that_hangs_for_ever_is_left_behind_at_the_end() -> None:
    sink = Kept()
    sink.free.clear()
    sinks = Sinks([sink], lambda record: None, lossless=False)
    sinks.start()
    for number in range(5):
        sinks.emit(frame(number))
    started = time.perf_counter()
    sinks.close(patient=True)
    assert time.perf_counter() - started < 20
    assert sinks.runners[0].counts.dropped >= 4
    sink.free.set()


def test_a_run_of_files_waits_for_its_sinks() -> None:
    sink = Kept()
    with running(sink, lossless=True) as (runner, said):
        for number in range(3 * QUEUE_RECORDS):
            runner.put(frame(number))
    assert len(sink.got) == 3 * QUEUE_RECORDS
    assert said == []


def test_a_stop_ends_the_wait_for_a_sink_that_hangs() -> None:
    sink = Kept()
    sink.free.clear()
    stop = threading.Event()
    runner = SinkRunner(sink, lambda record: None, lossless=True, stopped=stop.is_set)
    runner.start()
    threading.Timer(0.2, stop.set).start()
    for number in range(QUEUE_RECORDS + 5):
        runner.put(frame(number))
    assert stop.is_set()
    sink.free.set()
    runner.finish()
    runner.join(10)


def test_a_failure_is_said_once_and_so_is_its_end() -> None:
    sink = Kept()
    sink.error = OSError("disk full")
    with running(sink) as (runner, said):
        runner.put(frame(0))
        runner.put(frame(1))
        wait_until(lambda: runner.counts.failed == 2)
        sink.error = None
        runner.put(frame(2))
        wait_until(lambda: len(sink.got) == 1)
    assert [status["event_type"] for status in said] == ["SINK_FAILED", "SINK_RECOVERED"]
    assert said[0]["payload"]["reason"] == "disk full"


def test_whatever_a_sink_raises_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = Kept()
    sink.error = RuntimeError("a bug")
    with running(sink) as (runner, _):
        runner.put(frame(0))
        wait_until(lambda: runner.counts.failed == 1)
        sink.error = None
        runner.put(frame(1))
    assert len(sink.got) == 1
    assert "a bug" in caplog.text


def test_a_reader_that_went_away_is_told() -> None:
    sink = Kept()
    sink.error = BrokenPipeError()
    sinks = Sinks([sink], lambda record: None, lossless=False)
    sinks.start()
    sinks.emit(frame())
    wait_until(lambda: sinks.broken is not None)
    sinks.close(patient=False)


def test_no_one_reports_an_event_before_the_outbox_has_it() -> None:
    class Outbox(Kept):
        commits = True

        def write(self, emission: Emission) -> None:
            time.sleep(0.3)
            super().write(emission)
            assert emission.committed is not None
            emission.committed.set()

    outbox, other = Outbox(), Kept()
    sinks = Sinks([other, outbox], lambda record: None, lossless=False)
    sinks.start()
    sinks.emit(event())
    time.sleep(0.1)
    assert other.got == []
    wait_until(lambda: len(other.got) == 1)
    assert len(outbox.got) == 1
    sinks.close(patient=True)


def test_a_sink_that_does_not_open_closes_those_before_it(tmp_path: Path) -> None:
    first = Kept()
    (tmp_path / "file").write_text("")
    sinks = Sinks([first, JsonLinesFile(tmp_path / "file" / "out.jsonl")], lambda record: None, lossless=False)
    with pytest.raises(DataError, match="cannot write records to"):
        sinks.start()
    assert first.closed


def test_an_existing_file_is_kept_and_an_empty_one_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    for text in ("one", "two"):
        sink = JsonLinesFile(path)
        sink.open()
        sink.write(Emission({"type": "status", "text": text}))
        sink.close()
    sink = JsonLinesFile(path)
    sink.open()
    sink.close()
    sink = JsonLinesFile(path)
    sink.open()
    sink.close()
    assert {file.name: file.read_text() for file in path.parent.iterdir()} == {
        "out.jsonl": "",
        "out.jsonl.1": '{"type":"status","text":"one"}\n',
        "out.jsonl.2": '{"type":"status","text":"two"}\n',
    }


def test_a_file_rotates_at_its_size_and_the_oldest_go(tmp_path: Path) -> None:
    line = len(json.dumps(frame(10).record, separators=(",", ":"))) + 1
    sink = JsonLinesFile(tmp_path / "out.jsonl", Rotation(3 * line, keep=2))
    sink.open()
    for number in range(10, 22):
        sink.write(frame(number))
    sink.close()
    files = {
        file.name: [json.loads(row)["frame_id"] for row in file.read_text().splitlines()] for file in tmp_path.iterdir()
    }
    assert files == {"out.jsonl": [19, 20, 21], "out.jsonl.2": [13, 14, 15], "out.jsonl.3": [16, 17, 18]}


def test_a_line_that_the_disk_does_not_take_whole_is_taken_back(tmp_path: Path) -> None:
    sink = JsonLinesFile(tmp_path / "out.jsonl")
    sink.open()
    sink.write(frame(0))
    size = (tmp_path / "out.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))  # as on a full disk: 40 bytes go, then an error
    try:
        with pytest.raises(OSError, match="File too large"):
            sink.write(frame(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    sink.write(frame(2))
    sink.close()
    assert [json.loads(row)["frame_id"] for row in (tmp_path / "out.jsonl").read_text().splitlines()] == [0, 2]


def test_a_table_has_a_column_for_each_criterion_and_a_header_in_each_file(tmp_path: Path) -> None:
    sink = CsvFile(tmp_path / "out.csv", CRITERIA, Rotation(400))
    sink.open()
    for number in range(3):
        sink.write(frame(number))
    sink.close()
    rows = [row for file in sorted(tmp_path.iterdir()) for row in csv.DictReader(file.read_text().splitlines())]
    assert sorted(int(row["frame_id"]) for row in rows) == [0, 1, 2]
    assert rows[0]["name"] == "a,b.png"
    assert (rows[0]["is_anomaly"], rows[0]["event_id"], rows[0]["neg_log_prior"], rows[0]["infer_ms"]) == (
        "0", "", "1.5", "0.2",
    )  # fmt: skip
    assert len(list(tmp_path.iterdir())) > 1


@pytest.mark.parametrize(("size", "keep"), [(-1, 0), (0, -1)])
def test_a_rotation_that_is_none_is_refused(size: int, keep: int) -> None:
    with pytest.raises(ConfigError, match="0 or more"):
        Rotation(size, keep)


def test_standard_output_gets_each_line_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    sink = StandardOutput()
    sink.open()
    sink.write(event(3))
    assert json.loads(capfd.readouterr().out)["message_id"] == "e/3"


def test_standard_output_raises_where_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        monkeypatch.setattr("sys.stdout", stream)
        sink = StandardOutput()
        sink.open()
        with pytest.raises(BrokenPipeError):
            sink.write(event())


def test_a_table_begins_with_its_header_whatever_happened_at_the_rotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = CsvFile(tmp_path / "scores.csv", CRITERIA, Rotation(max_bytes=1))
    sink.open()

    def full(file: TextFile, content: bytes) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(TextFile, "_append", full)
        for _ in range(2):
            with pytest.raises(OSError, match="disk full"):
                sink.write(frame(0))
    sink.write(frame(1))
    sink.close()
    tables = {file.name: file.read_text().splitlines() for file in tmp_path.iterdir()}
    assert {name: len(lines) for name, lines in tables.items()} == {"scores.csv.1": 1, "scores.csv": 2}
    assert all(lines[0].startswith("source_id,frame_id,") for lines in tables.values())
