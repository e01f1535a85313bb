"""Events on disk: a file that is no database any more is moved aside."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from edge_runtime.live.board import Board
from edge_runtime.live.event_store import NAME, EventStore


def test_a_damaged_file_is_moved_aside_and_a_new_one_begins(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / NAME).write_bytes(b"no database at all" * 100)
    store = EventStore(tmp_path, Board())
    assert "is damaged" in caplog.text
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(f"{NAME}.damaged-")
    assert left.read_bytes().startswith(b"no database")
    with sqlite3.connect(store._opened().execute("PRAGMA database_list").fetchone()[2]) as fresh:
        assert fresh.execute("SELECT COUNT(*) FROM events").fetchone() == (0,)
