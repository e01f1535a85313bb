"""Sinks and delivery through the real command line: hung readers, full disks, kill -9, brokers that come and go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from benchmarks.runtime.broker import MOSQUITTO
from benchmarks.runtime.crash_delivery import trial
from edge_runtime.delivery import Outbox
from tests.edge_aae.conftest import Cli
from tests.edge_aae.device.running import ROOT, Running

FAST = "test://pattern?fps=200&width=64&height=64"


def defect(photos: Path, more: str = "") -> str:
    return f"test://defect?fps=20&at=1&for=1&width=48&height=40&images={photos / 'test/good'}{more}"


def counted(metrics: str, name: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(name))


def test_a_reader_that_hangs_stops_nothing(workplace: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_aae.cli", "run", "--source", FAST, "--reject", "none", "--threads", "1",
         "--out", "-", "--out", str(tmp_path / "all.jsonl")],
        cwd=workplace, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=writing, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writing)
    try:
        file = tmp_path / "all.jsonl"
        deadline = time.monotonic() + 60
        # The pipe takes 64 KiB, the queue a thousand records: what is beyond can only be dropped.
        while not (file.exists() and file.read_bytes().count(b"\n") > 1700):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(reading)
    assert process.stderr is not None
    with process.stderr as stream:
        said = stream.read()
    assert "records dropped" in said
    assert "sink stdout hangs" in said
    statuses = [record for line in file.read_text().splitlines() if (record := json.loads(line))["type"] == "status"]
    assert [(status["event_type"], status["source_id"]) for status in statuses] == [("SINK_DROPS", "stdout")]


def test_a_full_disk_stops_nothing_and_leaves_nothing_half_written(
    workplace: Path, photos: Path, small_disk: Path
) -> None:
    source = defect(photos, "&every=2")
    arguments = ("--alarm", "2/3", "--out", small_disk / "log.jsonl", "--outbox", small_disk / "outbox.db")
    filler = small_disk / "filler"
    with Running("--source", source, "--out", "-", *arguments, cwd=workplace) as run:
        run.wait_for_frames(20)
        with filler.open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass
        run.wait_for(lambda: run.statuses().count("SINK_FAILED") == 2, "the status of both files")
        run.wait_for_frames(40)
        filler.unlink()
        run.wait_for(lambda: run.statuses().count("SINK_RECOVERED") == 2, "the recovery of both files", 60)
        run.wait_for_frames(20)
        assert counted(run.metrics(), "edge_aae_sink_records_failed_total") > 2
        assert run.stop() == 1  # records of frames are lost; events are not
    assert any("records could not be written" in line and "outbox" not in line for line in run.said), run.said
    ids = [record["frame_id"] for record in run.frames()]
    assert ids == sorted(ids)
    lines = [json.loads(line) for line in (small_disk / "log.jsonl").read_text().splitlines()]
    written = [line["frame_id"] for line in lines if line["type"] == "frame"]
    assert 40 <= len(written) < len(ids)
    outbox = Outbox(small_disk / "outbox.db", ["someone"])
    begun = [record["message_id"] for record in run.records if record["type"] == "event"]
    assert [message.message_id for message in outbox.pending("someone")] == begun
    outbox.close()


@pytest.mark.slow
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
def test_every_reported_event_is_delivered_across_kill_9_and_broker_restarts(
    workplace: Path, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    account = trial(workplace / "model.aae", photos / "test/good", 6, tmp_path, seed=3)
    assert account["events_reported"] > 3
    assert account["reported_but_not_delivered"] == 0
    assert account["out_of_order"] == 0
    assert account["duplicates_that_differ"] == 0
    assert account["events_without_end"] == 0


def test_an_event_leaves_a_picture_a_clip_and_its_boxes(workplace: Path, photos: Path, tmp_path: Path) -> None:
    source = defect(photos, "&frames=60")
    pictures = (
        "--snapshots",
        tmp_path / "shots",
        "--clips",
        tmp_path / "clips",
        "--record",
        tmp_path / "all",
        "--boxes",
    )
    with Running("--source", source, "--alarm", "2/3", *pictures, "--out", "-", cwd=workplace) as run:
        assert run.end() == 0
    event = next(record for record in run.records if record["type"] == "event")
    assert cv2.imread(event["snapshot"]) is not None
    assert cv2.VideoCapture(event["clip"]).read()[0]
    assert len(list((tmp_path / "all").glob("*.avi"))) == 1
    anomalous = [record for record in run.frames() if record["is_anomaly"]]
    assert all(0 < len(record["boxes"]) <= 16 for record in anomalous)
    assert all(record["boxes"] == [] for record in run.frames() if not record["is_anomaly"])
    box = max(anomalous, key=lambda record: record["score"])["boxes"][0]
    assert 0 <= box["x"] < box["x"] + box["width"] <= 48
    assert 0 <= box["y"] < box["y"] + box["height"] <= 40


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--snapshots", "s"), "of events, which --alarm begins"),
        (("--mqtt", "mqtt://localhost"), "carry events, which --alarm begins"),
        (("--alarm", "1/1", "--mqtt", "http://localhost"), "expected mqtt://HOST:PORT"),
        (("--alarm", "1/1", "--webhook", "localhost"), "does not begin with http://"),
        (("--alarm", "1/1", "--snapshots", "s", "--clips", "s"), "need a folder each"),
        (("--out", "-", "--out", "-"), "names one place twice"),
        (("--mqtt-ca", "ca.pem"), "which is not named"),
        (("--webhook-token", "t"), "which is not named"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(workplace: Path, cli: Cli, arguments: tuple[str, ...], says: str) -> None:
    ended = cli("run", "--source", FAST, *arguments, cwd=workplace)
    assert ended.returncode == 2
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr
