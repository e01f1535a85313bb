"""Frames on their way from the thread that grabs them to the one that scores them: which are decoded, what waits."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from typing import Any

from edge_runtime.errors import DataError
from edge_runtime.sources.contract import CapturedFrame
from edge_runtime.stream.summary import FeedCounts

__all__ = ["FrameChoice", "Handover", "Taken"]

AHEAD = 2
"""Frames of a file decoded ahead of the scorer."""

CHEAP_DECODE = 0.25
"""Share of a camera's frame period: where decoding takes less, every frame is decoded, so that the newest is ready at
once; where it takes more, only when the scorer waits."""

SMOOTHING = 0.1
"""Weight of the newest time in the mean of the times before it."""

LOOK_S = 0.5
"""How often a wait for room looks whether it has been stopped."""

Taken = CapturedFrame | DataError | dict[str, Any]
"""What a feed gives: a frame, an error for one that cannot be decoded, or the status record of a file."""


class FrameChoice:
    """Which grabbed frames are worth decoding. In the thread that grabs alone."""

    def __init__(self, *, live: bool, every: int) -> None:
        """every: take each n-th frame alone."""
        self._live, self._every = live, every
        self._n_grabbed = 0
        self._last_grab_s: float | None = None
        self._period_s = self._decode_s = 0.0

    def opened(self) -> None:
        """The source was opened: the time since the last grab is no frame period."""
        self._last_grab_s = None

    def grabbed(self, now_s: float) -> None:
        """One more frame was grabbed."""
        if self._last_grab_s is not None:
            self._period_s += SMOOTHING * (now_s - self._last_grab_s - self._period_s)
        self._last_grab_s = now_s
        self._n_grabbed += 1

    def takes(self, *, wanted: bool) -> bool:
        """Whether to decode the frame grabbed last. wanted: whether someone waits for it; a file's frames all are."""
        if (self._n_grabbed - 1) % self._every:
            return False
        return not self._live or wanted or self._decode_s < CHEAP_DECODE * self._period_s

    def decoded(self, took_s: float) -> None:
        """A frame was decoded."""
        self._decode_s += SMOOTHING * (took_s - self._decode_s)


class Handover:
    """Of a live source the newest frame, where it is not too old; of a file everything, in order, a frame or two ahead.

    Methods are called with `ready` held; properties may be read from any thread.
    """

    def __init__(
        self, ready: threading.Condition, counts: FeedCounts, *, live: bool, max_age_ms: float, max_fps: float
    ) -> None:
        """ready: is notified when something can be taken, when there is room, and at the end. max_age_ms: of live
        frames. max_fps: of both; what is too early of a live source is replaced by what comes next, a file waits."""
        self._ready, self._counts = ready, counts
        self._live, self._max_age_ms, self._least_s = live, max_age_ms, 1.0 / max_fps
        self._waiting: deque[Taken] = deque()
        self._wanted = True
        self._closed = False
        self._last_taken_s = -math.inf

    @property
    def wanted(self) -> bool:
        """Whether nothing was put since something was taken: the taker waits, or soon will."""
        return self._wanted

    @property
    def ended(self) -> bool:
        """Whether nothing more will be put, and all that was has been taken."""
        return self._closed and not self._waiting

    def put(self, item: Taken) -> None:
        """Have something taken next, of a live source in place of what waits."""
        if self._live:
            self._counts.skipped += len(self._waiting)
            self._waiting.clear()
        self._waiting.append(item)
        self._wanted = False
        self._ready.notify_all()

    def wait_for_room(self, stop: threading.Event) -> None:
        """Wait until a file's next frame fits, or for the stop."""
        while len(self._waiting) >= AHEAD and not stop.is_set():
            self._ready.wait(LOOK_S)

    def close(self) -> None:
        """Nothing more will be put."""
        self._closed = True
        self._ready.notify_all()

    def due_s(self, now_s: float) -> float:
        """Seconds until what waits may be taken; infinite where nothing waits. now_s: by time.perf_counter."""
        if not self._waiting:
            return math.inf
        # What a file says between two frames costs no score: it comes at once.
        is_frame = isinstance(self._waiting[0], CapturedFrame)
        return max(0.0, self._last_taken_s + self._least_s - now_s) if is_frame or self._live else 0.0

    def take(self) -> Taken | None:
        """What is next; None where there is nothing, or nothing yet. Never waits."""
        if self.due_s(time.perf_counter()) > 0.0:
            return None
        while self._waiting:
            item = self._waiting.popleft()
            self._wanted = True
            self._ready.notify_all()
            if isinstance(item, CapturedFrame):
                now_s = time.perf_counter()
                if self._live and 1000.0 * (now_s - item.grabbed_s) > self._max_age_ms:
                    self._counts.too_old += 1
                    continue
                self._last_taken_s = now_s
            return item
        return None
