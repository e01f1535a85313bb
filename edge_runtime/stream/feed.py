"""One source in a thread of its own: opened, watched, opened again, its newest frame always at hand.

Live sources: the newest frame wins, and only frames that the guard finds good are given. Files: every frame, in order,
decoded ahead by a frame or two.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from edge_runtime.backoff import Backoff
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError, SourceError
from edge_runtime.redact import redact
from edge_runtime.sinks.records import status_record
from edge_runtime.sources.contract import CapturedFrame, FrameSource
from edge_runtime.watching.guard import Fault, FrameGuard, GuardSettings

__all__ = ["Feed", "FeedCounts", "FeedSettings", "Taken"]

logger = logging.getLogger(__name__)

AHEAD = 2
"""Frames of a file decoded ahead of the scorer."""

CHEAP_DECODE = 0.25
"""Share of a camera's frame period: where decoding takes less, every frame is decoded, so that the newest is ready at
once; where it takes more, only when the scorer waits."""


Taken = CapturedFrame | DataError | dict[str, Any]
"""What a feed gives: a frame, an error for one that cannot be decoded, or the status record of a file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedSettings:
    """How a source is kept alive and its frames are chosen."""

    reconnects: float = math.inf
    """Times a live source is opened again after it was lost or did not open, before the run gives it up."""
    backoff: Backoff = field(default_factory=Backoff)
    stall_timeout_s: float = 5.0
    """Seconds without a good frame after which a live source counts as stalled."""
    max_age_ms: float = 1000.0
    """A live frame older than this when its turn comes is dropped."""
    every: int = 1
    """Take each n-th frame alone."""
    max_fps: float = math.inf
    """Take a live source's frames at most so often a second."""
    guard: GuardSettings | None = None
    """None: everything is checked on live sources, nothing on files."""

    def __post_init__(self) -> None:
        if self.reconnects < 0 or self.every < 1 or not self.stall_timeout_s > 0:
            raise ConfigError(
                f"reconnects {self.reconnects}, every {self.every}, stall timeout {self.stall_timeout_s} s: expected "
                "0 or more, 1 or more, and above 0"
            )
        if not (self.max_age_ms > 0 and self.max_fps > 0):
            raise ConfigError(f"max age {self.max_age_ms} ms, max fps {self.max_fps}: expected numbers above 0")


@dataclass(slots=True)
class FeedCounts:
    """What a source came to so far."""

    grabbed: int = 0
    skipped: int = 0
    """Not wanted: a newer frame came first, or every / max_fps left it out."""
    too_old: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """By the guard, by fault."""
    reconnects: int = 0
    stalls: int = 0


class Feed:
    """Frames of one source. start, then take until `ended`; stop from any thread."""

    def __init__(
        self,
        source: FrameSource,
        settings: FeedSettings,
        report: Callable[[dict[str, Any]], None],
        ready: threading.Condition,
        *,
        seed: int | None = None,
    ) -> None:
        """report: takes status records, from any thread. ready: notified when a frame or the end is there."""
        self.source = source
        self.counts = FeedCounts()
        self.error: EdgeAaeError | None = None
        """Why the source was given up; None while it lives and after a file's end."""
        self.connected = False
        self.last_error: str | None = None
        self._settings = settings
        self._report = report
        self._ready = ready
        self._rng = random.Random(seed)
        guard = settings.guard or (GuardSettings() if source.live else None)
        self._guard = FrameGuard(replace(guard, inter_coded=source.inter_coded)) if guard else None
        self._stop = threading.Event()
        self._frames: deque[Taken] = deque()
        self._wanted = True
        self._ended = False
        self._last_good_s = self._opened_s = time.perf_counter()
        self._last_taken_s = -math.inf
        self._stalled_since_s: float | None = None
        self._fault: tuple[str, int, float] | None = None
        self._period_s = self._decode_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"feed {redact(source.source_id)}", daemon=True)

    def start(self) -> None:
        """Open the source and begin to grab, in the feed's thread."""
        self._last_good_s = time.perf_counter()
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread and close the source; a grab that hangs for ever is left behind after the timeout."""
        self._stop.set()
        with self._ready:
            self._ready.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.warning("%s hangs within a grab; it is left behind", redact(self.source.source_id))

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more; frames already there can still be taken."""
        return self._ended and not self._frames

    @property
    def stalled(self) -> bool:
        """Whether a live source has given no good frame for longer than the stall timeout."""
        return self._stalled_since_s is not None

    @property
    def last_good_age_s(self) -> float:
        """Seconds since the last good frame, or since the start."""
        return time.perf_counter() - self._last_good_s

    def take(self) -> Taken | None:
        """The next frame, an error for one that cannot be decoded, or None where there is none yet. Never waits.

        What befell a file comes as a status record in its place. Call with `ready` held.
        """
        live = self.source.live
        if live and time.perf_counter() - self._last_taken_s < 1.0 / self._settings.max_fps:
            return None
        while self._frames:
            item = self._frames.popleft()
            self._wanted = True
            self._ready.notify_all()
            if live and isinstance(item, CapturedFrame):
                if 1000.0 * (time.perf_counter() - item.grabbed_s) > self._settings.max_age_ms:
                    self.counts.too_old += 1
                    continue
                self._last_taken_s = time.perf_counter()
            return item
        return None

    def watch(self) -> None:
        """Notice a stall; called a few times a second by whoever takes the frames, because a grab can hang."""
        if not self.source.live or self._ended or self._stalled_since_s is not None:
            return
        silent_s = self.last_good_age_s
        if silent_s > self._settings.stall_timeout_s:
            self._stalled_since_s = self._last_good_s
            self.counts.stalls += 1
            reason = f"no good frame for {silent_s:.1f} s"
            if self._fault:
                reason += f"; frames come, but are refused: {self._fault[0]}"
            elif self.last_error:
                reason += f"; {self.last_error}"
            self._say("error", "SOURCE_STALLED", reason=reason)

    def _run(self) -> None:
        failures = 0
        try:
            while not self._stop.is_set():
                try:
                    self.source.open()
                    self._opened_s = time.perf_counter()
                    if failures:
                        self.counts.reconnects += 1
                    self.connected = True
                    self._grab_all()
                    return
                except SourceError as error:
                    lost, self.connected = self.connected, False
                    failures = 1 if self._last_good_s > self._opened_s and lost else failures + 1
                    if not self._again(error, failures, lost=lost):
                        return
                finally:
                    self.source.close()
        except EdgeAaeError as error:
            self.error = error
        except Exception as error:  # a broken source must end as an error, not leave the run waiting
            logger.exception("source %s failed", redact(self.source.source_id))
            self.error = SourceError(f"source {redact(self.source.source_id)} failed: {error}", code="FAILED")
        finally:
            self.connected = False
            with self._ready:
                self._ended = True
                self._ready.notify_all()

    def _again(self, error: SourceError, failures: int, *, lost: bool) -> bool:
        """Report a failure and wait; False where the source is given up."""
        self.last_error = redact(str(error))
        event = "SOURCE_LOST" if lost else "SOURCE_OPEN_FAILED"
        if not self.source.live or failures > self._settings.reconnects:
            self._say("error", event, code=error.code, reason=str(error))
            self.error = error
            return False
        wait_s = self._settings.backoff.wait_s(failures, self._rng)
        self._say("error", event, code=error.code, reason=str(error), retry_s=round(wait_s, 3))
        logger.warning("%s; trying again in %.1f s", redact(str(error)), wait_s)
        return not self._stop.wait(wait_s)

    def _grab_all(self) -> None:
        """Until the end of a file or the stop; raises SourceError where the source is lost."""
        last_grab_s = 0.0
        while not self._stop.is_set():
            if not self._wait_for_room():
                return
            if not self.source.grab():
                return
            now_s = time.perf_counter()
            if last_grab_s:
                self._period_s += 0.1 * (now_s - last_grab_s - self._period_s)
            last_grab_s = now_s
            self.counts.grabbed += 1
            if (self.counts.grabbed - 1) % self._settings.every:
                self.counts.skipped += 1
            elif self._to_decode():
                self._decode()
            else:
                self.counts.skipped += 1

    def _wait_for_room(self) -> bool:
        if self.source.live:
            return True
        with self._ready:
            while len(self._frames) >= AHEAD and not self._stop.is_set():
                self._ready.wait(0.5)
        return not self._stop.is_set()

    def _to_decode(self) -> bool:
        """Whether this frame is worth decoding: a live frame that nobody waits for may not be."""
        return not self.source.live or self._wanted or self._decode_s < CHEAP_DECODE * self._period_s

    def _decode(self) -> None:
        started_s = time.perf_counter()
        try:
            item: CapturedFrame | DataError = self.source.retrieve()
        except DataError as error:
            item = error
        self._decode_s += 0.1 * (time.perf_counter() - started_s - self._decode_s)
        if isinstance(item, CapturedFrame):
            fault = self._guard.check(item.image) if self._guard else None
            if fault:
                self._refuse(fault, item)
                return
            self._good()
        with self._ready:
            if self.source.live:
                self.counts.skipped += len(self._frames)
                self._frames.clear()
            self._frames.append(item)
            self._wanted = False
            self._ready.notify_all()

    def _refuse(self, fault: Fault, frame: CapturedFrame) -> None:
        now_s = time.perf_counter()
        self.counts.rejected[fault.code] = self.counts.rejected.get(fault.code, 0) + 1
        if self._fault is None or self._fault[0] != fault.code:
            self._say("warning", fault.code, frame_id=frame.frame_id, reason=fault.reason)
            self._fault = (fault.code, 0, now_s)
        self._fault = (fault.code, self._fault[1] + 1, self._fault[2])
        frozen_s = now_s - max(self._last_good_s, self._opened_s)
        if self.source.live and fault.code == "FRAME_REPEATED" and frozen_s > self._settings.stall_timeout_s:
            self.watch()
            raise SourceError(
                f"{redact(self.source.source_id)} has repeated one frame for {frozen_s:.1f} s; it is opened again",
                code="STALLED",
            )

    def _good(self) -> None:
        now_s = time.perf_counter()
        since_s, fault = self._stalled_since_s, self._fault
        self._last_good_s, self._stalled_since_s, self._fault = now_s, None, None
        if since_s is not None or self.last_error is not None:
            self.last_error = None
            self._say("info", "SOURCE_RECOVERED", silent_s=round(now_s - (since_s or self._opened_s), 3))
        elif fault is not None:
            self._say("info", "FRAMES_GOOD", after=fault[0], refused=fault[1], seconds=round(now_s - fault[2], 3))

    def _say(self, severity: Any, event_type: str, **payload: Any) -> None:
        record = status_record(severity, event_type, self.source.source_id, payload)
        if self.source.live:
            self._report(record)
            return
        with self._ready:
            # After the frames that came before it, which are still to be scored.
            self._frames.append(record)
            self._ready.notify_all()
