"""Events on disk until everyone who should hear of them has: an SQLite file that survives kill -9 and power cuts.

A message is committed (write-ahead log, synchronous=FULL) before any sink reports the event, and deleted once every
destination has acknowledged it. Destinations read in order, each with a place of its own: delivery is at least once,
in order, and a message that comes twice has the same id.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import OWN_ALONE

__all__ = ["Message", "Outbox"]

logger = logging.getLogger(__name__)

SCHEMA = 1

TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, message_id TEXT UNIQUE NOT NULL, event_id TEXT NOT NULL,
    phase TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS open_events (event_id TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS destinations (name TEXT PRIMARY KEY, delivered INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refused (
    destination TEXT NOT NULL, message_id TEXT NOT NULL, reason TEXT NOT NULL, record TEXT NOT NULL,
    at_s REAL NOT NULL);
"""

ACKNOWLEDGE = "UPDATE destinations SET delivered = MAX(delivered, ?) WHERE name = ?"

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
        more is forgotten. A damaged file is moved aside and said. max_bytes: above it the oldest messages are dropped
        and counted, delivered or not. Raises DataError where the file cannot be used, ConfigError where another run
        has it.
        """
        if max_bytes < 1_000_000:
            raise ConfigError(f"the outbox may take {max_bytes} bytes, expected 1,000,000 or more")
        self.path = path
        self.dropped = 0
        """Messages dropped because the file had grown too large."""
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._claim = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise DataError(f"cannot keep events in {path}: {error.strerror or error}") from error
        try:
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._claim)
            raise ConfigError(f"{path} is another run's outbox; give each run its own with --outbox") from error
        with ExitStack() as undo:  # whatever is wrong, the file is free for another try
            undo.callback(os.close, self._claim)
            try:
                self._database = self._opened()
                undo.callback(self._database.close)
                self._register(destinations)
                self._end_interrupted()
            except (sqlite3.Error, OSError) as error:
                raise DataError(f"cannot keep events in {path}: {error}") from error
            undo.pop_all()

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
            database.execute(ACKNOWLEDGE, (message.seq, destination))

    def refuse(self, destination: str, message: Message, reason: str) -> None:
        """A destination will never take this message: it is put aside, so that those after it can go."""
        self._put_aside(destination, message.seq, message.message_id, json.dumps(message.record), reason)

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
        """Close the file; others may open it."""
        with self._lock:
            self._database.close()
            os.close(self._claim)

    def _opened(self) -> sqlite3.Connection:
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if not self.path.exists() or isinstance(error, sqlite3.OperationalError):
                raise
            aside = self.path.with_name(f"{self.path.name}.damaged-{int(time.time())}")
            for suffix in ("", "-wal", "-shm"):
                part = Path(f"{self.path}{suffix}")
                if part.exists():
                    part.rename(f"{aside}{suffix}")
            logger.error("the outbox %s is damaged (%s); it was moved to %s, a new one begins", self.path, error, aside)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        # SQLite gives -wal and -shm the mode of the file itself.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, OWN_ALONE))
        if os.stat(self.path).st_uid == os.geteuid():
            os.chmod(self.path, OWN_ALONE)
        database = sqlite3.connect(self.path, check_same_thread=False, timeout=5.0)
        try:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA):
                raise DataError(
                    f"{self.path} has outbox schema {version}, this release knows {SCHEMA}; update edge-aae or name "
                    "another --outbox"
                )
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA synchronous=FULL")
            database.executescript(TABLES)
            database.execute(f"PRAGMA user_version={SCHEMA}")
        except BaseException:
            database.close()
            raise
        return database

    def _register(self, destinations: Sequence[str]) -> None:
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

    def _end_interrupted(self) -> None:
        rows = self._database.execute("SELECT event_id, record FROM open_events").fetchall()
        for event_id, text in rows:
            try:
                self.append([_interrupted(_record_of(text))])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                logger.error("%s: event %s is damaged and cannot be ended: %r", self.path, event_id, error)
            with self._database as database:
                database.execute("DELETE FROM open_events WHERE event_id = ?", (event_id,))

    def _put_aside(self, destination: str, seq: int, message_id: str, text: Any, reason: str) -> None:
        with self._lock, self._database as database:
            aside = (destination, message_id, reason, text, time.time())
            database.execute("INSERT INTO refused VALUES (?, ?, ?, ?, ?)", aside)
            database.execute("DELETE FROM refused WHERE rowid <= (SELECT MAX(rowid) FROM refused) - ?", (MOST_REFUSED,))
            database.execute(ACKNOWLEDGE, (seq, destination))

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
