"""The outbox: what it holds survives, in order, for each destination."""

from __future__ import annotations

import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.delivery import Outbox, OutboxSink
from edge_runtime.delivery.outbox_file import USUAL_NAME
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.sinks import Emission


def record(event: str, number: int, phase: str = "update") -> dict[str, Any]:
    return {"type": "event", "event_id": event, "message_id": f"{event}/{number}", "phase": phase, "reason": None}


def whole(event: str) -> list[dict[str, Any]]:
    return [record(event, 0, "new"), record(event, 1), record(event, 2, "end")]


def ids(outbox: Outbox, destination: str = "a") -> list[str]:
    return [message.message_id for message in outbox.pending(destination)]


def test_each_destination_has_its_own_place(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "new" / "o.db", ["a", "b"])
    outbox.append(whole("e"))
    first, second, _ = outbox.pending("a")
    outbox.acknowledge("a", first)
    outbox.acknowledge("a", second)
    assert (ids(outbox, "a"), ids(outbox, "b")) == (["e/2"], ["e/0", "e/1", "e/2"])
    outbox.prune()  # b has nothing yet
    assert outbox.n_pending("b") == 3
    for message in outbox.pending("b"):
        outbox.acknowledge("b", message)
    outbox.prune()
    assert ids(outbox, "a") == ["e/2"]
    outbox.close()


def test_what_is_pending_is_there_after_a_restart_and_a_message_counts_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append(whole("e"))
    outbox.append(whole("e"))
    outbox.close()
    again = Outbox(tmp_path / "o.db", ["a"])
    assert ids(again) == ["e/0", "e/1", "e/2"]
    assert again.pending("a")[0].record == record("e", 0, "new")
    again.close()


def test_an_event_that_a_crash_left_open_is_ended(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append([*whole("e"), record("f", 0, "new"), record("f", 1)])
    outbox.close()
    for _ in range(2):  # once, however often it is opened
        again = Outbox(tmp_path / "o.db", ["a"])
        assert ids(again)[-3:] == ["f/0", "f/1", "f/2"]
        last = again.pending("a")[-1].record
        assert (last["phase"], last["reason"]) == ("end", "interrupted")
        again.close()


def test_an_event_that_a_crash_left_open_ends_with_its_last_frame(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    sink = OutboxSink(outbox)
    times = {"start_time": "T10:00:00", "peak_time": "T10:00:01", "end_time": None}
    for number, last in ((0, "T10:00:02"), (1, "T10:00:12")):
        phase = "update" if number else "new"
        sink.write(Emission({**record("e", number, phase), **times}, last_time=last))
    outbox.append([{**record("f", 0, "new"), **times}])  # as an older release left it
    assert [message.record["end_time"] for message in outbox.pending("a")] == [None] * 3
    outbox.close()
    again = Outbox(tmp_path / "o.db", ["a"])
    ends = {message.record["event_id"]: message.record for message in again.pending("a") if message.seq > 3}
    assert {event: end["end_time"] for event, end in ends.items()} == {"e": "T10:00:12", "f": "T10:00:01"}
    again.close()


BAD_RECORDS = ["", "{", "[]", '"e"', "{}", '{"message_id": 3}', '{"message_id": "e/x", "event_id": "e"}', b"\xff",
               '{"message_id": "e/0", "event_id": "e", "phase": "new", "peak_score": NaN}']  # fmt: skip


@pytest.mark.parametrize("bad", BAD_RECORDS, ids=str)
def test_an_open_event_that_is_damaged_stops_no_run(tmp_path: Path, bad: str | bytes) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append([record("a", 0, "new"), record("z", 0, "new")])
    outbox._database.execute("INSERT INTO open_events VALUES ('m', ?)", (bad,))
    outbox._database.commit()
    outbox.close()
    again = Outbox(tmp_path / "o.db", ["a"])
    assert [(m.message_id, m.record["reason"]) for m in again.pending("a")[2:]] == [
        ("a/1", "interrupted"), ("z/1", "interrupted"),
    ]  # fmt: skip
    assert again._database.execute("SELECT COUNT(*) FROM open_events").fetchone() == (0,)
    again.close()


@pytest.mark.parametrize("bad", ["", "{", "[]", "NaN", '{"score": Infinity}', b"\xff"], ids=str)
def test_a_message_that_is_damaged_is_put_aside_and_those_around_it_go(tmp_path: Path, bad: str | bytes) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a", "b"])
    outbox.append(whole("e"))
    outbox._database.execute("UPDATE messages SET record = ? WHERE message_id = 'e/1'", (bad,))
    outbox._database.commit()
    assert ids(outbox) == ["e/0"]  # none is acknowledged that was not delivered
    assert outbox.refused() == []
    outbox.acknowledge("a", outbox.pending("a")[0])
    assert ids(outbox) == ["e/2"]
    assert [(destination, message_id) for destination, message_id, _ in outbox.refused()] == [("a", "e/1")]
    assert ids(outbox, "b") == ["e/0"]
    outbox.close()


@pytest.mark.parametrize("error", [ValueError("bug"), DataError("bad"), sqlite3.OperationalError("no"), OSError("no")])
def test_an_outbox_that_does_not_open_is_free_for_the_next_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(outbox: Outbox, ours: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "_end_interrupted", fail)
        for _ in range(2):  # and not "another run's"
            with pytest.raises((ValueError, DataError), match=str(error)):
                Outbox(tmp_path / "o.db", ["a"])
    Outbox(tmp_path / "o.db", ["a"]).close()


def test_who_comes_later_gets_what_comes_later_and_who_is_gone_is_not_waited_for(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append(whole("e"))
    outbox.close()
    outbox = Outbox(tmp_path / "o.db", ["b"])
    assert ids(outbox, "b") == []
    outbox.append([record("f", 0, "new")])
    assert ids(outbox, "b") == ["f/0"]
    outbox.prune()
    assert outbox.n_pending("b") == 1
    outbox.close()


def test_what_nobody_was_there_to_take_goes_to_the_first_who_is_named(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db")
    outbox.append(whole("e"))
    outbox.prune()
    outbox.close()
    outbox = Outbox(tmp_path / "o.db", ["a"])
    assert ids(outbox) == ["e/0", "e/1", "e/2"]
    outbox.close()


def test_a_message_that_is_refused_lets_the_next_pass_and_is_kept_aside(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append(whole("e"))
    outbox.refuse("a", outbox.pending("a")[0], "answered 400")
    assert ids(outbox) == ["e/1", "e/2"]
    assert outbox.refused() == [("a", "e/0", "answered 400")]
    outbox.close()


def test_a_second_run_is_refused_the_file(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    with pytest.raises(ConfigError, match="another run's outbox"):
        Outbox(tmp_path / "o.db", ["a"])
    outbox.close()
    Outbox(tmp_path / "o.db", ["a"]).close()


@pytest.mark.parametrize("damage", ["text", "pages"])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "o.db"
    outbox = Outbox(path, ["a"])
    outbox.append([record("e", number) for number in range(500)])
    outbox.close()
    content = bytearray(path.read_bytes())
    content = bytearray(b"no database" * 100) if damage == "text" else content
    content[4096:12_000] = b"\xff" * (12_000 - 4096)
    path.write_bytes(content)
    outbox = Outbox(path, ["a"])
    outbox.append(whole("f"))
    assert ids(outbox) == ["f/0", "f/1", "f/2"]
    outbox.close()
    assert "is damaged" in caplog.text
    assert len(list(tmp_path.glob("o.db.damaged-*"))) >= 1


@pytest.mark.parametrize("name", ["photo.jpg", "notes.db"])
def test_a_file_of_somebodys_own_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xff\xd8\xff\xe0 a photograph" * 100)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match=f"--outbox .*{name} is no outbox .it is no database.; name a file of its"):
        Outbox(path, ["a"])
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [(name, 0o644)]
    assert path.read_bytes() == b"\xff\xd8\xff\xe0 a photograph" * 100


@pytest.mark.parametrize(("name", "content"), [("o.db", b""), (USUAL_NAME, b"\0" * 4096)])
def test_an_empty_file_and_one_of_the_usual_name_are_taken(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    Outbox(tmp_path / name, ["a"]).close()


def test_a_file_of_another_schema_and_a_place_that_is_none_are_errors(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "o.db")
    database.execute("PRAGMA user_version=9")
    database.close()
    with pytest.raises(DataError, match="has outbox schema 9, this release knows 1"):
        Outbox(tmp_path / "o.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot keep events"):
        Outbox(tmp_path / "file" / "o.db")
    with pytest.raises(ConfigError, match="1,000,000 or more"):
        Outbox(tmp_path / "p.db", max_bytes=5)


def test_a_file_that_grows_too_large_loses_its_oldest(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"], max_bytes=1_000_000)
    outbox.append([{**record("e", number), "pad": "x" * 2000} for number in range(1000)])
    outbox.prune()
    assert outbox.dropped > 300
    left = ids(outbox)
    assert left[0] == f"e/{outbox.dropped}"
    outbox.close()


def test_kill_9_within_a_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from edge_runtime.delivery import Outbox
outbox = Outbox(Path({str(tmp_path / "o.db")!r}), ["a"])
number = 0
while True:
    name = f"e{{number}}"
    outbox.append([dict(event_id=name, message_id=f"{{name}}/{{phase}}", phase=phase) for phase in ("new", "end")])
    print(number, flush=True)
    number += 1
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = [process.stdout.readline()]
    threading.Timer(0.5, process.send_signal, [signal.SIGKILL]).start()
    said += process.stdout.read().split()
    process.communicate()
    outbox = Outbox(tmp_path / "o.db", ["a"])
    assert outbox.n_pending("a") >= 2 * len(said) > 0
    assert outbox.n_pending("a") % 2 == 0
    outbox.close()


@pytest.mark.parametrize(
    ("before", "n_events", "n_kept"),
    [
        ((), 2, 6),
        (("wal_checkpoint(TRUNCATE)",), 2, 6),
        (("wal_checkpoint(TRUNCATE)", "shrink_memory"), 2, 0),
        (("wal_checkpoint(TRUNCATE)",), 9_000, 0),
    ],
    ids=["in the log", "in memory", "in the file alone", "more than memory keeps"],
)
def test_a_file_that_is_emptied_in_place_is_begun_again(
    tmp_path: Path, before: tuple[str, ...], n_events: int, n_kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    """As `> outbox.db` does; it went on into pages that no file held any more, unsaid."""
    outbox = Outbox(tmp_path / "o.db", ["a"])
    outbox.append([record for number in range(n_events) for record in whole(f"e{number}")])
    for command in before:
        outbox._database.execute(f"PRAGMA {command}")
    assert outbox.follow() == ""
    (tmp_path / "o.db").write_bytes(b"")
    assert f"emptied while events were kept in it; a new file goes on there, {n_kept} messages" in outbox.follow()
    assert ("what was not delivered is lost with the file" in caplog.text) == (n_kept == 0)
    outbox.append(whole("g"))
    assert len(ids(outbox)) == n_kept + 3
    outbox.close()
    again = Outbox(tmp_path / "o.db", ["a"])
    assert len(ids(again)) == n_kept + 3
    again.close()


def test_events_wait_in_memory_while_the_disk_is_full(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", ["a"])
    sink = OutboxSink(outbox)
    sink.write(Emission(record("e", 0, "new")))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    committed = threading.Event()
    try:
        with pytest.raises(OSError, match="1 events are in memory alone"):
            sink.write(Emission(record("e", 1), committed=committed))
        assert committed.is_set()  # nobody waits for a disk that is full
        with pytest.raises(OSError, match="2 events are in memory alone"):
            sink.write(Emission(record("e", 2, "end")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ids(outbox) == ["e/0"]
    sink.tick()
    assert ids(outbox) == ["e/0", "e/1", "e/2"]
    outbox.close()
