"""`edge-aae run` whose files go away or find no room: nothing is lost unsaid, and the exit status tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.delivery import Outbox
from tests.edge_aae.device.running import Running

EVENTS = ("--source", "test://pattern?fps=50&width=16&height=16", "--reject", "none", "--threshold", "-100", "--alarm",
          "1/1", "--clear-threshold", "-1000")  # fmt: skip
"""One event, which goes on; records of it every ten seconds"""


@pytest.fixture
def place(tmp_path: Path, bundle: Bundle) -> Path:
    bundle.write(tmp_path / "model.aae")
    return tmp_path


def unlinked(path: Path) -> None:
    path.unlink()


def rotated(path: Path) -> None:
    path.rename(path.with_name("older"))
    path.touch()


def frame_ids(path: Path) -> list[int]:
    rows = path.read_text().splitlines() if path.exists() else []
    if path.suffix == ".csv":
        return [int(row.split(",")[1]) for row in rows[1:]]
    return [record["frame_id"] for row in rows if (record := json.loads(row))["type"] == "frame"]


@pytest.mark.parametrize("go_away", [unlinked, rotated], ids=lambda way: way.__name__)
def test_files_that_are_rotated_or_removed_go_on_at_their_paths(place: Path, go_away: Callable[[Path], None]) -> None:
    files = [place / "log.jsonl", place / "scores.csv"]
    outs = [argument for file in files for argument in ("--out", file)]
    with Running(*EVENTS, "--out", "-", *outs, cwd=place) as run:
        run.wait_for(lambda: all(map(frame_ids, files)), "frames in both files")
        for file in files:
            go_away(file)
        run.wait_for(lambda: run.statuses().count("SINK_REOPENED") == 2, "both files again")
        run.process.send_signal(signal.SIGHUP)
        run.wait_for(lambda: all(map(frame_ids, files)), "frames in both files")
        status, health = run.health()
        assert (status, [sink["ok"] for sink in health["sinks"]]) == (200, [True] * 3)
        assert run.stop() == 0
    assert frame_ids(files[0])[-1] == frame_ids(files[1])[-1] == run.frames()[-1]["frame_id"]
    assert sum("while it was written; a new file goes on there" in line for line in run.said) == 2


def test_no_event_is_lost_with_an_outbox_that_is_removed_and_kill_9(place: Path) -> None:
    outbox = place / "kept" / "o.db"
    source = "test://black?fps=100&at=0.1&for=0.1&every=0.2&width=16&height=16"  # black is normal to this bundle
    many = ("--source", source, "--reject", "none", "--threshold", "-0.2", "--alarm", "1/1", "--clear-frames", "1")
    with Running(*many, "--outbox", outbox, "--out", "-", "--out", "log.jsonl", cwd=place) as run:
        run.wait_for(lambda: len(announced(place)) > 5, "events")
        for part in outbox.parent.glob("o.db*"):
            part.unlink()
        run.wait_for_status("SINK_REOPENED")
        before = len(announced(place))
        run.wait_for(lambda: len(announced(place)) > before + 5, "events after it")
        os.kill(run.process.pid, signal.SIGKILL)
        run.process.wait()
    again = Outbox(outbox, ["someone"])
    kept = {message.message_id for message in again.pending("someone", 10_000)}
    again.close()
    assert set(announced(place)) <= kept


def announced(place: Path) -> list[str]:
    file = place / "log.jsonl"
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    return [record["message_id"] for row in whole.splitlines() if (record := json.loads(row))["type"] == "event"]


@pytest.mark.parametrize("out", ["/dev/full", "full.csv"])
def test_records_that_find_no_room_are_counted_and_the_exit_status_tells(place: Path, out: str) -> None:
    (place / "full.csv").symlink_to("/dev/full")
    with Running(*EVENTS, "--out", out, "--out", "-", "--max-frames", "20", cwd=place) as run:
        assert run.end() == 1
    assert len(run.frames()) == 20
    assert run.statuses() == ["SINK_FAILED"]
    assert any(line.startswith("error: records could not be written: 2") for line in run.said), run.said
    assert any("No space left on device" in line for line in run.said)


def test_a_run_whose_records_find_no_room_is_not_healthy(place: Path) -> None:
    with Running(*EVENTS, "--out", "/dev/full", "--out", "-", cwd=place) as run:
        run.wait_for_status("SINK_FAILED")
        status, health = run.health()
        assert (status, health["ok"]) == (503, False)
        (failing,) = [sink for sink in health["sinks"] if not sink["ok"]]
        assert failing["sink"] == "/dev/full"
        assert failing["failed"] > 0
        assert "No space left" in failing["last_error"]
        assert run.stop() == 1


def test_a_disk_that_is_full_when_the_run_begins_keeps_events_in_memory(place: Path, small_disk: Path) -> None:
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={small_disk / 'filler'}"], capture_output=True)
    assert b"No space left" in filled.stderr
    outbox = small_disk / "o.db"
    with Running(*EVENTS, "--outbox", outbox, "--out", "-", cwd=place) as run:
        run.wait_for_status("SINK_FAILED")
        run.wait_for_frames(5)
        assert run.health()[0] == 503
        (small_disk / "filler").unlink()
        run.wait_for_status("SINK_RECOVERED")
        run.wait_for(lambda: run.health()[0] == 200, "health")
        assert run.stop() == 0
    again = Outbox(outbox, ["someone"])
    told = [record["message_id"] for record in run.records if record["type"] == "event"]
    assert [message.message_id for message in again.pending("someone")] == told
    assert [told_id.rpartition("/")[2] for told_id in told] == ["0", "1"]
    again.close()
