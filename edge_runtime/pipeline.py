"""The loop from source to records: grab, score, write, and what it all came to."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_runtime.detector import Detector
from edge_runtime.errors import DataError, FrameError, SourceError
from edge_runtime.records import frame_record, status_record
from edge_runtime.sources import FrameSource

__all__ = ["RunSummary", "run"]

logger = logging.getLogger(__name__)

LATENCY_WINDOW = 100_000
"""Latencies kept for the percentiles: the newest; a run that lasts for years must not grow."""


@dataclass(slots=True)
class RunSummary:
    """What a run came to."""

    frames: int = 0
    """Frames scored."""
    anomalies: int = 0
    unscored: int = 0
    """Frames that could not be decoded or do not fit the bundle; each has a status record."""
    latencies_ms: list[float] = field(default_factory=list)
    """Preprocess + infer + post, milliseconds a frame."""

    def add_latency(self, latency_ms: float) -> None:
        """Keep one latency, the newest LATENCY_WINDOW of them."""
        if len(self.latencies_ms) < LATENCY_WINDOW:
            self.latencies_ms.append(latency_ms)
        else:
            self.latencies_ms[(self.frames - 1) % LATENCY_WINDOW] = latency_ms

    def percentiles_ms(self) -> tuple[float, float, float] | None:
        """p50, p95 and p99 of the latencies in milliseconds; None before the first frame."""
        if not self.latencies_ms:
            return None
        p50, p95, p99 = np.percentile(self.latencies_ms, (50, 95, 99))
        return float(p50), float(p95), float(p99)

    def __str__(self) -> str:
        line = f"{self.frames} frames, {self.anomalies} anomalies"
        if self.unscored:
            line += f", {self.unscored} not scored"
        percentiles = self.percentiles_ms()
        if percentiles:
            line += ", latency p50 {:.2f} p95 {:.2f} p99 {:.2f} ms".format(*percentiles)
        return line


def run(
    detector: Detector,
    source: FrameSource,
    write: Callable[[dict[str, Any]], None],
    *,
    stopped: Callable[[], bool] = lambda: False,
    max_frames: int | None = None,
    summary: RunSummary | None = None,
) -> RunSummary:
    """Score an open source until it ends, `stopped` says so, or max_frames were grabbed.

    write takes each record, in order. summary is filled as frames pass, so that it is right whatever ends the run.
    A source that is lost gets a status record before its SourceError passes on.
    """
    summary = RunSummary() if summary is None else summary
    try:
        while not stopped() and (max_frames is None or summary.frames + summary.unscored < max_frames):
            if not source.grab():
                break
            _score_grabbed(detector, source, write, summary)
    except SourceError as error:
        write(status_record("error", "SOURCE_LOST", source.source_id, {"reason": str(error)}))
        raise
    return summary


def _score_grabbed(
    detector: Detector, source: FrameSource, write: Callable[[dict[str, Any]], None], summary: RunSummary
) -> None:
    try:
        frame = source.retrieve()
        result = detector.score(frame.image)
    except (DataError, FrameError) as error:
        summary.unscored += 1
        logger.warning("frame not scored: %s", error)
        write(status_record("warning", "FRAME_NOT_SCORED", source.source_id, {"reason": str(error)}))
        return
    age_ms = 1000.0 * (time.perf_counter() - frame.grabbed_s)
    write(
        frame_record(source.source_id, frame, result, t_emit=time.time(), age_ms=age_ms, model=detector.bundle.digest)
    )
    summary.frames += 1
    summary.anomalies += result.is_anomaly
    summary.add_latency(sum(result.latency_ms.values()))
