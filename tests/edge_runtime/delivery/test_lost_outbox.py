"""An outbox whose file goes away, or has no room: no event that was announced is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.delivery import Outbox, OutboxSink
from edge_runtime.delivery.outbox_file import OutboxFile
from edge_runtime.errors import DataError
from edge_runtime.sinks import Emission, Sinks
from tests.edge_runtime.delivery.test_outbox import ids, record


def file_removed(path: Path) -> None:
    path.unlink()


def all_removed(path: Path) -> None:
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def lock_removed(path: Path) -> None:
    path.with_name(f"{path.name}.lock").unlink()


def renamed(path: Path) -> None:
    path.rename(path.with_name("older.db"))


def emptied(path: Path) -> None:
    """A new file in its place, not of SQLite's making yet."""
    path.unlink()
    path.touch()


def folder_removed(path: Path) -> None:
    shutil.rmtree(path.parent)


GONE = [file_removed, all_removed, lock_removed, renamed, emptied, folder_removed]


def after_kill_9(path: Path, aside: Path) -> list[str]:
    """What the next run finds in the file, had this one been killed now."""
    shutil.copytree(path.parent, aside)
    with_all = Outbox(aside / path.name, ["a"])
    found = ids(with_all)
    with_all.close()
    return found


@pytest.mark.parametrize("go_away", GONE, ids=lambda way: way.__name__)
def test_events_go_along_into_a_new_file(tmp_path: Path, go_away: Callable[[Path], None]) -> None:
    path = tmp_path / "kept" / "o.db"
    outbox = Outbox(path, ["a", "b"])
    sink = OutboxSink(outbox)
    said: list[tuple[str, str]] = []
    sink.say = lambda severity, event_type, **payload: said.append((event_type, payload["reason"]))
    for number in range(3):
        sink.write(Emission(record("e", number, "update" if number else "new")))
    outbox.acknowledge("a", outbox.pending("a")[0])
    held = outbox.pending("a")[0]  # on its way while the file goes
    go_away(path)
    sink.tick()
    assert [event_type for event_type, _ in said] == ["SINK_REOPENED"]
    assert "messages that were not delivered went along" in said[0][1]
    outbox.acknowledge("a", held)
    sink.write(Emission(record("e", 3)))
    assert (ids(outbox, "a"), ids(outbox, "b")) == (["e/2", "e/3"], ["e/0", "e/1", "e/2", "e/3"])
    # of an event that goes on the next run tells the end
    assert after_kill_9(path, tmp_path / "aside") == ["e/2", "e/3", "e/4"]
    assert (sink.unwritten, len(said)) == (0, 1)
    outbox.close()
    again = Outbox(path, ["a", "b"])
    assert ids(again, "b") == ["e/0", "e/1", "e/2", "e/3", "e/4"]
    again.close()


def test_another_outbox_in_its_place_keeps_what_it_had(tmp_path: Path) -> None:
    other = Outbox(tmp_path / "other.db", ["a"])
    other.append([record("o", number) for number in range(40)])
    other.close()
    path = tmp_path / "o.db"
    outbox = Outbox(path, ["a"])
    sink = OutboxSink(outbox)
    for number in range(60):
        sink.write(Emission(record("e", number)))
    for message in outbox.pending("a", 50):
        outbox.acknowledge("a", message)
    held = outbox.pending("a")[0]
    assert held.seq == 51
    (tmp_path / "other.db").replace(path)
    sink.tick()
    outbox.acknowledge("a", held)  # its number in the old file is none in the new one
    outbox.acknowledge("a", outbox.pending("a")[0])
    assert len(ids(outbox)) in (8, 9)
    outbox.close()


def test_an_event_that_goes_on_is_not_ended_by_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(path, ["a"])
    sink = OutboxSink(outbox)
    sink.write(Emission(record("e", 0, "new")))
    outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "copy.db")
    (tmp_path / "copy.db").replace(path)
    sink.tick()
    assert ids(outbox) == ["e/0"]
    outbox.close()


ERRORS: list[Exception] = [
    sqlite3.OperationalError("database or disk is full"),
    sqlite3.OperationalError("disk I/O error"),
    OSError(28, "No space left on device"),
]


@pytest.mark.parametrize("error", ERRORS, ids=str)
def test_a_disk_that_is_full_at_the_start_keeps_events_in_memory_and_delivers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def full(file: OutboxFile) -> sqlite3.Connection:
        raise error

    path = tmp_path / "o.db"
    waiting = Outbox(path, ["a"])
    waiting.append([record("w", 0, "end")])
    waiting.close()
    with monkeypatch.context() as patch:
        patch.setattr(OutboxFile, "connected", full)
        outbox = Outbox(path, ["a"])
        assert "events are in memory alone until it does" in caplog.text
        sink = OutboxSink(outbox)
        with pytest.raises(OSError, match=f"1 events are in memory alone, {path} does not take them"):
            sink.write(Emission(record("e", 0, "new")))
        with pytest.raises(OSError, match="in memory alone"):
            sink.write(Emission(record("e", 1)))
        assert ids(outbox) == ["e/0", "e/1"]
        outbox.acknowledge("a", outbox.pending("a")[0])
        assert sink.unwritten == 1
    sink.tick()
    assert sink.unwritten == 0
    assert ids(outbox) == ["w/0", "e/1"]
    outbox.close()


def test_events_that_never_found_room_are_counted_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: OutboxFile) -> sqlite3.Connection:
        raise ERRORS[0]

    monkeypatch.setattr(OutboxFile, "connected", full)
    outbox = Outbox(tmp_path / "o.db", ["a"])
    sinks = Sinks([OutboxSink(outbox)], lambda record: None, lossless=True)
    sinks.start()
    for number in range(3):
        sinks.emit(Emission(record("e", number)))
    sinks.close(patient=True)
    outbox.close()
    assert not sinks.health()[0]["ok"]
    with pytest.raises(DataError, match=r"could not be written: 3 to outbox .*disk is full"):
        sinks.check_lost()


def test_what_no_run_mends_still_ends_it_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot keep events in"):
        Outbox(tmp_path / "file" / "o.db", ["a"])


def test_events_are_kept_while_no_new_file_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "o.db"
    outbox = Outbox(path, ["a"])
    sink = OutboxSink(outbox)
    sink.write(Emission(record("e", 0, "new")))
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    for number in (1, 2):
        with pytest.raises(OSError, match=f"{number + 1} events are in memory alone"):
            sink.write(Emission(record("e", number)))
    assert ids(outbox) == ["e/0", "e/1", "e/2"]
    path.parent.unlink()
    sink.tick()
    assert after_kill_9(path, tmp_path / "aside")[:3] == ["e/0", "e/1", "e/2"]
    outbox.close()
