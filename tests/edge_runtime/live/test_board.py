"""What the live page shows, and what passes between the two processes."""

from __future__ import annotations

import io
import time
from datetime import datetime, timezone
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.live.board import MOST_EVENTS, MOST_FRAMES, Board, Scores
from edge_runtime.serving.framing import LARGEST, pack, receive, send

SOURCE = "camera:0"


def frame_record(score: float, t: str = "2026-11-25T10:00:00.000Z", **more: Any) -> dict[str, Any]:
    return {
        "type": "frame", "source_id": SOURCE, "t_capture": t, "score": score, "score_smoothed": score, "threshold": 1.0,
        "is_anomaly": score > 1, "state": None, "event_id": None, "frame_id": 3, "age_ms": 1.0, "latency_ms": {},
        "criteria": {}, **more,
    }  # fmt: skip


def event_record(number: int, phase: str = "new") -> dict[str, Any]:
    return {"type": "event", "event_id": f"e{number}", "phase": phase, "source_id": SOURCE, "peak_score": 2.0}


def test_messages_pass_whole_and_in_order() -> None:
    pipe = io.BytesIO()
    send(pipe, {"kind": "a"}, b"body")
    send(pipe, {"kind": "ü"})
    pipe.seek(0)
    assert receive(pipe) == ({"kind": "a"}, b"body")
    assert receive(pipe) == ({"kind": "ü"}, b"")
    assert receive(pipe) is None


def test_a_message_that_is_cut_is_the_end_and_a_monstrous_one_an_error() -> None:
    whole = pack({"kind": "a"}, b"body")
    for n_bytes in range(len(whole)):
        assert receive(io.BytesIO(whole[:n_bytes])) is None
    with pytest.raises(ValueError, match="expected"):
        receive(io.BytesIO((LARGEST).to_bytes(4, "little") + (1).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="no JSON object"):
        receive(io.BytesIO(b"\x02\0\0\0\0\0\0\0[]"))


def test_an_hour_of_scores_is_kept_and_new_ones_are_given_once() -> None:
    scores = Scores()
    for number in range(100):
        scores.add(100.0 * number, float(number), 50.0, now_s=100.0 * number)
    assert len(scores.scores()) == 37  # 3600 seconds and both ends
    assert [row[1] for row in scores.since(97)] == [97.0, 98.0, 99.0]
    assert scores.since(100) == []
    assert len(scores.since(0)) == 37


@pytest.mark.parametrize("set_by_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_the_hour_is_an_hour_however_the_clock_is_set(set_by_s: float) -> None:
    scores = Scores()
    for number in range(100):
        time_of_day = 1.7e9 + 100.0 * number + (set_by_s if number >= 80 else 0.0)
        scores.add(time_of_day, float(number), 50.0, now_s=100.0 * number)
    assert scores.scores().tolist() == [float(number) for number in range(63, 100)]


def test_a_preview_counts_frames_above_and_stretches() -> None:
    board = Board()
    for score in (0.0, 2.0, 2.0, 0.0, 3.0, 0.0):
        board.take({"kind": "record", "record": frame_record(score)}, b"")
    (found,) = board.preview(1.0)
    assert found == {"source_id": SOURCE, "flagged": 3, "frames": 6, "runs": 2}
    assert board.preview(10.0)[0]["flagged"] == 0


def test_the_newest_picture_of_each_source_is_kept_as_jpeg_with_its_map() -> None:
    board = Board()
    image, heat = np.full((20, 30, 3), 90, np.uint8), np.arange(12, dtype=np.uint8).reshape(3, 4)
    header = {"kind": "picture", "source_id": SOURCE, "event_id": None, "frame_id": 7, "shape": [20, 30, 3],
              "map_shape": [3, 4]}  # fmt: skip
    for _ in range(2):
        board.take(header, image.tobytes() + heat.tobytes())
    picture = board.pictures[SOURCE]
    assert (picture.number, picture.frame_id, picture.heat_shape) == (2, 7, (3, 4))
    decoded = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - 90).max() < 4
    assert picture.heat == heat.tobytes()


def test_events_take_their_last_record_and_old_ones_go() -> None:
    board = Board()
    for number in range(MOST_EVENTS + 5):
        board.take({"kind": "record", "record": event_record(number)}, b"")
        board.take({"kind": "frame", "event_id": f"e{number}", "shape": [2, 2]}, b"abcd")
    board.take({"kind": "record", "record": event_record(MOST_EVENTS, "end")}, b"")
    assert len(board.events) == MOST_EVENTS
    assert len(board.frames) == MOST_FRAMES
    assert board.events[f"e{MOST_EVENTS}"].record["phase"] == "end"
    assert next(iter(board.events)) == "e5"


def test_large_frames_are_kept_by_their_bytes_and_the_newest_always() -> None:
    board = Board()
    for number in range(3):
        board.take({"kind": "frame", "event_id": f"e{number}", "shape": [10_000, 8000]}, bytes(80_000_000))
    assert list(board.frames) == ["e2"]


def test_a_week_on_the_board_takes_no_more_room_than_an_hour() -> None:
    """A frame half a minute, an event an hour, the clock set each day."""
    now = [0.0]
    board = Board(clock=lambda: now[0])
    for half_minute in range(7 * 24 * 120):
        now[0] = 30.0 * half_minute
        set_by_s = (-3600.0, 86_400.0)[half_minute // 2880 % 2]
        moment = datetime.fromtimestamp(1.7e9 + now[0] + set_by_s, tz=timezone.utc).isoformat()
        board.take({"kind": "record", "record": frame_record(0.5, moment)}, b"")
        if half_minute % 120 == 0:
            board.take({"kind": "record", "record": event_record(half_minute)}, b"")
            board.take({"kind": "record", "record": {"type": "status", "source_id": SOURCE}}, b"")
        if half_minute > 120:
            assert len(board.scores[SOURCE].scores()) == 121
    assert (len(board.events), len(board.statuses), len(board.latest)) == (168, 100, 1)


def test_a_status_is_as_old_as_it_says_and_one_that_says_nothing_as_it_came() -> None:
    """Records of earlier releases had no t_emit."""
    board, began_s = Board(), time.time()
    said = {"type": "status", "source_id": SOURCE, "t_emit": "2023-11-14T22:13:20.500Z"}
    for record in (said, {"type": "status", "source_id": SOURCE}):
        board.take({"kind": "record", "record": record}, b"")
    assert board.statuses[0]["time"] == 1_700_000_000.5
    assert began_s <= board.statuses[1]["time"] <= time.time()


def test_a_preview_counts_no_frame_that_is_known_to_be_too_small() -> None:
    board = Board()
    for score, small in ((0.5, False), (1.0, True), (2.0, False)):
        board.take({"kind": "record", "record": frame_record(score, too_small=small)}, b"")
    assert board.preview(0.2) == [{"source_id": SOURCE, "flagged": 2, "frames": 3, "runs": 2}]
    assert [row[1] for row in board.scores[SOURCE].since(0)] == [0.5, 1.0, 2.0]
