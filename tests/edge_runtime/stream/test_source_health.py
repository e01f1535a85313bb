"""How a source is, moment by moment, and what is said of it; the clock is the test's."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.errors import SourceError
from edge_runtime.sources import CapturedFrame, FrameSource, TestSource, source_from
from edge_runtime.stream.source_health import SourceHealth
from edge_runtime.stream.summary import FeedCounts
from edge_runtime.watching.guard import Fault

LOST = SourceError("lost rtsp://me:secret@host/live: no data", code="LOST")
BLACK, TORN = Fault("FRAME_BLACK", "black"), Fault("FRAME_TORN", "torn")


def healthy(source: FrameSource | None = None) -> tuple[SourceHealth, FeedCounts]:
    counts = FeedCounts()
    health = SourceHealth(source or TestSource("test://pattern"), counts, stall_timeout_s=5.0, now_s=0.0)
    return health, counts


def frame(number: int) -> CapturedFrame:
    return CapturedFrame(np.zeros((2, 2), np.uint8), number, 0.0, 0.0, 0.0, None)


def said(record: dict[str, Any] | None) -> tuple[str, str, dict[str, Any]]:
    assert record is not None
    return record["severity"], record["event_type"], record["payload"]


def test_a_source_is_up_while_it_is_open_and_not_stalled() -> None:
    health, counts = healthy()
    assert not health.up
    health.opened(1.0, again=False)
    assert health.up
    assert health.good(2.0) is None
    assert health.stall(7.0) is None  # five seconds are not more than five
    reason = {"reason": "no good frame for 5.5 s"}
    assert said(health.stall(7.5)) == ("error", "SOURCE_STALLED", reason)
    assert (health.up, health.stalled, counts.stalls) == (False, True, 1)
    assert health.stall(8.0) is None  # it was told
    assert said(health.good(9.0)) == ("info", "SOURCE_RECOVERED", {"silent_s": 7.0})
    assert health.up
    health.end(None)
    assert not health.up
    assert health.stall(99.0) is None
    assert health.error is None


def test_a_good_frame_that_came_in_between_is_no_stall() -> None:
    health, counts = healthy()
    health.opened(1.0, again=False)
    assert health.is_due_to_stall(6.5)
    health.good(6.6)
    assert health.stall(6.7) is None
    assert (health.up, counts.stalls) == (True, 0)


def test_a_lost_source_says_when_it_is_opened_again_and_recovers_with_its_first_good_frame() -> None:
    health, counts = healthy()
    health.opened(1.0, again=False)
    assert not health.gave_frames
    health.good(2.0)
    assert health.gave_frames
    lost = {"code": "LOST", "reason": "lost rtsp://***@host/live: no data", "retry_s": 1.235}
    assert said(health.failed(LOST, 1.23456)) == ("error", "SOURCE_LOST", lost)
    assert (health.up, health.gave_frames, health.error) == (False, False, None)
    assert said(health.failed(LOST, 2.0))[1] == "SOURCE_OPEN_FAILED"
    stalled = "no good frame for 6.0 s; lost rtsp://***@host/live: no data"
    assert said(health.stall(8.0))[2] == {"reason": stalled}
    health.opened(9.0, again=True)
    assert (health.gave_frames, counts.reconnects) == (False, 1)
    assert health.last_error == "lost rtsp://***@host/live: no data"
    assert said(health.good(10.0)) == ("info", "SOURCE_RECOVERED", {"silent_s": 8.0})
    assert health.last_error is None


def test_a_source_that_is_given_up_keeps_its_error() -> None:
    health, _ = healthy()
    health.opened(1.0, again=False)
    assert "retry_s" not in said(health.failed(LOST, None))[2]
    health.end(None)
    assert health.error is LOST


def test_refused_frames_are_told_once_a_reason_and_when_they_are_over() -> None:
    health, counts = healthy()
    health.opened(1.0, again=False)
    health.good(1.5)
    assert said(health.refuse(BLACK, 7, 2.0)) == ("warning", "FRAME_BLACK", {"frame_id": 7, "reason": "black"})
    assert health.refuse(BLACK, 8, 2.5) is None
    assert said(health.refuse(TORN, 9, 3.0))[1] == "FRAME_TORN"
    assert health.refuse(TORN, 10, 3.5) is None
    assert counts.rejected == {"FRAME_BLACK": 2, "FRAME_TORN": 2}
    assert health.frozen_s(3.5) == 2.0
    good = {"after": "FRAME_TORN", "refused": 2, "seconds": 1.0}
    assert said(health.good(4.0)) == ("info", "FRAMES_GOOD", good)
    health.refuse(BLACK, 12, 4.5)
    refused = "no good frame for 6.0 s; frames come, but are refused: FRAME_BLACK"
    assert said(health.stall(10.0))[2] == {"reason": refused}


def test_a_file_is_up_until_it_ends_with_an_error_and_never_stalls(tmp_path: Any) -> None:
    (tmp_path / "0.png").write_bytes(b"")
    health, _ = healthy(source_from(None, str(tmp_path)))
    assert health.up
    assert health.stall(99.0) is None
    health.end(LOST)
    assert (health.up, health.error) == (False, LOST)
