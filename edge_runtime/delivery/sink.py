"""The sink that puts events into the outbox, before anyone else reports them."""

from __future__ import annotations

import logging
import sqlite3
from collections import deque

from edge_runtime.delivery.outbox import Outbox
from edge_runtime.delivery.outbox_file import reason_of
from edge_runtime.errors import EdgeAaeError
from edge_runtime.sinks.contract import Emission, SinkBase

__all__ = ["OutboxSink"]

logger = logging.getLogger(__name__)

BACKLOG = 10_000
"""Events kept in memory while the disk takes none; beyond it the oldest updates go first."""


class OutboxSink(SinkBase):
    """Commits every event record; while the disk is full it keeps them in memory and goes on trying."""

    name = "outbox"
    kinds: tuple[str, ...] = ("event",)
    commits = True

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.lost = 0
        """Events that found no room in memory either."""
        self._backlog: deque[Emission] = deque()

    @property
    def unwritten(self) -> int:
        """Events that are nowhere, or in memory alone."""
        return self.lost + len(self._backlog) + self.outbox.n_in_memory

    def write(self, emission: Emission) -> None:
        """Commit it with what waits; raises OSError where the disk takes nothing. Nobody is kept waiting longer."""
        if len(self._backlog) >= BACKLOG:
            self._forget_one()
        self._backlog.append(emission)
        try:
            self._commit()
        finally:
            if emission.committed is not None:
                emission.committed.set()

    def tick(self) -> None:
        """Try again what waits, and delete what everyone has."""
        self._commit()
        try:
            self.outbox.prune()
        except sqlite3.Error as error:
            raise OSError(f"cannot clean up {self.outbox.path}: {error}") from error

    def close(self) -> None:
        """The last try for what waits."""
        self._commit()

    def reopen(self) -> None:
        """See whether the file is still where it was."""
        self._commit()

    def _commit(self) -> None:
        try:
            news = self.outbox.follow()
        except (sqlite3.Error, OSError, EdgeAaeError) as error:
            self._append()  # to memory, from where they are delivered too
            raise OSError(
                f"{self.outbox.n_in_memory} events are in memory alone, {self.outbox.path} does not take them: "
                f"{reason_of(error)}"
            ) from error
        if news:
            logger.warning("%s", news)
            self.say("warning", "SINK_REOPENED", reason=news)
        self._append()

    def _append(self) -> None:
        if not self._backlog:
            return
        try:
            last_times = {one.record["event_id"]: one.last_time for one in self._backlog if one.last_time is not None}
            self.outbox.append([one.record for one in self._backlog], last_times)
        except sqlite3.Error as error:
            raise OSError(
                f"{len(self._backlog)} events are in memory alone, {self.outbox.path} does not take them: {error}"
            ) from error
        self._backlog.clear()

    def _forget_one(self) -> None:
        self.lost += 1
        for index, emission in enumerate(self._backlog):
            if emission.record["phase"] == "update":
                del self._backlog[index]
                return
        self._backlog.popleft()
