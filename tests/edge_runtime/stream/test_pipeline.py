"""The loop from source to records: every frame once and in order, whatever goes wrong on the way."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu, RawOutputs
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError, SourceError
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.sinks.records import to_line
from edge_runtime.sources import CapturedFrame, source_from
from edge_runtime.sources.contract import SourceContext
from edge_runtime.stream.feed import FeedSettings
from edge_runtime.stream.pipeline import Pipeline, RunSettings, RunSummary, run
from edge_runtime.watching.alarm import AlarmSettings
from edge_runtime.watching.guard import GuardSettings

FRAME = np.full((8, 8), 128, dtype=np.uint8)

ONCE = RunSettings(feed=FeedSettings(reconnects=0, guard=GuardSettings(checks=())))
"""The stand-in camera is opened once, and gives flat frames, all the same."""

PlugIn = Callable[[Sequence[NDArray[np.uint8] | None]], list[Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """1.png to 12.png; the even ones are noise, which is anomalous to the half-means autoencoder, the odd ones flat."""
    rng = np.random.default_rng(0)
    for index in range(1, 13):
        image = rng.integers(0, 256, (8, 8), dtype=np.uint8) if index % 2 == 0 else FRAME
        write_image(tmp_path / "images" / f"{index}.png", image)
    return tmp_path / "images"


def recorded(detector: Detector, path: Path, **options: Any) -> tuple[RunSummary, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    summary = run(detector, source_from(None, str(path)), records.append, **options)
    return summary, records


def test_each_frame_has_one_record_in_order(detector: Detector, folder: Path) -> None:
    summary, records = recorded(detector, folder)
    assert [record["type"] for record in records] == ["frame"] * 12
    assert [record["frame_id"] for record in records] == list(range(12))
    assert [Path(record["name"]).name for record in records] == [f"{index}.png" for index in range(1, 13)]
    assert [record["is_anomaly"] for record in records] == [False, True] * 6
    assert (summary.frames, summary.anomalies, summary.unscored) == (12, 6, 0)
    assert len(summary.latencies_ms) == 12


def test_a_record_carries_the_scores_of_its_frame(detector: Detector, folder: Path, bundle: Bundle) -> None:
    _, records = recorded(detector, folder, max_frames=1)
    expected = detector.score(FRAME)
    assert records[0]["score"] == expected.score
    assert records[0]["criteria"] == expected.criteria
    assert records[0]["threshold"] == 1.0
    assert records[0]["model"] == f"sha256:{bundle.digest}"
    assert records[0]["source_id"] == str(folder)
    assert 0.0 < records[0]["age_ms"] < 10_000.0
    assert records[0]["t_capture"] <= records[0]["t_emit"]
    to_line(records[0])


def test_an_unreadable_image_has_a_status_record_and_the_run_goes_on(
    detector: Detector, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "3.png").write_bytes(b"not an image")
    with caplog.at_level(logging.WARNING):
        summary, records = recorded(detector, folder)
    assert [record["type"] for record in records] == ["frame", "frame", "status"] + ["frame"] * 9
    assert [record["frame_id"] for record in records if record["type"] == "frame"] == [0, 1, *range(3, 12)]
    status = records[2]
    assert (status["severity"], status["event_type"]) == ("warning", "FRAME_NOT_SCORED")
    assert status["source_id"] == str(folder)
    assert f"cannot decode {folder / '3.png'}" in status["payload"]["reason"]
    assert (summary.frames, summary.unscored) == (11, 1)
    assert "frame not scored: cannot decode" in caplog.text


def test_a_frame_that_does_not_fit_has_a_status_record_and_the_run_goes_on(
    make_bundle: Callable[..., Bundle], folder: Path
) -> None:
    write_image(folder / "2.png", FRAME[:4])
    bundle = make_bundle(Preprocess(height=8, width=8, roi=(0, 0, 8, 8)))
    detector = Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1))
    summary, records = recorded(detector, folder)
    assert records[1]["event_type"] == "FRAME_NOT_SCORED"
    assert "beyond the frame of 8x4 pixels" in records[1]["payload"]["reason"]
    assert (summary.frames, summary.unscored) == (11, 1)


def test_a_lost_source_has_a_status_record_and_ends_the_run(detector: Detector, plug_in_camera: PlugIn) -> None:
    plug_in_camera([FRAME, FRAME, FRAME])
    records: list[dict[str, Any]] = []
    summary, began_s = RunSummary(), time.time()
    with pytest.raises(SourceError, match="lost camera 0 after 3 frames"):
        run(detector, source_from(0, None), records.append, summary=summary, settings=ONCE)
    assert [record["type"] for record in records] == ["frame", "frame", "frame", "status"]
    emitted = datetime.fromisoformat(records[-1].pop("t_emit").replace("Z", "+00:00"))
    assert began_s - 0.001 <= emitted.timestamp() <= time.time()
    assert records[-1] == {
        "v": 1,
        "type": "status",
        "severity": "error",
        "event_type": "SOURCE_LOST",
        "source_id": "camera:0",
        "payload": {"code": "LOST", "reason": "lost camera 0 after 3 frames: it gives no frame any more"},
    }
    assert summary.frames == 3


def test_a_camera_frame_that_cannot_be_decoded_is_not_replaced_by_another(
    detector: Detector, plug_in_camera: PlugIn
) -> None:
    plug_in_camera([FRAME, None, FRAME])
    records: list[dict[str, Any]] = []
    summary = run(detector, source_from(0, None), records.append, max_frames=3, settings=ONCE)
    assert [record.get("frame_id") for record in records] == [0, None, 2]
    assert (summary.frames, summary.unscored) == (2, 1)


def test_the_run_ends_when_it_is_stopped(detector: Detector, folder: Path) -> None:
    records: list[dict[str, Any]] = []
    summary = run(detector, source_from(None, str(folder)), records.append, stopped=lambda: len(records) == 5)
    assert summary.frames == len(records) == 5


def test_a_run_that_is_stopped_at_once_takes_no_frame(detector: Detector, folder: Path) -> None:
    summary, records = recorded(detector, folder, stopped=lambda: True)
    assert (summary.frames, records) == (0, [])


@pytest.mark.parametrize(("max_frames", "n_records"), [(0, 0), (1, 1), (7, 7), (12, 12), (99, 12)])
def test_at_most_max_frames_are_taken(detector: Detector, folder: Path, max_frames: int, n_records: int) -> None:
    _, records = recorded(detector, folder, max_frames=max_frames)
    assert [record["frame_id"] for record in records] == list(range(n_records))


def test_frames_that_were_not_scored_count_towards_max_frames(detector: Detector, folder: Path) -> None:
    (folder / "1.png").write_bytes(b"not an image")
    summary, records = recorded(detector, folder, max_frames=3)
    assert len(records) == 3
    assert (summary.frames, summary.unscored) == (2, 1)


def test_a_failing_writer_ends_the_run_after_the_frames_it_took(detector: Detector, folder: Path) -> None:
    records: list[dict[str, Any]] = []

    def write(record: dict[str, Any]) -> None:
        if len(records) == 2:
            raise BrokenPipeError("the reader has gone")
        records.append(record)

    summary = RunSummary()
    with pytest.raises(BrokenPipeError, match="the reader has gone"):
        run(detector, source_from(None, str(folder)), write, summary=summary)
    assert summary.frames == len(records) == 2


def test_a_threshold_that_moves_moves_records_and_alarms_and_leaves_the_detector_that_was_given(
    detector: Detector,
) -> None:
    records: list[dict[str, Any]] = []
    settings = RunSettings(alarm=AlarmSettings(enter=1.0, clear=0.75, n=1, m=1))

    def pulse() -> None:
        if sum(record["type"] == "frame" for record in records) == 3:
            pipeline.set_threshold(5.0)

    source = source_from(None, "test://pattern?fps=200&width=16&height=16")
    pipeline = Pipeline(detector, [source], records.append, settings, pulse=pulse)
    pipeline.run(max_frames=6)
    thresholds = [record["threshold"] for record in records if record["type"] == "frame"]
    assert thresholds == [1.0] * 3 + [5.0] * 3
    alarm = pipeline.states()[0].watch.alarm
    assert alarm is not None
    assert (alarm.settings.enter, alarm.settings.clear) == (5.0, 4.75)
    assert (pipeline.current()["threshold"], detector.decision.threshold) == (5.0, 1.0)


def test_percentiles_by_hand() -> None:
    summary = RunSummary(latencies_ms=[float(value) for value in range(100, 0, -1)])
    # 1 to 100, linear: 1 + 0.5 * 99, 1 + 0.95 * 99, 1 + 0.99 * 99
    assert summary.percentiles_ms() == pytest.approx((50.5, 95.05, 99.01))


def test_a_run_without_frames_has_no_percentiles() -> None:
    assert RunSummary().percentiles_ms() is None
    assert str(RunSummary()) == "0 frames, 0 anomalies"


def test_the_summary_is_one_line_with_its_numbers() -> None:
    summary = RunSummary(frames=3, anomalies=1, unscored=2, latencies_ms=[1.0, 2.0, 3.0])
    assert str(summary) == "3 frames, 1 anomalies, 2 not scored, latency p50 2.00 p95 2.90 p99 2.98 ms"


def test_the_newest_latencies_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.stream.summary.LATENCY_WINDOW", 4)
    summary = RunSummary()
    for frame in range(1, 12):
        summary.frames += 1  # as run does, before it adds the frame's latency
        summary.add_latency(float(frame))
        assert sorted(summary.latencies_ms) == [float(kept) for kept in range(max(1, frame - 3), frame + 1)]


def test_the_latencies_of_a_long_run_are_bounded(
    detector: Detector, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.stream.summary.LATENCY_WINDOW", 5)
    summary, _ = recorded(detector, folder)
    assert summary.frames == 12
    assert len(summary.latencies_ms) == 5


class Hung(SourceContext):
    """A camera that gives one frame and then hangs within its grab, for as long as the test lets it."""

    live = True

    def __init__(self, number: int, released: threading.Event) -> None:
        self.source_id, self._released = f"camera:{number}", released
        self._n_grabbed = 0

    def open(self) -> None:
        pass

    def grab(self) -> bool:
        if self._n_grabbed:
            self._released.wait(60.0)
            return False
        self._n_grabbed += 1
        return True

    def retrieve(self) -> CapturedFrame:
        return CapturedFrame(FRAME, 0, time.time(), time.perf_counter(), 0.0, None)

    def close(self) -> None:
        pass


def test_eight_cameras_that_hang_are_left_behind_together(detector: Detector) -> None:
    released = threading.Event()
    records: list[dict[str, Any]] = []
    pipeline = Pipeline(detector, [Hung(number, released) for number in range(8)], records.append, ONCE)
    stopped_s: list[float] = []

    def stopped() -> bool:
        if len(records) == 8:
            stopped_s.append(time.monotonic())
        return bool(stopped_s)

    try:
        pipeline.run(stopped=stopped)
        assert time.monotonic() - stopped_s[0] < 3.0
    finally:
        released.set()
        for feed in pipeline.feeds:
            feed.join(5.0)


class Choking(OnnxRuntimeCpu):
    """An engine that gives no number for dark frames, as one of half precision may, or falls over."""

    def run(self, network_input: NDArray[np.uint8]) -> RawOutputs:
        outputs = super().run(network_input)
        if network_input.mean() < 10:
            return RawOutputs(np.full_like(outputs.criteria, np.nan), outputs.latent, outputs.anomaly_map)
        if network_input.mean() > 245:
            raise RuntimeError("the driver fell over")
        return outputs


@pytest.fixture
def choking(bundle: Bundle) -> Detector:
    return Detector(bundle, Choking(bundle.files["detector.onnx"], threads=1))


class Levels(SourceContext):
    """A camera of flat frames of these grey levels, at its own pace; then its end."""

    live = False
    inter_coded = False

    def __init__(self, source_id: str, levels: Sequence[int]) -> None:
        self.source_id, self._levels, self._n_grabbed = source_id, levels, 0

    def open(self) -> None:
        pass

    def grab(self) -> bool:
        self._n_grabbed += 1
        return self._n_grabbed <= len(self._levels)

    def retrieve(self) -> CapturedFrame:
        number = self._n_grabbed - 1
        image = np.full((8, 8), self._levels[number], np.uint8)
        return CapturedFrame(image, number, time.time(), float(number), 0.0, None)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("level", [0, 255], ids=["not a number", "an engine that raises"])
def test_one_frame_that_the_scorer_fails_at_ends_no_run(choking: Detector, level: int) -> None:
    records: list[dict[str, Any]] = []
    sources = [Levels("one", [128, level, 128]), Levels("two", [128] * 3)]
    summary = Pipeline(choking, sources, records.append).run()
    assert (summary.frames, summary.unscored) == (5, 1)
    (status,) = (record for record in records if record["type"] == "status")
    assert (status["source_id"], status["event_type"]) == ("one", "FRAME_NOT_SCORED")
    assert "finite" in status["payload"]["reason"] or "fell over" in status["payload"]["reason"]


def test_a_source_that_the_scorer_fails_at_is_reported_failed_and_recovers_and_others_go_on(choking: Detector) -> None:
    records: list[dict[str, Any]] = []
    up: list[bool] = []
    sources = [Levels("one", [128] + [0] * 14 + [128] * 9), Levels("two", [128] * 24)]
    pipeline = Pipeline(choking, sources, records.append, pulse=lambda: up.append(pipeline.states()[0].up))
    summary = pipeline.run()
    assert (summary.frames, summary.unscored) == (10 + 24, 14)
    assert [state.unscored for state in pipeline.states()] == [14, 0]
    told = [(record["event_type"], record["payload"]) for record in records if record["type"] == "status"]
    assert [event_type for event_type, _ in told] == ["FRAME_NOT_SCORED"] * 10 + ["SOURCE_FAILED", "SOURCE_RECOVERED"]
    assert told[10][1]["reason"].startswith("10 frames in a row not scored: ")
    assert told[11][1] == {"silent_s": 14.0}
    assert [up[0], False in up, up[-1]] == [True, True, True]


def test_a_run_ends_where_the_scorer_fails_at_every_source_that_is_left(choking: Detector) -> None:
    records: list[dict[str, Any]] = []
    settings = RunSettings(alarm=AlarmSettings(enter=-9.0, clear=-9.0, n=1, m=1))
    sources = [Levels("one", [128] * 2 + [0] * 99), Levels("two", [128]), Levels("three", [0] * 99)]
    with pytest.raises(BackendError, match="expected finite numbers"):
        Pipeline(choking, sources, records.append, settings).run()
    failed = [record["source_id"] for record in records if record.get("event_type") == "SOURCE_FAILED"]
    assert sorted(failed) == ["one", "three"]
    phases = [record["phase"] for record in records if record["type"] == "event" and record["source_id"] == "one"]
    assert phases == ["new", "end"]  # no event is left open


def test_an_infinite_score_is_no_score(choking: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    score = Detector.score
    monkeypatch.setattr(Detector, "score", lambda self, frame: replace(score(self, frame), score=float("inf")))
    summary = RunSummary()
    with pytest.raises(BackendError, match="and so the score inf, expected a finite one"):
        Pipeline(choking, [Levels("one", [128] * 3)], summary=summary).run()
    assert (summary.frames, summary.unscored) == (0, 3)
