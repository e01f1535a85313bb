"""Records: every key in its place, no NaN, no password, times in UTC."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.model.tiling import Tiling
from edge_runtime.scoring.geometry import Geometry
from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.scoring.result import Result
from edge_runtime.sinks.records import frame_record, redact, status_record, to_line
from edge_runtime.sources import CapturedFrame

IMAGE = np.zeros((2, 2), dtype=np.uint8)


@pytest.fixture
def clock_in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is nine hours ahead of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()


def captured(name: str | None = None, t_capture: float = 1_700_000_000.25) -> CapturedFrame:
    return CapturedFrame(IMAGE, 41, t_capture, 12.0, 3.14159, name)


def result(score: float = 1.25) -> Result:
    return Result(
        score=score,
        threshold=1.0,
        is_anomaly=score > 1.0,
        criteria={"reconstruction_error": 2.5, "neg_log_prior": 4.0},
        latents=np.zeros((1, 2), dtype=np.float32),
        anomaly_maps=np.zeros((1, 2, 2), dtype=np.float32),
        tiling=Tiling.covering((2, 2), (2, 2), 0),
        geometry=Geometry.of_input(2, 2),
        heat_scale=HeatScale(),
        latency_ms={"preprocess": 0.12345, "infer": 2.0, "post": 0.01},
    )


def record(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"source_id": "camera:0", "frame": captured(), "result": result()}
    return frame_record(**(facts | changes), t_emit=1_700_000_000.5, age_ms=250.00049, model="ab12")


def test_the_line_of_a_frame_is_pinned() -> None:
    assert to_line(record()) == (
        '{"v":1,"type":"frame","source_id":"camera:0","frame_id":41,"name":null,'
        '"t_capture":"2023-11-14T22:13:20.250Z","t_emit":"2023-11-14T22:13:20.500Z","age_ms":250.0,'
        '"score":1.25,"score_smoothed":1.25,"threshold":1.0,"is_anomaly":true,"state":"anomaly",'
        '"event_id":null,"boxes":null,'
        '"criteria":{"reconstruction_error":2.5,"neg_log_prior":4.0},'
        '"latency_ms":{"capture":3.142,"preprocess":0.123,"infer":2.0,"post":0.01},"model":"sha256:ab12"}\n'
    )


def test_the_line_of_a_status_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.sinks.records.time.time", lambda: 1_700_000_000.5)
    status = status_record("warning", "FRAME_NOT_SCORED", "folder", {"reason": "a.png is empty"})
    assert to_line(status) == (
        '{"v":1,"type":"status","severity":"warning","event_type":"FRAME_NOT_SCORED","source_id":"folder",'
        '"t_emit":"2023-11-14T22:13:20.500Z","payload":{"reason":"a.png is empty"}}\n'
    )


def test_a_normal_frame_says_so() -> None:
    normal = record(result=result(score=0.5))
    assert (normal["is_anomaly"], normal["state"], normal["score"]) == (False, "normal", 0.5)


def test_with_a_smallest_area_a_frame_says_whether_it_is_too_small() -> None:
    size = DefectSize(min_area=Area(12.0, "px"))
    small = record(result=replace(result(), size=size, is_anomaly=False, too_small=True))
    assert (small["is_anomaly"], small["too_small"], small["state"], small["score"]) == (False, True, "normal", 1.25)
    assert record(result=replace(result(), size=size))["too_small"] is False
    assert "too_small" not in record(result=replace(result(), size=DefectSize(mm_per_pixel=0.1)))


def test_a_frame_of_a_file_carries_its_name_on_one_line() -> None:
    line = to_line(record(frame=captured(name="line 3\n/ä.png")))
    assert line.count("\n") == 1
    assert json.loads(line)["name"] == "line 3\n/ä.png"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_line(record(result=result(score)))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (951_827_696.789, "2000-02-29T12:34:56.789Z"),
        (1_700_000_000.9994, "2023-11-14T22:13:20.999Z"),
    ],
)
@pytest.mark.usefixtures("clock_in_tokyo")
def test_times_are_utc_with_milliseconds_and_z(seconds: float, text: str) -> None:
    assert record(frame=captured(t_capture=seconds))["t_capture"] == text


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_time_that_is_not_finite_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"time is {seconds}, expected seconds since the epoch"):
        record(frame=captured(t_capture=seconds))


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.5:554/live", "rtsp://***@10.0.0.5:554/live"),
        ("rtsp://admin@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("http://u:p%40ss@cam/mjpg?x=1", "http://***@cam/mjpg?x=1"),
        ("rtsp://admin:p@ss@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),  # not encoded, but ffmpeg takes it
        ("cannot open rtsp://a:b@x and rtsp://c:d@y", "cannot open rtsp://***@x and rtsp://***@y"),
        ("rtsp://10.0.0.5/user@home", "rtsp://10.0.0.5/user@home"),
        ("camera:0", "camera:0"),
        ("/data/a@b.png", "/data/a@b.png"),
    ],
)
def test_user_and_password_of_a_url_are_redacted(source: str, shown: str) -> None:
    assert redact(source) == shown


def test_a_record_names_its_source_without_the_password() -> None:
    url = "rtsp://admin:secret@10.0.0.5/live"
    assert record(source_id=url)["source_id"] == "rtsp://***@10.0.0.5/live"
    assert status_record("error", "SOURCE_LOST", url, {})["source_id"] == "rtsp://***@10.0.0.5/live"


def test_the_reason_of_a_status_names_the_source_without_the_password() -> None:
    url = "rtsp://admin:secret@10.0.0.5/live"
    status = status_record("error", "SOURCE_LOST", url, {"reason": f"lost {url} after 3 frames"})
    assert "secret" not in to_line(status)


def test_file_names_that_are_no_utf_8_make_lines_that_strict_readers_take() -> None:
    line = to_line(record(frame=captured("pr\udcfcf-\U0001f600.png"), source_id="pr\udcfcf"))
    assert json.loads(line)["name"] == "pr?f-\U0001f600.png"
    assert json.loads(line)["source_id"] == "pr?f"
    assert "\\udcfc" not in line
