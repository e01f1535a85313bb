"""One source in a thread of its own: opened, watched, opened again, its newest frame always at hand.

Live sources: the newest frame wins, and only frames that the guard finds good are given. Files: every frame, in order,
decoded ahead by a frame or two.

Two things stand between the feed's thread and who takes the frames: what waits (handover.py) and how the source is
(source_health.py). Both change with `ready` held alone, so that a frame and what is said of it come in order.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.backoff import Backoff
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError, SourceError, TornFrameError
from edge_runtime.redact import redact
from edge_runtime.sources.contract import CapturedFrame, FrameSource
from edge_runtime.stream.handover import FrameChoice, Handover, Taken
from edge_runtime.stream.source_health import SourceHealth
from edge_runtime.stream.summary import FeedCounts
from edge_runtime.watching.guard import Fault, FrameGuard, GuardSettings

__all__ = ["Feed", "FeedSettings"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedSettings:
    """How a source is kept alive and its frames are chosen."""

    reconnects: float = math.inf
    """Times in all that a live source is opened again after it was lost or did not open, before the run gives it up:
    one that gives a frame each time, such as the address of a single picture, is no exception."""
    backoff: Backoff = field(default_factory=Backoff)
    stall_timeout_s: float = 5.0
    """Seconds without a good frame after which a live source counts as stalled."""
    max_age_ms: float = 1000.0
    """A live frame older than this when its turn comes is dropped."""
    every: int = 1
    """Take each n-th frame alone."""
    max_fps: float = math.inf
    """Take a source's frames at most so often a second: of a live one the others are passed over, a file waits."""
    guard: GuardSettings | None = None
    """None: everything is checked on live sources, nothing on files."""

    def __post_init__(self) -> None:
        for option, value, wanted, fits in (
            ("--reconnect", self.reconnects, "0 or more", self.reconnects >= 0),
            ("--every", self.every, "1 or more", self.every >= 1),
            ("--stall-timeout", self.stall_timeout_s, "seconds above 0", self.stall_timeout_s > 0),
            ("--max-age-ms", self.max_age_ms, "a number above 0", self.max_age_ms > 0),
            ("--max-fps", self.max_fps, "a number above 0", self.max_fps > 0),
        ):
            if not fits:
                raise ConfigError(f"{option} is {value:g}, expected {wanted}")


class Feed:
    """Frames of one source. start, then take until `ended`; stop from any thread, then join."""

    def __init__(
        self,
        source: FrameSource,
        settings: FeedSettings,
        report: Callable[[dict[str, Any]], None],
        ready: threading.Condition,
        *,
        seed: int | None = None,
    ) -> None:
        """report: takes status records, from any thread and with `ready` held, so that it must be quick. ready:
        notified when a frame or the end is there."""
        self.source = source
        self.counts = FeedCounts()
        self.health = SourceHealth(
            source, self.counts, stall_timeout_s=settings.stall_timeout_s, now_s=time.perf_counter()
        )
        self._settings = settings
        self._report = report
        self._ready = ready
        self._handover = Handover(
            ready, self.counts, live=source.live, max_age_ms=settings.max_age_ms, max_fps=settings.max_fps
        )
        self._choice = FrameChoice(live=source.live, every=settings.every)
        self._retries = _Retries(settings, live=source.live, seed=seed)
        guard = settings.guard or (GuardSettings() if source.live else None)
        self._guard = FrameGuard(guard) if guard else None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feed {redact(source.source_id)}", daemon=True)

    @property
    def stall_timeout_s(self) -> float | None:
        """Seconds without a good frame after which the source counts as stalled; None of files, which never do."""
        return self._settings.stall_timeout_s if self.source.live else None

    def start(self) -> None:
        """Open the source and begin to grab, in the feed's thread."""
        with self._ready:
            self.health.start(time.perf_counter())
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end: the thread closes the source and ends."""
        self._stop.set()
        with self._ready:
            self._ready.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the end; a grab that hangs for ever is left behind after the timeout."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
            if self._thread.is_alive():
                logger.warning("%s hangs within a grab; it is left behind", redact(self.source.source_id))

    @property
    def ended(self) -> bool:
        """Whether no frame will come any more, and those that came were taken."""
        return self._handover.ended

    @property
    def error(self) -> EdgeAaeError | None:
        """Why the source was given up; None while it lives and after a file's end."""
        return self.health.error

    @property
    def last_good_age_s(self) -> float:
        """Seconds since the last good frame, or since the start."""
        return self.health.silent_s(time.perf_counter())

    def take(self) -> Taken | None:
        """The next frame, an error for one that cannot be decoded, or None where there is none yet. Never waits.

        What befell a file comes as a status record in its place. Call with `ready` held.
        """
        return self._handover.take()

    def due_s(self) -> float:
        """Seconds until what waits may be taken; infinite where nothing does. Call with `ready` held."""
        return self._handover.due_s(time.perf_counter())

    def watch(self) -> None:
        """Notice a stall; called a few times a second by whoever takes the frames, because a grab can hang."""
        if not self.health.is_due_to_stall(time.perf_counter()):
            return
        with self._ready:
            self._say(self.health.stall(time.perf_counter()))

    def _run(self) -> None:
        error: EdgeAaeError | None = None
        try:
            self._keep_open()
        except EdgeAaeError as raised:
            error = raised
        except Exception as raised:  # a broken source must end as an error, not leave the run waiting
            logger.exception("source %s failed", redact(self.source.source_id))
            error = SourceError(f"source {redact(self.source.source_id)} failed: {raised}", code="FAILED")
        finally:
            with self._ready:
                self.health.end(error)
                self._handover.close()

    def _keep_open(self) -> None:
        """Open the source and grab until its end or the stop; where it is lost, again, as often as is asked for."""
        while not self._stop.is_set():
            try:
                self.source.open()
                if self._guard is not None:
                    self._guard.opened(inter_coded=self.source.inter_coded)
                with self._ready:
                    self.health.opened(time.perf_counter(), again=self._retries.failures > 0)
                self._grab_all()
                return
            except SourceError as error:
                wait_s = self._retries.wait_s(gave_frames=self.health.gave_frames)
                with self._ready:
                    self._say(self.health.failed(error, wait_s))
                if wait_s is None:
                    return
                logger.warning("%s; trying again in %.1f s", redact(str(error)), wait_s)
                self._stop.wait(wait_s)
            finally:
                self.source.close()

    def _grab_all(self) -> None:
        """Until the end of a file or the stop; raises SourceError where the source is lost."""
        self._choice.opened()
        while self._has_room() and self.source.grab():
            self._choice.grabbed(time.perf_counter())
            self.counts.grabbed += 1
            if self._choice.takes(wanted=self._handover.wanted):
                self._decode()
            else:
                self.counts.skipped += 1

    def _has_room(self) -> bool:
        """Whether to grab another frame: of a file once there is room for it; False after a stop."""
        if not self.source.live:
            with self._ready:
                self._handover.wait_for_room(self._stop)
        return not self._stop.is_set()

    def _decode(self) -> None:
        started_s = time.perf_counter()
        try:
            item: CapturedFrame | DataError = self.source.retrieve()
        except TornFrameError as error:
            self._choice.decoded(time.perf_counter() - started_s)
            self._refuse(Fault("FRAME_TORN", str(error)), self.counts.grabbed - 1)
            return
        except DataError as error:
            item = error
        self._choice.decoded(time.perf_counter() - started_s)
        if isinstance(item, CapturedFrame):
            fault = self._guard.check(item.image) if self._guard else None
            if fault:
                self._refuse(fault, item.frame_id)
                return
        with self._ready:
            if isinstance(item, CapturedFrame):
                self._say(self.health.good(time.perf_counter()))
            self._handover.put(item)

    def _refuse(self, fault: Fault, frame_id: int) -> None:
        now_s = time.perf_counter()
        with self._ready:
            self._say(self.health.refuse(fault, frame_id, now_s))
        frozen_s = self.health.frozen_s(now_s)
        if self.source.live and fault.code == "FRAME_REPEATED" and frozen_s > self._settings.stall_timeout_s:
            self.watch()
            raise SourceError(
                f"{redact(self.source.source_id)} has repeated one frame for {frozen_s:.1f} s; it is opened again",
                code="STALLED",
            )

    def _say(self, record: dict[str, Any] | None) -> None:
        """Tell what befell the source. With `ready` held."""
        if record is None:
            return
        if self.source.live:
            self._report(record)
        else:
            # After the frames that came before it, which are still to be scored.
            self._handover.put(record)


class _Retries:
    """How often a source failed in a row, and when it is opened again."""

    def __init__(self, settings: FeedSettings, *, live: bool, seed: int | None) -> None:
        """A source that is not live is never opened again."""
        self.failures = 0
        self._reopened = 0
        self._most = settings.reconnects if live else 0
        self._backoff, self._rng = settings.backoff, random.Random(seed)

    def wait_s(self, *, gave_frames: bool) -> float | None:
        """Seconds until the source is opened again after a failure; None where it is given up.

        gave_frames: whether it had given good ones since it was opened, so that this is the first failure in a row.
        """
        self.failures = 1 if gave_frames else self.failures + 1
        if self._reopened >= self._most:
            return None
        self._reopened += 1
        return self._backoff.wait_s(self.failures, self._rng)
