"""Which frames are decoded, and what the taker gets of them."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.sources import CapturedFrame
from edge_runtime.stream.handover import AHEAD, FrameChoice, Handover
from edge_runtime.stream.summary import FeedCounts


def frame(number: int, age_s: float = 0.0) -> CapturedFrame:
    return CapturedFrame(np.zeros((2, 2), np.uint8), number, 0.0, time.perf_counter() - age_s, 0.0, None)


@pytest.fixture
def ready() -> Iterator[threading.Condition]:
    """Held."""
    condition = threading.Condition()
    with condition:
        yield condition


def handover(ready: threading.Condition, *, live: bool, max_age_ms: float = 1e9) -> tuple[Handover, FeedCounts]:
    counts = FeedCounts()
    return Handover(ready, counts, live=live, max_age_ms=max_age_ms, max_fps=math.inf), counts


def test_the_newest_of_live_frames_is_taken(ready: threading.Condition) -> None:
    waiting, counts = handover(ready, live=True)
    assert (waiting.wanted, waiting.take()) == (True, None)
    for number in range(3):
        waiting.put(frame(number))
    assert not waiting.wanted
    taken = waiting.take()
    assert isinstance(taken, CapturedFrame)
    assert (taken.frame_id, counts.skipped, waiting.wanted) == (2, 2, True)
    assert waiting.take() is None


def test_a_live_frame_that_is_too_old_is_counted_and_an_error_is_not_judged_by_age(ready: threading.Condition) -> None:
    waiting, counts = handover(ready, live=True, max_age_ms=1000.0)
    waiting.put(frame(0, age_s=1.5))
    assert (waiting.take(), counts.too_old, waiting.wanted) == (None, 1, True)
    error = DataError("cannot decode")
    waiting.put(error)
    assert waiting.take() is error


def test_everything_of_a_file_is_taken_in_order_whatever_its_age(ready: threading.Condition) -> None:
    waiting, counts = handover(ready, live=False, max_age_ms=1.0)
    put = [frame(0, age_s=9.0), {"type": "status"}, DataError("cannot decode"), frame(1)]
    for item in put:
        waiting.put(item)
    waiting.close()
    assert not waiting.ended
    taken = [waiting.take() for _ in put]
    assert all(got is given for got, given in zip(taken, put, strict=True))
    assert waiting.ended
    assert (counts.skipped, counts.too_old) == (0, 0)


def test_what_befell_a_file_comes_at_once_and_its_frames_when_they_are_due(ready: threading.Condition) -> None:
    waiting = Handover(ready, FeedCounts(), live=False, max_age_ms=1000.0, max_fps=0.01)
    assert waiting.due_s(time.perf_counter()) == math.inf
    put = [frame(0), {"type": "status"}, DataError("cannot decode"), frame(1)]
    for item in put:
        waiting.put(item)
    assert [waiting.take() for _ in put] == [*put[:3], None]
    now_s = time.perf_counter()
    assert 0.0 < waiting.due_s(now_s) <= 100.0
    assert waiting.due_s(now_s + 100.0) == 0.0


def test_a_wait_for_room_ends_with_room_or_the_stop(ready: threading.Condition) -> None:
    waiting, _ = handover(ready, live=False)
    stop = threading.Event()
    for number in range(AHEAD):
        waiting.wait_for_room(stop)
        waiting.put(frame(number))
    stop.set()
    waiting.wait_for_room(stop)
    stop.clear()
    waiting.take()
    waiting.wait_for_room(stop)


def test_what_is_changed_without_the_lock_is_an_error() -> None:
    waiting, _ = handover(threading.Condition(), live=True)
    with pytest.raises(RuntimeError, match="un-acquired lock"):
        waiting.put(frame(0))


def grabs(choice: FrameChoice, times_s: list[float], *, wanted: bool) -> list[bool]:
    taken = []
    for time_s in times_s:
        choice.grabbed(time_s)
        taken.append(choice.takes(wanted=wanted))
    return taken


def test_each_nth_frame_is_decoded_and_reopening_does_not_begin_anew() -> None:
    choice = FrameChoice(live=True, every=3)
    choice.opened()
    assert grabs(choice, [0.0, 0.1, 0.2, 0.3], wanted=True) == [True, False, False, True]
    choice.opened()
    assert grabs(choice, [9.0, 9.1, 9.2], wanted=True) == [False, False, True]


@pytest.mark.parametrize(
    ("decode_s", "taken"), [pytest.param(0.024, True, id="cheap"), pytest.param(0.026, False, id="dear")]
)
def test_a_live_frame_that_nobody_waits_for_is_decoded_where_that_is_cheap(decode_s: float, taken: bool) -> None:
    choice = FrameChoice(live=True, every=1)
    assert grabs(choice, [0.0], wanted=False) == [False]  # nothing is known yet
    for number in range(1, 200):
        choice.grabbed(0.1 * number)
        choice.decoded(decode_s)  # a quarter of the period is 25 ms
    assert choice.takes(wanted=False) is taken
    assert choice.takes(wanted=True)


def test_every_frame_of_a_file_is_decoded() -> None:
    assert grabs(FrameChoice(live=False, every=1), [0.0, 0.1, 0.2], wanted=False) == [True] * 3


def test_the_time_while_a_source_was_away_is_no_frame_period() -> None:
    choice = FrameChoice(live=True, every=1)
    for number in range(200):
        choice.grabbed(0.1 * number)
        choice.decoded(0.026)
    choice.opened()
    choice.grabbed(1e6)
    assert not choice.takes(wanted=False)
