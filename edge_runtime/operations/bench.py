"""How fast a bundle runs here, stage by stage, against the bare network in the same process and the same minute."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edge_runtime.errors import SourceError
from edge_runtime.model.preprocess import Frame
from edge_runtime.operations.power import measured_energy
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.sinks import Emission, JsonLinesFile
from edge_runtime.sources.contract import CapturedFrame, FrameSource, SourceContext, tell_levels
from edge_runtime.sources.synthetic import TestSource
from edge_runtime.stream.feed import FeedSettings
from edge_runtime.stream.pipeline import Pipeline, RunSettings
from edge_runtime.watching.guard import GuardSettings
from edge_runtime.watching.picture_watch import PictureChange, PictureWatch

__all__ = ["BenchReport", "Stage", "bench", "cold_start"]

PICTURES = 32
"""Frames taken from the source; they are scored again and again, so that the source's rate does not count."""

WARM_UP = 20
COLD_STARTS = 3
COLD_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Milliseconds a frame."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Stage:
        """The percentiles of measured times."""
        p50, p95, p99 = (round(float(value), 4) for value in np.percentile(values_ms, (50, 95, 99)))
        return cls(p50, p95, p99)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchReport:
    """What was measured."""

    backend: str
    precision: str
    threads: int
    frames: int
    frame_shape: tuple[int, ...]
    stages_ms: dict[str, Stage]
    """capture (grab and decode), preprocess, infer, post, sink (a record as JSON to nowhere, in its own thread)"""
    end_to_end_ms: Stage
    """From one record to the next, of frames that are decoded already: everything `run` does but decoding."""
    bare_ms: Stage
    """The network alone on a prepared input, between the frames."""
    overhead: float
    """Median end to end over median bare."""
    fps: float
    """Frames a second that one core's worth of this loop gives: 1000 / mean end to end."""
    resident_mib: float | None
    """Largest resident memory of `edge-aae run` in a process of its own"""
    cold_start_s: float | None
    """Median from the start of that process to its first record, imports and loading included"""
    energy_j_per_frame: float | None
    energy_meter: str | None

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class _InMemory(SourceContext):
    """Frames that are there already, again and again."""

    live = False
    inter_coded = False
    source_id = "memory"

    def __init__(self, frames: Sequence[Frame], n_frames: int) -> None:
        self._frames, self._n_frames, self._number = frames, n_frames, -1

    def open(self) -> None:
        """Nothing to open."""

    def grab(self) -> bool:
        """Whether there is one more."""
        self._number += 1
        return self._number < self._n_frames

    def retrieve(self) -> CapturedFrame:
        """The next one."""
        image = self._frames[self._number % len(self._frames)]
        return CapturedFrame(image, self._number, time.time(), time.perf_counter(), 0.0, None)

    def close(self) -> None:
        """Nothing to close."""


class _Unsaid(PictureWatch):
    """A watch that takes its time and says nothing: that a made-up picture is none of those trained on is no news."""

    def judged(self, result: Result, frame_shape: tuple[int, ...]) -> tuple[Result, PictureChange | None]:
        """As of a watch, without what changed."""
        return super().judged(result, frame_shape)[0], None


class _Timed(JsonLinesFile):
    """A sink whose writes are timed."""

    def __init__(self) -> None:
        super().__init__(Path(os.devnull))
        self.times_ms: list[float] = []

    def write(self, emission: Emission) -> None:
        start = time.perf_counter()
        super().write(emission)
        self.times_ms.append(1000.0 * (time.perf_counter() - start))


def taken(source: FrameSource, n_frames: int = PICTURES) -> tuple[list[Frame], list[float]]:
    """Frames of a source, and what grabbing and decoding each took in milliseconds. Raises SourceError for none."""
    frames: list[Frame] = []
    times_ms: list[float] = []
    with source:
        while len(frames) < n_frames:
            if not source.grab():
                break
            start = time.perf_counter()
            frame = source.retrieve()
            decode_ms = 1000.0 * (time.perf_counter() - start)
            frames.append(frame.image)
            times_ms.append(decode_ms if source.live else frame.capture_ms)
    if not frames:
        raise SourceError(f"{source.source_id} gave no frame, expected some to measure with", code="LOST")
    return frames, times_ms


def bench(
    detector: Detector,
    source: FrameSource,
    *,
    n_frames: int = 500,
    precision: str = "fp32",
    threads: int = 0,
    cold_arguments: Sequence[str] | None = None,
) -> BenchReport:
    """Measure a loaded detector on a source's frames.

    After each frame's record the bare network runs once, so that a busy moment of the machine hits both alike.
    cold_arguments: of `edge-aae run`, for the start and memory of a process of its own; None leaves them out.
    Raises FrameError where the source's frames do not fit.
    """
    tell_levels([source], detector.preprocess.levels)
    frames, capture_ms = taken(source)
    prepared = detector.inputs(frames[0])[0]
    stages: dict[str, list[float]] = {name: [] for name in ("preprocess", "infer", "post")}
    end_to_end_ms: list[float] = []
    bare_ms: list[float] = []
    mark_s = math.nan

    def measure(record: dict[str, Any]) -> None:
        nonlocal mark_s
        now_s = time.perf_counter()
        if record["type"] != "frame":
            return
        start = time.perf_counter()
        for tile in prepared:
            detector.backend.run(tile[None])
        bare = 1000.0 * (time.perf_counter() - start)
        if record["frame_id"] >= WARM_UP:
            bare_ms.append(bare)
            end_to_end_ms.append(1000.0 * (now_s - mark_s))
            for name, values in stages.items():
                values.append(record["latency_ms"][name])
        mark_s = time.perf_counter()

    sink = _Timed()
    settings = RunSettings(feed=FeedSettings(guard=GuardSettings(checks=())))
    pipeline = Pipeline(detector, [_InMemory(frames, n_frames + WARM_UP)], measure, settings, sinks=[sink])
    if isinstance(source, TestSource):
        for state in pipeline.states():
            state.pictures = _Unsaid(detector.bundle.quality_limits)
    with measured_energy() as meter:
        pipeline.run()
    start_s, resident = cold_start(cold_arguments) if cold_arguments is not None else (None, None)
    n_measured = n_frames + WARM_UP
    return BenchReport(
        backend=detector.backend.name,
        precision=precision,
        threads=threads,
        frames=n_frames,
        frame_shape=frames[0].shape,
        stages_ms={
            "capture": Stage.of(capture_ms),
            **{name: Stage.of(values) for name, values in stages.items()},
            "sink": Stage.of(sink.times_ms),
        },
        end_to_end_ms=Stage.of(end_to_end_ms),
        bare_ms=Stage.of(bare_ms),
        overhead=round(median(end_to_end_ms) / median(bare_ms), 3),
        fps=round(1000.0 / (sum(end_to_end_ms) / len(end_to_end_ms)), 1),
        resident_mib=resident,
        cold_start_s=start_s,
        energy_j_per_frame=None if meter.joules is None else round(meter.joules / n_measured, 5),
        energy_meter=meter.meter,
    )


def cold_start(arguments: Sequence[str]) -> tuple[float, float]:
    """(seconds to the first record, largest resident MiB) of `edge-aae run` in processes of their own: medians.

    arguments: without a source; a made-up camera of 640x480 is taken. Raises SourceError where no record comes.
    """
    starts, residents = [], []
    for _ in range(COLD_STARTS):
        command = [sys.executable, "-m", "edge_aae.cli", "run", "--source", "test://pattern?frames=60", *arguments]
        begun_s = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        with process.stdout as output:
            line = output.readline()
            starts.append(time.perf_counter() - begun_s)
            peak_mib = 0.0
            while output.readline():
                peak_mib = max(peak_mib, _peak_mib(process.pid))
        process.wait(COLD_TIMEOUT_S)
        try:
            json.loads(line)
        except ValueError as error:
            raise SourceError(f"`{' '.join(command[1:])}` gave no record; run it to see why") from error
        residents.append(peak_mib)
    return round(median(starts), 3), round(median(residents), 1)


def _peak_mib(pid: int) -> float:
    try:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024.0
    except OSError:
        pass
    return 0.0
