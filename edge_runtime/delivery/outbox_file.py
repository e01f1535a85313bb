"""The file of an outbox: claimed by one run, opened or begun, and whether it is still where it was."""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from edge_runtime.errors import ConfigError, TakenError
from edge_runtime.files import DISK_FULL, OWN_ALONE, file_identity, make_tables, set_damaged_aside
from edge_runtime.systems.locks import lock
from edge_runtime.systems.users import own_user

__all__ = ["USUAL_NAME", "OutboxFile", "carried", "in_memory", "is_full", "reason_of"]

logger = logging.getLogger(__name__)

USUAL_NAME = "edge-aae-outbox.db"
"""Of an outbox that nobody named"""

SCHEMA = 1

HEADER = b"SQLite format 3\0"
"""What such a file begins with; SQLite's file format, 1.3.1"""

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

SQLITE_FULL = ("disk is full", "disk I/O error")
"""What SQLite calls it; Python 3.10 does not tell its codes"""

Identity = tuple[int, int]
"""Device and inode"""


def is_full(error: Exception) -> bool:
    """Whether a disk takes nothing for now, which a person or time can mend while a run goes on."""
    if isinstance(error, sqlite3.Error):
        return any(words in str(error) for words in SQLITE_FULL)
    return isinstance(error, OSError) and error.errno in DISK_FULL


def reason_of(error: Exception) -> str:
    """An error's words alone: messages name the file themselves."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def in_memory() -> sqlite3.Connection:
    """An empty outbox that no file holds."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.executescript(TABLES)
    return database


def carried(old: sqlite3.Connection, new: sqlite3.Connection) -> int:
    """Commit to the new one what the old one has that not everyone got, open events too; how many messages."""
    lowest = old.execute("SELECT MIN(delivered) FROM destinations").fetchone()[0] or 0
    messages = old.execute(
        "SELECT seq, message_id, event_id, phase, record FROM messages WHERE seq > ? ORDER BY seq", (lowest,)
    ).fetchall()
    is_empty = new.execute("SELECT COUNT(*) FROM messages").fetchone()[0] == 0
    with new:
        places = {}
        for seq, *message in messages:
            cursor = new.execute(
                "INSERT OR IGNORE INTO messages (message_id, event_id, phase, record) VALUES (?, ?, ?, ?)", message
            )
            places[seq] = cursor.lastrowid or 0
        if is_empty:  # else what it had may wait for a destination that has ours already: better twice than never
            for name, delivered in old.execute("SELECT name, delivered FROM destinations").fetchall():
                place = max((places[seq] for seq in places if seq <= delivered), default=0)
                new.execute("UPDATE destinations SET delivered = MAX(delivered, ?) WHERE name = ?", (place, name))
        new.executemany("INSERT OR REPLACE INTO open_events VALUES (?, ?)", old.execute("SELECT * FROM open_events"))
        new.executemany("INSERT INTO refused VALUES (?, ?, ?, ?, ?)", old.execute("SELECT * FROM refused"))
    return len(messages)


class OutboxFile:
    """One run's claim to a path, by a lock beside it."""

    def __init__(self, path: Path) -> None:
        """Claim it; missing folders are made. Raises OSError, TakenError where another run has it, ConfigError where
        the path is that of somebody's own file, which is left alone."""
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        if self._is_foreign():
            raise ConfigError(
                f"--outbox {path} is no outbox (it is no database); name a file of its own, which need not be there yet"
            )
        self._places: tuple[Identity | None, Identity | None] = (None, None)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._claim = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, OWN_ALONE)
        try:
            lock(self._claim)
        except OSError as error:
            os.close(self._claim)
            raise TakenError(f"{path} is another run's outbox; give each run its own with --outbox") from error

    def remember(self) -> None:
        """The file is open: this is where it is."""
        self._places = self._found()

    @property
    def is_in_place(self) -> bool:
        """Whether file and lock still are what stands at their paths, and the file was not emptied there."""
        return None not in self._places and self._found() == self._places

    def close(self, *, left: bool = False) -> None:
        """Give up the claim. left: the file is gone; what SQLite kept beside it is none of the next one's."""
        if left:
            for suffix in ("-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(f"{self.path}{suffix}")
        os.close(self._claim)

    def _found(self) -> tuple[Identity | None, Identity | None]:
        return None if self._is_empty() else file_identity(self.path), file_identity(self._lock_path)

    def _is_empty(self) -> bool:
        """SQLite's files never are, once they have tables."""
        with suppress(OSError):
            return self.path.stat().st_size == 0
        return False

    def _is_foreign(self) -> bool:
        """Whether the file never was an outbox; one that was has its lock beside it, however damaged it is."""
        if self.path.name == USUAL_NAME or self._lock_path.exists() or not self.path.is_file():
            return False
        with suppress(OSError), self.path.open("rb") as stream:
            return stream.read(len(HEADER)) not in (b"", HEADER)
        return False

    def connected(self) -> sqlite3.Connection:
        """A connection to the file, made where there is none; one that is damaged is moved aside. Raises sqlite3.Error,
        OSError, and DataError for one of another schema."""
        try:
            return self._connected()
        except sqlite3.DatabaseError as error:
            if not self.path.exists() or isinstance(error, sqlite3.OperationalError):
                raise
            aside = set_damaged_aside(self.path)
            logger.error("the outbox %s is damaged (%s); it was moved to %s, a new one begins", self.path, error, aside)
            return self._connected()

    def _connected(self) -> sqlite3.Connection:
        # SQLite gives -wal and -shm the mode of the file itself.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, OWN_ALONE))
        if os.stat(self.path).st_uid == own_user():
            os.chmod(self.path, OWN_ALONE)
        database = sqlite3.connect(self.path, check_same_thread=False, timeout=5.0)
        try:
            found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise sqlite3.DatabaseError(str(found))
            make_tables(
                database,
                TABLES,
                schema=SCHEMA,
                synchronous="FULL",
                called=f"{self.path} has outbox",
                remedy=" or name another --outbox",
            )
        except BaseException:
            database.close()
            raise
        return database
