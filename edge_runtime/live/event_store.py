"""The events of the live page on disk, so that it shows them after a restart: an SQLite file in the feedback folder.

A thread of the page's process writes what changed, now and then; the run never waits for it. Kept are as many events as
the page shows, with picture, map and score curve, and the whole frames of the last ones, for feedback.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.extras import require
from edge_runtime.files import OWN_ALONE, make_tables, set_damaged_aside
from edge_runtime.live.board import MOST_EVENTS, MOST_FRAMES, Board, Event, Picture
from edge_runtime.model.preprocess import Frame

__all__ = ["EventStore"]

logger = logging.getLogger(__name__)

NAME = "events.db"
SCHEMA = 1
EVERY_S = 2.0
"""Between two writes: a peak that rises frame by frame is written once."""

TABLE = """
CREATE TABLE IF NOT EXISTS events (
    event_id TEXT UNIQUE NOT NULL, record TEXT NOT NULL, jpeg BLOB, heat BLOB, map_rows INTEGER, map_columns INTEGER,
    scores TEXT NOT NULL, frame BLOB);
"""
KEEP = """
INSERT INTO events (event_id, record, jpeg, heat, map_rows, map_columns, scores, frame) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (event_id) DO UPDATE SET record = excluded.record, jpeg = COALESCE(excluded.jpeg, jpeg),
    heat = COALESCE(excluded.heat, heat), map_rows = COALESCE(excluded.map_rows, map_rows),
    map_columns = COALESCE(excluded.map_columns, map_columns), scores = excluded.scores,
    frame = COALESCE(excluded.frame, frame)
"""
FORGET = "DELETE FROM events WHERE rowid <= (SELECT rowid FROM events ORDER BY rowid DESC LIMIT 1 OFFSET ?)"
FORGET_FRAMES = """
UPDATE events SET frame = NULL WHERE frame IS NOT NULL AND rowid <= (
    SELECT rowid FROM events WHERE frame IS NOT NULL ORDER BY rowid DESC LIMIT 1 OFFSET ?)
"""


class EventStore:
    """The file. Where it cannot be used, the page goes on without, and says so."""

    def __init__(self, folder: Path, board: Board) -> None:
        """Puts the events that are kept onto the board; those that a crash left open are ended, as interrupted.

        folder: made at the first event.
        """
        self.path = folder / NAME
        self._board = board
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        if self.path.exists():
            self._guarded(self._load)

    def start(self) -> None:
        """Write from now on, in a thread of its own."""
        threading.Thread(target=self._go_on, name="events on disk", daemon=True).start()

    def flush(self) -> None:
        """Write what changed since; what fails is said on the page and in the log."""
        with self._board.lock:
            ids, self._board.changed = self._board.changed, set()
            kept = [self._row(event_id) for event_id in ids if event_id in self._board.events]
        if kept:
            self._guarded(lambda: self._keep(kept))

    def frame(self, event_id: str) -> Frame | None:
        """The whole frame of an event's peak; None where it is not kept, or no more."""
        if not self.path.exists():
            return None
        try:
            with self._lock:
                rows = self._opened().execute("SELECT frame FROM events WHERE event_id = ?", (event_id,)).fetchall()
        except (sqlite3.Error, OSError, DataError) as error:
            logger.warning("cannot read the frame of an event from %s: %s", self.path, error)
            return None
        if not rows or rows[0][0] is None:
            return None
        cv2 = require("cv2", extra="camera", purpose="live pages")
        frame: Frame | None = cv2.imdecode(np.frombuffer(rows[0][0], np.uint8), cv2.IMREAD_UNCHANGED)
        return frame

    def _go_on(self) -> None:
        while True:
            time.sleep(EVERY_S)
            self.flush()

    def _row(self, event_id: str) -> tuple[Any, ...]:
        """What is written of an event, its frame not yet encoded; the board's lock is held."""
        event, board = self._board.events[event_id], self._board
        frame = board.frames.get(event_id) if event.record["phase"] == "end" else None
        return event_id, event.record, event.picture, board.scores_of(event_id), frame

    def _keep(self, kept: list[tuple[Any, ...]]) -> None:
        with self._lock:
            database = self._opened()
            with database:
                for event_id, record, picture, scores, frame in kept:
                    shown = (None, None, None, None)
                    if picture is not None:
                        shown = (picture.jpeg, picture.heat, *picture.heat_shape)
                    line = json.dumps(record, allow_nan=False)
                    database.execute(KEEP, (event_id, line, *shown, json.dumps(scores), _png(frame)))
                database.execute(FORGET, (MOST_EVENTS,))
                database.execute(FORGET_FRAMES, (MOST_FRAMES,))

    def _load(self) -> None:
        with self._lock:
            query = "SELECT event_id, record, jpeg, heat, map_rows, map_columns, scores FROM events ORDER BY rowid"
            rows = self._opened().execute(query).fetchall()
        for event_id, text, jpeg, heat, map_rows, map_columns, scores in rows:
            try:
                record = json.loads(text)
                picture = None
                if jpeg is not None:
                    picture = Picture(0, bytes(jpeg), bytes(heat), (int(map_rows), int(map_columns)), None)
                event = Event(_ended(record), picture, scores=[tuple(row) for row in json.loads(scores)])
                self._board.events[str(event_id)] = event
            except (ValueError, KeyError, TypeError) as error:
                logger.error("%s: event %s is damaged and left out: %r", self.path, event_id, error)

    def _guarded(self, do: Any) -> None:
        """Do something with the file; what fails is said, and the page goes on."""
        try:
            do()
            self._board.not_kept = ""
        except (sqlite3.Error, OSError, DataError) as error:
            if self._damaged(error):
                return
            if not self._board.not_kept:
                logger.warning("events are not kept in %s: %s", self.path, error)
            self._board.not_kept = f"events are not kept over a restart: {self.path}: {error}"

    def _damaged(self, error: Exception) -> bool:
        """Whether the file was no database, and was moved aside so that a new one begins."""
        if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.OperationalError):
            return False
        try:
            if self._database is not None:
                self._database.close()
            self._database = None
            aside = set_damaged_aside(self.path)
        except (OSError, sqlite3.Error):
            return False
        logger.error("%s is damaged (%s); it was moved to %s, a new one begins", self.path, error, aside)
        return True

    def _opened(self) -> sqlite3.Connection:
        """The lock is held."""
        if self._database is not None:
            return self._database
        self.path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, OWN_ALONE))
        database = sqlite3.connect(self.path, check_same_thread=False, timeout=5.0)
        try:
            make_tables(
                database, TABLE, schema=SCHEMA, synchronous="NORMAL", called="it has", remedy=", or move it away"
            )
        except BaseException:
            database.close()
            raise
        self._database = database
        return database


def _ended(record: dict[str, Any]) -> dict[str, Any]:
    """The record of an event of a run before this one: where that left it open, it was interrupted."""
    for key in ("event_id", "source_id", "start_time", "peak_score", "frames"):
        record[key]
    if record["phase"] == "end":
        return record
    return {**record, "phase": "end", "end_time": record.get("peak_time"), "reason": "interrupted"}


def _png(frame: Frame | None) -> bytes | None:
    if frame is None:
        return None
    cv2 = require("cv2", extra="camera", purpose="live pages")
    _, encoded = cv2.imencode(".png", frame)
    return bytes(encoded)
