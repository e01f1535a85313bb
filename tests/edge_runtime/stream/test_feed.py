"""One source in its thread: newest frame, bounded age, reconnects without a leak, every frame of a file."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.backoff import Backoff
from edge_runtime.errors import ConfigError, DataError, SourceError
from edge_runtime.model.images import write_image
from edge_runtime.sources import CapturedFrame, FrameSource, TestSource, source_from
from edge_runtime.stream.feed import Feed, FeedSettings
from edge_runtime.stream.handover import Taken
from edge_runtime.watching.guard import GuardSettings
from tests.edge_runtime.waiting import wait_until

QUICK = Backoff(first_s=0.001, most_s=0.002)


@contextmanager
def feeding(source: FrameSource, **settings: Any) -> Iterator[tuple[Feed, list[dict[str, Any]], threading.Condition]]:
    statuses: list[dict[str, Any]] = []
    ready = threading.Condition()
    feed = Feed(source, FeedSettings(**{"backoff": QUICK, **settings}), statuses.append, ready, seed=0)
    feed.start()
    try:
        yield feed, statuses, ready
    finally:
        feed.stop()
        feed.join(1.0)


def next_of(feed: Feed, ready: threading.Condition, timeout_s: float = 20.0) -> Taken | None:
    """The next thing the feed gives; None at its end."""
    deadline = time.monotonic() + timeout_s
    with ready:
        while True:
            item = feed.take()
            if item is not None or feed.ended:
                return item
            assert time.monotonic() < deadline
            ready.wait(0.05)


class Snapshot(TestSource):
    """One frame, then none, whenever it is opened."""

    def __init__(self) -> None:
        super().__init__("test://pattern?fps=500&width=16&height=16")
        self.opened = self._given = 0

    def open(self) -> None:
        super().open()
        self.opened, self._given = self.opened + 1, 0

    def grab(self) -> bool:
        if self._given:
            raise SourceError("lost the picture after 1 frames: it gives no frame any more", code="LOST")
        self._given = 1
        return super().grab()


def test_a_file_gives_every_frame_to_a_slow_taker(tmp_path: Path) -> None:
    for index in range(6):
        write_image(tmp_path / f"{index}.png", np.full((4, 6), index, dtype=np.uint8))
    with feeding(source_from(None, str(tmp_path))) as (feed, statuses, ready):
        taken = []
        while (item := next_of(feed, ready)) is not None:
            time.sleep(0.01)
            assert isinstance(item, CapturedFrame)
            taken.append(int(item.image[0, 0]))
    assert taken == list(range(6))
    assert (feed.counts.grabbed, feed.counts.skipped, statuses) == (6, 0, [])


def test_an_unreadable_file_comes_as_an_error_in_its_place(tmp_path: Path) -> None:
    for index in range(3):
        write_image(tmp_path / f"{index}.png", np.full((4, 6), index, dtype=np.uint8))
    (tmp_path / "1.png").write_bytes(b"no image")
    with feeding(source_from(None, str(tmp_path))) as (feed, _, ready):
        kinds = [type(next_of(feed, ready)) for _ in range(4)]
    assert kinds == [CapturedFrame, DataError, CapturedFrame, type(None)]


def test_a_slow_taker_gets_the_newest_frame_of_a_live_source() -> None:
    with feeding(TestSource("test://pattern?fps=200&width=64&height=48")) as (feed, _, ready):
        ids, ages_s = [], []
        for _ in range(5):
            time.sleep(0.1)
            item = next_of(feed, ready)
            assert isinstance(item, CapturedFrame)
            ids.append(item.frame_id)
            ages_s.append(time.perf_counter() - item.grabbed_s)
    # A taker twenty times slower than the camera: it gets one frame in about twenty, not the next of a queue.
    assert (np.diff(ids) > 3).all()
    assert feed.counts.skipped > 20
    assert np.median(ages_s) < 0.09


def test_a_frame_that_has_grown_old_is_dropped() -> None:
    with feeding(TestSource("test://pattern?fps=50&frames=1&width=64&height=48"), max_age_ms=20.0) as (feed, _, ready):
        wait_until(lambda: feed.counts.grabbed == 1)
        time.sleep(0.1)
        assert next_of(feed, ready) is None
    assert feed.counts.too_old == 1


def test_every_and_max_fps_leave_frames_out() -> None:
    with feeding(TestSource("test://pattern?fps=200&frames=40&width=64&height=48"), every=4) as (feed, _, ready):
        ids = []
        while (item := next_of(feed, ready)) is not None:
            assert isinstance(item, CapturedFrame)
            ids.append(item.frame_id)
    assert all(frame_id % 4 == 0 for frame_id in ids)
    started_s = time.perf_counter()
    with feeding(TestSource("test://pattern?fps=200&width=64&height=48"), max_fps=20.0) as (feed, _, ready):
        for _ in range(5):
            next_of(feed, ready)
    assert time.perf_counter() - started_s >= 4 / 20.0


def test_max_fps_makes_a_file_wait_and_leaves_nothing_out(tmp_path: Path) -> None:
    for index in range(5):
        write_image(tmp_path / f"{index}.png", np.full((4, 6), index, dtype=np.uint8))
    started_s = time.perf_counter()
    with feeding(source_from(None, str(tmp_path)), max_fps=20.0) as (feed, _, ready):
        ids = []
        while (item := next_of(feed, ready)) is not None:
            assert isinstance(item, CapturedFrame)
            ids.append(item.frame_id)
    assert time.perf_counter() - started_s >= 4 / 20.0
    assert ids == [0, 1, 2, 3, 4]
    assert feed.counts.skipped == 0


def test_a_hundred_reconnects_leave_no_descriptor_and_no_thread_behind() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    source = TestSource("test://disconnect?fps=500&at=0&for=0.004&every=0.008&width=16&height=16")
    with feeding(source, max_age_ms=1e9) as (feed, statuses, _):
        wait_until(lambda: feed.counts.reconnects >= 3)
        before = descriptors(), threading.active_count()
        wait_until(lambda: feed.counts.reconnects >= 100)
        assert (descriptors(), threading.active_count()) == before
    assert {record["event_type"] for record in statuses} <= {"SOURCE_LOST", "SOURCE_OPEN_FAILED", "SOURCE_RECOVERED"}


@pytest.mark.parametrize("reconnects", [0, 1, 3])
def test_a_source_that_gives_one_frame_each_time_is_opened_again_as_often_as_asked(reconnects: int) -> None:
    """As the address of a single picture is."""
    source = Snapshot()
    with feeding(source, reconnects=reconnects, guard=GuardSettings(checks=())) as (feed, statuses, ready):
        n_frames = 0
        while n_frames < 20 and next_of(feed, ready) is not None:
            n_frames += 1
    assert source.opened == n_frames == 1 + reconnects
    assert [record["event_type"] for record in statuses].count("SOURCE_LOST") == 1 + reconnects


def test_a_source_that_breaks_ends_with_an_error_and_not_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    source = TestSource("test://pattern?fps=100&width=16&height=16")
    source.retrieve = lambda: 1 // 0  # type: ignore[assignment, return-value]
    with feeding(source) as (feed, _, ready):
        assert next_of(feed, ready) is None
    assert feed.error is not None
    assert "failed: integer division or modulo by zero" in str(feed.error)


@pytest.mark.parametrize("attempt", [1, 2, 3, 6, 7, 1000])
def test_waits_double_up_to_the_most_with_jitter(attempt: int) -> None:
    plain = {1: 1.0, 2: 2.0, 3: 4.0, 6: 30.0, 7: 30.0, 1000: 30.0}[attempt]
    waits = [Backoff().wait_s(attempt, random.Random(seed)) for seed in range(200)]
    assert 0.75 * plain <= min(waits) < 0.85 * plain
    assert 1.15 * plain < max(waits) <= 1.25 * plain


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="--backoff is 5:1, expected FIRST:MOST seconds"):
        Backoff(first_s=5.0, most_s=1.0)
    with pytest.raises(ConfigError, match="--stall-timeout is 0, expected seconds above 0"):
        FeedSettings(stall_timeout_s=0)
    with pytest.raises(ConfigError, match="--max-fps is 0"):
        FeedSettings(max_fps=0)
