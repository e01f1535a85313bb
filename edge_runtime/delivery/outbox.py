"""Events on disk until everyone who should hear of them has: an SQLite file that survives kill -9 and power cuts.

A message is committed (write-ahead log, synchronous=FULL) before any sink reports the event, and deleted once every
destination has acknowledged it. Destinations read in order, each with a place of its own: delivery is at least once,
in order, and a message that comes twice has the same id.
"""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.delivery.outbox_file import OutboxFile, carried, in_memory, is_full, reason_of
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError

__all__ = ["Message", "Outbox"]

logger = logging.getLogger(__name__)

PUT_ASIDE = "UPDATE destinations SET delivered = MAX(delivered, ?) WHERE name = ?"

ACKNOWLEDGE = """UPDATE destinations SET delivered =
    MAX(delivered, COALESCE((SELECT seq FROM messages WHERE message_id = ?), 0)) WHERE name = ?"""
"""By the id: another file, begun meanwhile, counts its messages anew."""

MOST_REFUSED = 1000
"""Messages kept that a destination refused for good, the newest."""


@dataclass(frozen=True, slots=True)
class Message:
    """One event record as it is delivered."""

    seq: int
    """Its place in the order."""
    message_id: str
    """The same at every delivery."""
    record: dict[str, Any]


class Outbox:
    """The file. Its methods may be called from any thread; one run at a time may have it open."""

    def __init__(self, path: Path, destinations: Sequence[str] = (), *, max_bytes: int = 256_000_000) -> None:
        """Open or create it, and end the events that a crash left open, with the reason "interrupted".

        destinations: who must acknowledge; one that is new gets what comes from now on, and one that is not named any
        more is forgotten. A damaged file is moved aside and said; where the disk is full, messages are in memory alone
        until follow() finds room. max_bytes: above it the oldest messages are dropped
        and counted, delivered or not. Raises DataError where the file cannot be used, TakenError where another run
        has it.
        """
        if max_bytes < 1_000_000:
            raise ConfigError(f"the outbox may take {max_bytes} bytes, expected 1,000,000 or more")
        self.path = path
        self.dropped = 0
        """Messages dropped because the file had grown too large."""
        self.in_memory = ""
        """Why messages are in memory alone; empty while the file takes them."""
        self.n_left = 0
        """Messages that were in memory alone when it was closed, and not delivered."""
        self._destinations = tuple(destinations)
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._file: OutboxFile | None = None
        try:
            self._take_file()
        except (sqlite3.Error, OSError) as error:
            if not is_full(error):
                raise DataError(f"cannot keep events in {path}: {reason_of(error)}") from error
            self.in_memory = reason_of(error)
            self._database = in_memory()
            self._register()
            logger.error("%s takes nothing (%s); events are in memory alone until it does", path, self.in_memory)

    def follow(self) -> str:
        """Go on in the file that belongs at the path, where ours was removed, renamed, replaced or emptied, or took
        nothing before; what was not delivered goes along. Gives what was done, empty where there was nothing to do.

        Raises OSError, sqlite3.Error, DataError or TakenError while there is no such file; messages are then kept, and
        delivered, in memory.
        """
        with self._lock:
            if self._file is not None and self._file.is_in_place:
                return ""
            if self._file is not None:
                self.in_memory = "it was removed, renamed, replaced or emptied while events were kept in it"
                # SQLite names its -wal and -shm by the path: the old file is closed before the new one is opened.
                gone, self._database = self._database, self._rescued()
                self._register()
                with suppress(sqlite3.Error):  # a file that was emptied may not let go of what it had
                    gone.close()
                self._file.close(left=not self.path.exists())
                self._file = None
            why, kept = self.in_memory, self._database
            ours = {str(event) for (event,) in kept.execute("SELECT event_id FROM open_events")}
            self._take_file(ours)
            n = carried(kept, self._database)
            kept.close()
            self.in_memory = ""
            return f"{self.path}: {why}; a new file goes on there, {n} messages that were not delivered went along"

    def _rescued(self) -> sqlite3.Connection:
        """What the file that is gone still gives, in memory."""
        kept = in_memory()
        try:
            self._database.backup(kept)
            # A copy of a file that was emptied may have no page of what its header tells of.
            if kept.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("not all of it is there any more")
            kept.execute("SELECT COUNT(*) FROM messages")
        except sqlite3.Error as error:
            logger.error("%s: what was not delivered is lost with the file: %s", self.path, reason_of(error))
            kept.close()
            return in_memory()
        return kept

    def _take_file(self, ours: Collection[str] = ()) -> None:
        """Open or create the file; on an error all is as before. ours: open events that go on."""
        before = getattr(self, "_database", None)
        file = OutboxFile(self.path)
        with ExitStack() as undo:  # whatever is wrong, the file is free for another try
            undo.callback(file.close)
            undo.callback(setattr, self, "_database", before)
            self._database = file.connected()
            undo.callback(self._database.close)
            self._register()
            self._end_interrupted(ours)
            file.remember()
            undo.pop_all()
        self._file = file

    def append(self, records: Iterable[dict[str, Any]], last_times: Mapping[str, str] | None = None) -> None:
        """Commit event records, all or none, in order; one whose message_id is there already is left out.

        last_times: event id -> the time of its last frame so far, with which a crash would end it. Raises sqlite3.Error
        or OSError where the disk does not take them.
        """
        with self._lock, self._database as database:
            for record in records:
                line = json.dumps(record, allow_nan=False)
                database.execute(
                    "INSERT OR IGNORE INTO messages (message_id, event_id, phase, record) VALUES (?, ?, ?, ?)",
                    (record["message_id"], record["event_id"], record["phase"], line),
                )
                if record["phase"] == "end":
                    database.execute("DELETE FROM open_events WHERE event_id = ?", (record["event_id"],))
                else:
                    last_time = (last_times or {}).get(record["event_id"])
                    line = json.dumps({**record, "end_time": last_time}, allow_nan=False)
                    database.execute("INSERT OR REPLACE INTO open_events VALUES (?, ?)", (record["event_id"], line))

    def pending(self, destination: str, limit: int = 100) -> list[Message]:
        """The next messages that a destination has not acknowledged, in order; one that is none is put aside."""
        query = """SELECT seq, message_id, record FROM messages
                   WHERE seq > (SELECT delivered FROM destinations WHERE name = ?) ORDER BY seq LIMIT ?"""
        with self._lock:
            rows = self._database.execute(query, (destination, limit)).fetchall()
        messages: list[Message] = []
        for seq, message_id, text in rows:
            try:
                messages.append(Message(seq, str(message_id), _record_of(text)))
            except ValueError as error:
                if messages:
                    break  # once those before it are acknowledged: putting aside acknowledges them too
                logger.error("%s: message %s is damaged and put aside: %s", self.path, message_id, error)
                self._put_aside(destination, seq, str(message_id), text, str(error))
        return messages

    def n_pending(self, destination: str) -> int:
        """How many messages a destination has not acknowledged."""
        query = """SELECT COUNT(*) FROM messages
                   WHERE seq > (SELECT delivered FROM destinations WHERE name = ?)"""
        with self._lock:
            return int(self._database.execute(query, (destination,)).fetchone()[0])

    def acknowledge(self, destination: str, message: Message) -> None:
        """A destination has this message and all before it."""
        with self._lock, self._database as database:
            database.execute(ACKNOWLEDGE, (message.message_id, destination))

    def refuse(self, destination: str, message: Message, reason: str) -> None:
        """A destination will never take this message: it is put aside, so that those after it can go."""
        with self._lock, self._database as database:
            self._keep_refused(destination, message.message_id, json.dumps(message.record), reason)
            database.execute(ACKNOWLEDGE, (message.message_id, destination))

    def refused(self) -> list[tuple[str, str, str]]:
        """(destination, message id, reason) of what was put aside."""
        with self._lock:
            rows = self._database.execute("SELECT destination, message_id, reason FROM refused").fetchall()
        return [(str(destination), str(message_id), str(reason)) for destination, message_id, reason in rows]

    def prune(self) -> None:
        """Delete what everyone has, and the oldest where the file is too large."""
        with self._lock, self._database as database:
            oldest = database.execute("SELECT MIN(delivered) FROM destinations").fetchone()[0]
            if oldest is not None:
                database.execute("DELETE FROM messages WHERE seq <= ?", (oldest,))
            while self._used_bytes() > self._max_bytes:
                cursor = database.execute(
                    "DELETE FROM messages WHERE seq IN (SELECT seq FROM messages ORDER BY seq LIMIT 100)"
                )
                if cursor.rowcount <= 0:
                    break
                self.dropped += cursor.rowcount

    def close(self) -> None:
        """Close the file; others may open it. What is in memory alone gets a last try."""
        with self._lock:
            try:
                self.follow()
            except (sqlite3.Error, OSError, EdgeAaeError) as error:
                self.n_left = self.n_in_memory
                logger.error("%s: %d messages were in memory alone: %s", self.path, self.n_left, reason_of(error))
            self._database.close()
            if self._file is not None:
                self._file.close()
                self._file = None
            self.in_memory = ""

    @property
    def n_in_memory(self) -> int:
        """Messages that no file has and not everyone has."""
        if not self.in_memory:
            return self.n_left
        query = "SELECT COUNT(*) FROM messages WHERE seq > COALESCE((SELECT MIN(delivered) FROM destinations), 0)"
        with self._lock:
            return int(self._database.execute(query).fetchone()[0])

    def _register(self) -> None:
        destinations = self._destinations
        with self._database as database:
            newest = database.execute("SELECT MAX(seq) FROM messages").fetchone()[0] or 0
            known = {name for (name,) in database.execute("SELECT name FROM destinations")}
            # What nobody was there to take goes to whoever is named first.
            for name in destinations:
                if name not in known:
                    start = newest if known else 0
                    database.execute("INSERT INTO destinations VALUES (?, ?)", (name, start))
            for name in known - set(destinations):
                database.execute("DELETE FROM destinations WHERE name = ?", (name,))

    def _end_interrupted(self, ours: Collection[str] = ()) -> None:
        rows = self._database.execute("SELECT event_id, record FROM open_events").fetchall()
        for event_id, text in rows:
            if event_id in ours:
                continue
            try:
                self.append([_interrupted(_record_of(text))])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                logger.error("%s: event %s is damaged and cannot be ended: %r", self.path, event_id, error)
            with self._database as database:
                database.execute("DELETE FROM open_events WHERE event_id = ?", (event_id,))

    def _put_aside(self, destination: str, seq: int, message_id: str, text: Any, reason: str) -> None:
        with self._lock, self._database as database:
            self._keep_refused(destination, message_id, text, reason)
            database.execute(PUT_ASIDE, (seq, destination))

    def _keep_refused(self, destination: str, message_id: str, text: Any, reason: str) -> None:
        aside = (destination, message_id, reason, text, time.time())
        self._database.execute("INSERT INTO refused VALUES (?, ?, ?, ?, ?)", aside)
        self._database.execute(
            "DELETE FROM refused WHERE rowid <= (SELECT MAX(rowid) FROM refused) - ?", (MOST_REFUSED,)
        )

    def _used_bytes(self) -> int:
        pages, free, size = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size


def _record_of(text: Any) -> dict[str, Any]:
    """The record of a row; raises ValueError where it is none."""
    if not isinstance(text, str):
        raise ValueError(f"expected JSON text, it is {type(text).__name__}")
    record = json.loads(text, parse_constant=_no_number)
    if not isinstance(record, dict):
        raise ValueError("expected a JSON object")
    return record


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _interrupted(record: dict[str, Any]) -> dict[str, Any]:
    """The end of an event that a crash left open, of its last record."""
    number = int(record["message_id"].rpartition("/")[2]) + 1
    # Without a time of the last frame (of an older release) the peak is the last that is known.
    end_time = record.get("end_time") or record.get("peak_time")
    last = {"phase": "end", "message_id": f"{record['event_id']}/{number}", "end_time": end_time}
    return {**record, **last, "reason": "interrupted"}
