"""The loop from sources to records: take a frame, score it, smooth, watch for events, write."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Literal

from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.regions import regions_of
from edge_runtime.scoring.result import Result
from edge_runtime.sinks.contract import Emission, Sink
from edge_runtime.sinks.destination import Destination
from edge_runtime.sinks.records import event_record, frame_record, status_record
from edge_runtime.sinks.runner import Sinks
from edge_runtime.sources.contract import CapturedFrame, FrameSource
from edge_runtime.stream.feed import Feed
from edge_runtime.stream.handover import Taken
from edge_runtime.stream.source_state import RunSettings, SourceState, Write
from edge_runtime.stream.summary import RunSummary
from edge_runtime.watching.alarm import Alarm, EventChange
from edge_runtime.watching.drift import DriftWatch

__all__ = ["Pipeline", "RunSettings", "RunSummary", "SourceState", "run"]

logger = logging.getLogger(__name__)

WAIT_S = 0.1
"""How long the loop waits for a frame before it looks at stops and stalls again."""

HANG_S = 30.0
"""A frame that takes longer than this to score is a hang: no network of ours takes a tenth of it."""


class Pipeline:
    """Scores one or several sources with one detector, in turn, each with its own smoothing and alarm."""

    def __init__(
        self,
        detector: Detector,
        sources: Sequence[FrameSource],
        write: Write = lambda record: None,
        settings: RunSettings | None = None,
        summary: RunSummary | None = None,
        *,
        sinks: Sequence[Sink] = (),
        pulse: Callable[[], None] = lambda: None,
    ) -> None:
        """Neither sources nor sinks are open yet.

        write: takes each record, in order, in the thread that runs the pipeline, so that it must be quick; sinks take
        them in threads of their own and cannot slow the scoring. pulse: called in the pipeline's thread before each
        frame, and ten times a second where none comes; it must be quick.
        """
        self._pulse = pulse
        self.detector = detector
        self.summary = RunSummary() if summary is None else summary
        self._write = write
        self._settings = settings or RunSettings()
        self._ready = threading.Condition()
        self._statuses: deque[dict[str, Any]] = deque()
        usual = detector.usual_scores if self._settings.drift else None
        if self._settings.drift and usual is None:
            raise ConfigError("the bundle keeps no distribution of scores to watch drift by; run `edge-aae calibrate`")
        self._streams = [
            SourceState(source, self._settings, self._statuses.append, self._ready, self.summary, usual)
            for source in sources
        ]
        lossless = not any(source.live for source in sources)
        self._stopped: Callable[[], bool] = lambda: False
        self.sinks = Sinks(sinks, self.report, lossless=lossless, stopped=lambda: self._stopped())
        self.summary.sinks = [runner.counts for runner in self.sinks.runners]
        self.destinations: Sequence[Destination] = ()
        """Where events are delivered to; for the metrics."""
        self._turn = 0
        self._moved_s = time.perf_counter()

    def states(self) -> list[SourceState]:
        """The sources' states, as the sources were given; to be read from any thread."""
        return list(self._streams)

    def health(self) -> dict[str, Any]:
        """{ok, scorer_moves, sources}: ok while every source is up and the scorer does not hang. From any thread."""
        moves = time.perf_counter() - self._moved_s < HANG_S
        sources = [state.health() for state in self._streams]
        return {"ok": moves and all(source["up"] for source in sources), "scorer_moves": moves, "sources": sources}

    def current(self) -> dict[str, Any]:
        """{ok, model, threshold, sources}: the run's state without what changes with every frame. From any thread."""
        detector = self.detector
        return {
            "ok": self.health()["ok"],
            "model": f"sha256:{detector.bundle.digest}",
            "threshold": detector.decision.threshold,
            "sources": [state.current() for state in self._streams],
        }

    def set_detector(self, detector: Detector) -> None:
        """Score with another detector from the next frame on. In the pipeline's thread, such as from `pulse`."""
        self.detector = detector
        usual = detector.usual_scores if self._settings.drift else None
        for state in self._streams:
            state.drift = None if usual is None else DriftWatch(usual, self._settings.drift)
        self._move_alarms(detector.decision.threshold)

    def set_threshold(self, threshold: float) -> None:
        """Move the threshold, and the alarms with it. In the pipeline's thread, such as from `pulse`."""
        self.detector = self.detector.with_threshold(threshold)
        self._move_alarms(threshold)

    def _move_alarms(self, threshold: float) -> None:
        for state in self._streams:
            if state.alarm is not None:
                state.alarm.move(threshold)

    def report(self, record: dict[str, Any]) -> None:
        """Have a status record written in its turn. From any thread."""
        self._statuses.append(record)

    @property
    def feeds(self) -> list[Feed]:
        """The sources' feeds, as the sources were given."""
        return [stream.feed for stream in self._streams]

    def run(self, *, stopped: Callable[[], bool] = lambda: False, max_frames: int | None = None) -> RunSummary:
        """Score until every source has ended, `stopped` says so, or max_frames were taken.

        A source that is given up has a status record; its SourceError is raised when no source is left, and
        BrokenPipeError where the reader of a sink went away.
        """
        self._stopped = stopped
        self.sinks.start()
        try:
            reason = self._score_all(stopped, max_frames)
        finally:
            self.sinks.close(patient=not stopped() and self.sinks.broken is None)
        if self.sinks.broken is not None:
            raise self.sinks.broken
        if reason == "ended":
            for feed in self.feeds:
                if feed.error is not None:
                    raise feed.error
        return self.summary

    def _score_all(self, stopped: Callable[[], bool], max_frames: int | None) -> str:
        """Why it ended: ended (the sources) or stopped."""
        summary = self.summary
        reason = "stopped"
        for feed in self.feeds:
            feed.start()
        try:
            while not (stopped() or self.sinks.broken) and (
                max_frames is None or summary.frames + summary.unscored < max_frames
            ):
                self._moved_s = time.perf_counter()
                self._pulse()
                for feed in self.feeds:
                    feed.watch()
                taken = self._next()
                self._write_statuses()
                if taken:
                    self._score(*taken)
                elif all(feed.ended for feed in self.feeds):
                    reason = "ended"
                    break
        finally:
            for feed in self.feeds:
                feed.stop()
        self._end_events(reason)
        self._write_statuses()
        return reason

    def _next(self) -> tuple[SourceState, Taken] | None:
        """The next frame of the sources in turn; None where none comes within WAIT_S."""
        with self._ready:
            for attempt in range(2):
                for _ in range(len(self._streams)):
                    stream = self._streams[self._turn % len(self._streams)]
                    self._turn += 1
                    item = stream.feed.take()
                    if item is not None:
                        return stream, item
                if attempt == 0 and not all(feed.ended for feed in self.feeds):
                    self._ready.wait(WAIT_S)
        return None

    def _score(self, stream: SourceState, item: Taken) -> None:
        if isinstance(item, dict):
            self._emit(item)
            return
        try:
            if isinstance(item, DataError):
                raise item
            result = self.detector.score(item.image)
        except (DataError, FrameError) as error:
            self.summary.unscored += 1
            stream.unscored += 1
            logger.warning("frame not scored: %s", error)
            self._emit(status_record("warning", "FRAME_NOT_SCORED", stream.source_id, {"reason": str(error)}))
            return
        smoothed = stream.smooth(result.score)
        if stream.alarm:
            change = stream.alarm.step(item.t_capture, smoothed)
            if change is None or change.phase != "end":
                stream.keep_best(item.image, result)
            self._tell(stream, stream.alarm, change)
        self._emit(
            frame_record(
                stream.source_id,
                item,
                result,
                t_emit=time.time(),
                age_ms=1000.0 * (time.perf_counter() - item.grabbed_s),
                model=self.detector.bundle.digest,
                score_smoothed=smoothed,
                state=stream.alarm.state if stream.alarm else None,
                event_id=stream.alarm.event_id if stream.alarm else None,
                boxes=self._boxes(item, result) if self._settings.boxes else None,
            ),
            item.image,
            result,
        )
        self.summary.frames += 1
        self.summary.anomalies += result.is_anomaly
        self.summary.add_latency(sum(result.latency_ms.values()))
        if stream.drift is not None:
            self._watch_drift(stream, stream.drift, result.score)
        stream.frames += 1
        stream.anomalies += result.is_anomaly
        stream.last_score, stream.last_is_anomaly = smoothed, result.is_anomaly
        for stage, latency_ms in {"capture": item.capture_ms, **result.latency_ms}.items():
            stream.latencies[stage].add(latency_ms / 1000.0)

    def _watch_drift(self, stream: SourceState, drift: DriftWatch, score: float) -> None:
        before, window = drift.last, drift.add(score)
        if window is None or window.drifted == (before is not None and before.drifted):
            return
        found = {key: round(value, 4) for key, value in asdict(window).items() if key != "drifted"}
        severity: Literal["warning", "info"] = "warning" if window.drifted else "info"
        self._emit(
            status_record(severity, "SCORES_DRIFT" if window.drifted else "SCORES_USUAL", stream.source_id, found)
        )

    def _boxes(self, frame: CapturedFrame, result: Result) -> list[dict[str, float]]:
        if not result.is_anomaly:
            return []
        heat = result.heatmap(frame.image.shape)
        return [region.to_json() for region in regions_of(heat, self.detector.map_peak)]

    def _tell(self, stream: SourceState, alarm: Alarm, change: EventChange | None) -> None:
        if change is None:
            return
        self.summary.events += change.phase == "new"
        stream.events += change.phase == "new"
        stream.n_changes = 0 if change.phase == "new" else stream.n_changes + 1
        record = event_record(
            stream.source_id,
            change,
            number=stream.n_changes,
            threshold=alarm.settings.enter,
            model=self.detector.bundle.digest,
        )
        for runner in self.sinks.runners:
            record.update(runner.sink.fields(record))
        self._emit(record, *stream.take_best())

    def _emit(self, record: dict[str, Any], image: Frame | None = None, result: Result | None = None) -> None:
        self._write(record)
        self.sinks.emit(Emission(record, image, result))

    def _end_events(self, reason: str) -> None:
        for stream in self._streams:
            if stream.alarm:
                self._tell(stream, stream.alarm, stream.alarm.stop(reason))

    def _write_statuses(self) -> None:
        while self._statuses:
            self._emit(self._statuses.popleft())


def run(
    detector: Detector,
    source: FrameSource,
    write: Write,
    *,
    stopped: Callable[[], bool] = lambda: False,
    max_frames: int | None = None,
    summary: RunSummary | None = None,
    settings: RunSettings | None = None,
) -> RunSummary:
    """Score one source; see Pipeline. summary is filled as frames pass, so that it is right whatever ends the run."""
    return Pipeline(detector, [source], write, settings, summary).run(stopped=stopped, max_frames=max_frames)
