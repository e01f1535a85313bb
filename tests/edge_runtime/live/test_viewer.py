"""What one viewer is sent: everything at first, from then on what is new to it, and a word now and then."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.live.board import Board
from edge_runtime.live.feedback import Feedback
from edge_runtime.live.viewer import TELL_S, Viewer
from edge_runtime.scoring.regions import Region
from edge_runtime.serving.framing import receive

SOURCE = "camera:0"


def told(messages: list[bytes]) -> list[dict[str, Any]]:
    """The messages' headers."""
    stream = io.BytesIO(b"".join(messages))
    found = []
    while (message := receive(stream)) is not None:
        found.append(message[0])
    return found


def record(score: float, frame_id: int) -> dict[str, Any]:
    return {
        "type": "frame", "source_id": SOURCE, "t_capture": "2026-11-25T10:00:00.000Z", "score": score,
        "score_smoothed": None, "threshold": 1.0, "is_anomaly": score > 1, "state": "normal", "event_id": None,
        "frame_id": frame_id, "age_ms": 1.0, "latency_ms": {}, "criteria": {},
    }  # fmt: skip


@pytest.fixture
def board() -> Board:
    return Board(state={"usual": {"n": 2}, "model": "m.aae"})


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    return Feedback(tmp_path)


def test_a_new_viewer_is_sent_the_board_and_a_quiet_one_a_word_now_and_then(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()
    first, here = told(viewer.news(board, feedback, 0.0))
    assert first == {
        "kind": "board", "may_change": True, "state": {"model": "m.aae", "has_rates": True}, "events": [],
        "statuses": [], "not_kept": "",
        "feedback": {"good": 0, "defects": 0, "command": f"edge-aae train PHOTOS --feedback {feedback.folder}"},
    }  # fmt: skip
    assert here == {"kind": "still here", "run_silent_s": 0.0, "ages_s": {}}
    assert viewer.news(board, feedback, TELL_S - 0.1) == []
    assert [one["kind"] for one in told(viewer.news(board, feedback, TELL_S))] == ["still here"]
    assert viewer.news(board, feedback, TELL_S + 0.1) == []


def test_a_viewer_is_told_how_long_the_run_and_each_source_are_silent(feedback: Feedback) -> None:
    now = [100.0]
    board, viewer = Board(clock=lambda: now[0]), Viewer()
    board.take({"kind": "record", "record": record(0.5, 1)}, b"")
    now[0] = 102.0
    board.take({"kind": "state", "state": {"model": "m.aae"}}, b"")
    now[0] = 109.0
    here = told(viewer.news(board, feedback, 0.0))[-1]
    assert here == {"kind": "still here", "run_silent_s": 7.0, "ages_s": {SOURCE: 9.001}}


def test_what_stands_beside_a_picture_is_of_its_own_frame(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()
    board.take({"kind": "record", "record": record(0.5, 1)}, b"")
    header = {"kind": "picture", "source_id": SOURCE, "event_id": None, "frame_id": 1, "record": record(0.5, 1)}
    board.take({**header, "shape": [4, 6, 3], "map_shape": [2, 3]}, bytes(4 * 6 * 3) + bytes(6))
    board.take({"kind": "record", "record": record(2.0, 2)}, b"")
    news = {one["kind"]: one for one in told(viewer.news(board, feedback, 0.0))}
    assert news["scores"]["sources"][SOURCE]["frame_id"] == 2
    beside = news["picture"]["told"]
    assert (news["picture"]["frame_id"], beside["frame_id"], beside["shown_score"]) == (1, 1, 0.5)


def test_a_page_in_the_background_is_sent_no_pictures(board: Board, feedback: Feedback) -> None:
    viewer = Viewer(pictures=False)
    header = {"kind": "picture", "source_id": SOURCE, "event_id": None, "frame_id": 1, "record": record(0.5, 1)}
    board.take({**header, "shape": [4, 6, 3], "map_shape": [2, 3]}, bytes(4 * 6 * 3) + bytes(6))
    assert [one["kind"] for one in told(viewer.news(board, feedback, 0.0))] == ["board", "still here"]


def test_scores_come_once_to_each_viewer(board: Board, feedback: Feedback) -> None:
    early, late = Viewer(), Viewer()
    early.news(board, feedback, 0.0)
    board.take({"kind": "record", "record": record(0.5, 1)}, b"")
    (one,) = told(early.news(board, feedback, 0.1))
    assert [row[1] for row in one["sources"][SOURCE]["scores"]] == [0.5]
    board.take({"kind": "record", "record": record(2.0, 2)}, b"")
    (two,) = told(early.news(board, feedback, 0.2))
    assert [row[1] for row in two["sources"][SOURCE]["scores"]] == [2.0]
    assert (two["sources"][SOURCE]["frame_id"], two["sources"][SOURCE]["scored"]) == (2, 2)
    assert early.news(board, feedback, 0.3) == []
    whole, both, _ = told(late.news(board, feedback, 0.3))
    assert whole["kind"] == "board"
    assert [row[1] for row in both["sources"][SOURCE]["scores"]] == [0.5, 2.0]


def test_of_pictures_a_viewer_gets_the_newest_alone(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()
    viewer.news(board, feedback, 0.0)
    for frame_id in (1, 2):
        header = {"kind": "picture", "source_id": SOURCE, "event_id": None, "frame_id": frame_id,
                  "record": record(0.5, frame_id)}  # fmt: skip
        board.take({**header, "shape": [4, 6, 3], "map_shape": [2, 3]}, bytes(4 * 6 * 3) + bytes(range(6)))
    (message,) = viewer.news(board, feedback, 0.1)
    received = receive(io.BytesIO(message))
    assert received is not None
    header, body = received
    assert (header["kind"], header["frame_id"], header["map_shape"]) == ("picture", 2, [2, 3])
    assert body[header["n_jpeg"] :] == bytes(range(6))
    assert viewer.news(board, feedback, 0.2) == []


def test_an_answer_to_an_event_shows_where_the_board_counted_on(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()
    event = {"type": "event", "event_id": "e1", "phase": "new", "source_id": SOURCE, "peak_score": 2.0}
    board.take({"kind": "record", "record": event}, b"")
    before = told(viewer.news(board, feedback, 0.0))[0]
    assert [(one["event_id"], one["answer"], one["picture"]) for one in before["events"]] == [("e1", "", False)]
    feedback.add("e1", SOURCE, 2.0, "wrong", np.zeros((4, 4, 3), np.uint8))
    board.number += 1
    (after,) = told(viewer.news(board, feedback, 0.1))
    assert [one["answer"] for one in after["events"]] == ["wrong"]


def test_a_viewer_is_told_how_large_regions_are(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()

    def seen(**more: Any) -> tuple[str, bool]:
        board.take({"kind": "record", "record": {**record(2.0, 1), **more}}, b"")
        (source,) = next(one for one in told(viewer.news(board, feedback, 0.1)) if "sources" in one)["sources"].values()
        return source["regions"], source["too_small"]

    small = Region(1, 2, 3, 3, 0.5, 9, 0.36).to_json()
    large = Region(9, 2, 9, 9, 0.4, 60, 2.4).to_json()
    assert seen() == seen(boxes=None) == seen(boxes=[]) == ("", False)
    assert seen(boxes=[small, large]) == ("2 regions, the largest of 2.4 mm2", False)
    assert seen(boxes=[{**small, "area_mm2": None}]) == ("1 region of 9 px", False)
    assert seen(boxes=[], too_small=True) == ("", True)


def test_a_viewer_is_told_what_is_wrong_with_a_picture(board: Board, feedback: Feedback) -> None:
    viewer = Viewer()

    def seen(**more: Any) -> str:
        board.take({"kind": "record", "record": {**record(2.0, 1), **more}}, b"")
        (source,) = next(one for one in told(viewer.news(board, feedback, 0.1)) if "sources" in one)["sources"].values()
        return str(source["image_quality"])

    faults = [{"what": "dark", "value": 3.0, "limit": 5.0}, {"what": "lens spot", "value": 0.01}]
    assert seen() == seen(image_quality=None) == ""
    assert seen(image_quality={"code": "IMAGE_QUALITY", "faults": faults}) == "dark, lens spot"
