"""Sinks at work: each in a thread of its own, behind a bounded queue, so that none can slow the score."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge_runtime.errors import DataError, EdgeAaeError
from edge_runtime.redact import redact
from edge_runtime.sinks.contract import Emission, Sink, SinkBase
from edge_runtime.sinks.records import status_record

__all__ = ["SinkCounts", "SinkRunner", "Sinks"]

logger = logging.getLogger(__name__)

QUEUE_RECORDS = 1024
QUEUE_PICTURES = 32
"""Emissions that may wait for a sink; a picture takes about a megabyte, a record less than two kilobytes."""

COMMIT_WAIT_S = 2.0
"""How long a sink holds an event back until the outbox has it: what was reported must survive a crash."""

TICK_S = 1.0
LOOK_S = 0.1

DRAIN_S = 1.0
"""Time in which the sinks of a live source may finish after a stop; the rest is dropped and counted."""


@dataclass(slots=True)
class SinkCounts:
    """What a sink came to so far."""

    written: int = 0
    dropped: int = 0
    """Did not fit into the queue, or were left at the end."""
    failed: int = 0
    """The sink raised for it."""
    failing: bool = False
    """It raised last, and has not taken a record since."""
    last_error: str | None = None
    """What it raised last."""


class SinkRunner:
    """One sink, its queue and its thread."""

    def __init__(
        self,
        sink: Sink,
        report: Callable[[dict[str, Any]], None],
        *,
        lossless: bool,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """report: takes status records, from any thread.

        lossless: put waits for room and drops nothing, until the run is being stopped.
        """
        self.sink = sink
        self.counts = SinkCounts()
        self.broken: BrokenPipeError | None = None
        """The reader of a pipe went away, which is a way to end a run."""
        self._report = report
        self._lossless = lossless
        self._stopped = stopped
        self._capacity = QUEUE_PICTURES if sink.pictures else QUEUE_RECORDS
        self._queue: deque[Emission] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._given_up = False
        self._dropping = self._reopening = self._failed_at_tick = False
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

        if isinstance(sink, SinkBase):
            sink.say = self._say

    @property
    def lost(self) -> int:
        """Records that it was given and that are nowhere, but those that were dropped."""
        unwritten = getattr(self.sink, "unwritten", None)
        return self.counts.failed if unwritten is None else int(unwritten)

    def health(self) -> dict[str, Any]:
        """{sink, ok, failed, dropped, last_error}; ok unless it fails now. From any thread."""
        counts = self.counts
        return {
            "sink": redact(self.sink.name),
            "ok": not counts.failing,
            "failed": counts.failed,
            "dropped": counts.dropped,
            "last_error": counts.last_error,
        }

    def start(self) -> None:
        """Open the sink, raising what it raises, and begin."""
        self.sink.open()
        self._thread.start()

    def put(self, emission: Emission) -> None:
        """Hand over one emission, if the sink takes its kind."""
        if emission.record["type"] not in self.sink.kinds:
            return
        with self._changed:
            while self._lossless and len(self._queue) >= self._capacity and not (self._given_up or self._stopped()):
                self._changed.wait(LOOK_S)
            if len(self._queue) >= self._capacity and not self._make_room(emission):
                return
            self._queue.append(emission)
            self._changed.notify_all()

    def reopen(self) -> None:
        """Have the sink open its file again, in its thread."""
        with self._changed:
            self._reopening = True
            self._changed.notify_all()

    def finish(self) -> None:
        """Nothing more will be put."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def join(self, timeout_s: float | None) -> None:
        """Wait until what is queued was written; after the timeout the rest is dropped and the thread left behind."""
        self._thread.join(timeout_s)
        with self._changed:
            self._given_up = True
            left = len(self._queue)
            self.counts.dropped += left
            self._queue.clear()
            self._changed.notify_all()
        if self._thread.is_alive():
            logger.warning("sink %s hangs; %d records are dropped", self.sink.name, left)

    def _make_room(self, emission: Emission) -> bool:
        """Drop the oldest frame for the newcomer, or the newcomer; whether it may come in. Events are kept longest."""
        self.counts.dropped += 1
        if not self._dropping:
            self._dropping = True
            self._say("warning", "SINK_DROPS", reason=f"{self._capacity} records wait; the oldest frames are dropped")
        for index, queued in enumerate(self._queue):
            if queued.record["type"] == "frame":
                del self._queue[index]
                return True
        return emission.record["type"] == "event" and bool(self._queue.popleft())

    def _run(self) -> None:
        ticked_s = time.monotonic()
        while True:
            with self._changed:
                if not (self._queue or self._closing or self._reopening):
                    self._changed.wait(max(0.0, ticked_s + TICK_S - time.monotonic()))
                emission = self._queue.popleft() if self._queue else None
                ended = emission is None and self._closing
                reopening, self._reopening = self._reopening, False
                self._changed.notify_all()
            if reopening and isinstance(self.sink, SinkBase):
                self._guarded(self.sink.reopen)
            if emission is not None:
                self._guarded(self._write, emission)
            if time.monotonic() - ticked_s >= TICK_S:
                ticked_s = time.monotonic()
                self._guarded(self._tick)
                self._dropping = self._dropping and len(self._queue) > self._capacity // 2
            if ended or self._given_up:
                break
        self._guarded(self.sink.close)

    def _write(self, emission: Emission) -> None:
        if emission.committed is not None and not self.sink.commits:
            emission.committed.wait(COMMIT_WAIT_S)
        try:
            self.sink.write(emission)
        except BrokenPipeError:
            raise
        except Exception:
            self.counts.failed += 1
            raise
        self.counts.written += 1
        self._recovered()

    def _tick(self) -> None:
        failed_before = self._failed_at_tick
        self._failed_at_tick = True
        self.sink.tick()
        self._failed_at_tick = False
        if failed_before or self.sink.commits:  # what waited there went out
            self._recovered()

    def _recovered(self) -> None:
        if self.counts.failing:
            self.counts.failing = False
            self._say("info", "SINK_RECOVERED", failed=self.counts.failed)

    def _guarded(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except BrokenPipeError as error:
            self.broken = error
            self._given_up = True
        except (OSError, ValueError, EdgeAaeError) as error:
            self._failed(error)
        except Exception as error:  # a sink must never end the scoring, whatever it raises
            logger.exception("sink %s fails", self.sink.name)
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        began, reason = not self.counts.failing, redact(str(error)) or type(error).__name__
        self.counts.failing, self.counts.last_error = True, reason
        if began:
            logger.warning("sink %s fails: %s", redact(self.sink.name), reason)
            self._say("error", "SINK_FAILED", reason=reason)

    def _say(self, severity: Any, event_type: str, **payload: Any) -> None:
        self._report(status_record(severity, event_type, self.sink.name, payload))


class Sinks:
    """All sinks of a run."""

    def __init__(
        self,
        sinks: Sequence[Sink],
        report: Callable[[dict[str, Any]], None],
        *,
        lossless: bool,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """stopped: whether the run is being stopped, so that nothing is waited for any more."""
        self.runners = [SinkRunner(sink, report, lossless=lossless, stopped=stopped) for sink in sinks]
        self._lossless = lossless
        self._commits = any(sink.commits for sink in sinks)

    @property
    def broken(self) -> BrokenPipeError | None:
        """The reader of one sink's pipe went away."""
        return next((runner.broken for runner in self.runners if runner.broken), None)

    def health(self) -> list[dict[str, Any]]:
        """Each sink's."""
        return [runner.health() for runner in self.runners]

    def check_lost(self) -> None:
        """Raise DataError where records that were to be written are nowhere, once all is closed."""
        lost = [runner for runner in self.runners if runner.lost]
        if lost:
            each = ", ".join(
                f"{runner.lost} to {redact(runner.sink.name)} ({runner.counts.last_error})" for runner in lost
            )
            raise DataError(f"records could not be written: {each}; see to the disk, they are lost")

    def reopen(self) -> None:
        """Have all open their files again, each in its own thread."""
        for runner in self.runners:
            runner.reopen()

    def start(self) -> None:
        """Open all; one that does not open closes those before it and raises."""
        started: list[SinkRunner] = []
        try:
            for runner in self.runners:
                runner.start()
                started.append(runner)
        except BaseException:
            self._end(started, DRAIN_S)
            raise

    def emit(self, emission: Emission) -> None:
        """Hand an emission to every sink that takes it; never waits but for files in a run that is lossless."""
        if self._commits and emission.record["type"] == "event":
            emission = replace(emission, committed=threading.Event())
        bare = emission.without_picture()
        for runner in self.runners:
            runner.put(emission if runner.sink.pictures else bare)

    def close(self, *, patient: bool) -> None:
        """End all; patient: wait until each has written everything, else DRAIN_S in all."""
        self._end(self.runners, None if patient and self._lossless else DRAIN_S)

    @staticmethod
    def _end(runners: Sequence[SinkRunner], timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        for runner in runners:
            runner.finish()
        for runner in runners:
            runner.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
