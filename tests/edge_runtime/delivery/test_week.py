"""A week of frames and events by a made-up clock that is set each day: memory stays flat, files stay bounded."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.delivery.outbox import Outbox
from edge_runtime.delivery.sink import OutboxSink
from edge_runtime.scoring.detector import Detector
from edge_runtime.sinks import Emission
from edge_runtime.sinks.textfiles import JsonLinesFile, Rotation
from edge_runtime.sources import CapturedFrame
from edge_runtime.stream.emissions import event_emission, frame_emission
from edge_runtime.stream.scored_frame import scored
from edge_runtime.stream.source_watch import SourceWatch
from edge_runtime.watching.alarm import AlarmSettings

DAYS, PERIOD_S = 7, 10.0
"""A frame each ten seconds: 60,480 of them, and an event each forty minutes"""
LOG_BYTES, LOGS = 500_000, 3
OUTBOX_BYTES = 1_000_000
NOISE_BYTES = 200_000
"""Between two days: caches of the interpreter and SQLite's; a frame's record kept would be a hundred bytes, a day's
frames 0.9 MB"""

Deliver = Callable[[Outbox], None]


def delivered(outbox: Outbox) -> None:
    while messages := outbox.pending("broker"):
        outbox.acknowledge("broker", messages[-1])


def never(_: Outbox) -> None:
    """A broker that is gone for the week."""


@pytest.mark.slow
@pytest.mark.parametrize("deliver", [delivered, never])
def test_a_week_of_frames_and_events_is_bounded(
    tmp_path: Path, detector: Detector, bundle: Bundle, deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    per_day = int(86_400 / PERIOD_S)
    watching = SourceWatch(
        smoothing="median:3", alarm=AlarmSettings(enter=1.0, clear=0.5, n=2, m=3, update_s=10.0),
        drift_frames=0, usual=None, gap_s=30.0,
    )  # fmt: skip
    wall = [1.7e9]
    monkeypatch.setattr("edge_runtime.stream.emissions.time.time", lambda: wall[0])
    log = JsonLinesFile(tmp_path / "log" / "frames.jsonl", Rotation(LOG_BYTES, LOGS))
    outbox = Outbox(tmp_path / "outbox.db", ["broker"], max_bytes=OUTBOX_BYTES)
    # What a power cut would take is not asked here, and a thousand commits to a disk take a minute.
    outbox._database.execute("PRAGMA synchronous=OFF")
    box = OutboxSink(outbox)
    log.open()
    one = scored(CapturedFrame(np.full((8, 8), 128, np.uint8), 0, 0.0, 0.0, 0.0, None), detector)
    memory, disk, phases = [], [], {"new": 0, "update": 0, "end": 0}
    tracemalloc.start()
    try:
        for number in range(DAYS * per_day):
            day, now_s = number // per_day, number * PERIOD_S
            wall[0] = 1.7e9 + now_s + (0.0, -3600.0, 86_400.0, 3600.0, -86_400.0)[day % 5]
            score = 2.0 if number % 240 < 12 else 0.1
            frame = replace(one.frame, frame_id=number, t_capture=wall[0], grabbed_s=now_s)
            news = replace(one, frame=frame, result=replace(one.result, score=score))
            meaning = watching.take(news)
            log.write(frame_emission("camera:0", news, meaning, boxes=False, beside={}))
            if meaning.event is not None:
                emission: Emission = event_emission("camera:0", meaning.event, bundle)
                phases[emission.record["phase"]] += 1
                box.write(emission)
            if number % 720 == 719:
                deliver(outbox)
                box.tick()
            if number % per_day == per_day - 1:
                gc.collect()
                memory.append(tracemalloc.get_traced_memory()[0])
                disk.append(sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()))
    finally:
        tracemalloc.stop()
        log.close()
    n_events = DAYS * per_day // 240
    assert (phases["new"], phases["end"]) == (n_events, n_events), "no step of the clock makes or hides an event"
    assert phases["update"] >= n_events
    assert max(memory[1:]) - memory[0] < NOISE_BYTES
    assert len(list((tmp_path / "log").iterdir())) == LOGS + 1
    # The write-ahead log and what one batch adds between two prunings
    assert max(disk) < (LOGS + 1) * LOG_BYTES + OUTBOX_BYTES + 6_000_000
    if deliver is delivered:
        assert (outbox.n_pending("broker"), outbox.dropped) == (0, 0)
    else:
        assert 0 < outbox.n_pending("broker") <= sum(phases.values())
        assert outbox.n_pending("broker") + outbox.dropped == sum(phases.values())
        assert outbox._used_bytes() <= OUTBOX_BYTES
    outbox.close()
