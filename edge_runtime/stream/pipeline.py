"""The loop from sources to records: take a frame, score it, ask what that means, write what follows.

A frame passes stages that know nothing of each other: scored_frame.py, source_watch.py, emissions.py, outlet.py; plain
data goes between them. `Pipeline._pass_on` is their order. A shadow (shadow.py) sees what was decided and
changes none of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.redact import redact
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.judges import Judges
from edge_runtime.sinks.contract import Emission, Sink
from edge_runtime.sinks.destination import Destination
from edge_runtime.sinks.runner import Sinks
from edge_runtime.sources.contract import CapturedFrame, FrameSource, tell_levels
from edge_runtime.stream.emissions import (
    drift_emission,
    event_emission,
    frame_emission,
    picture_emission,
    unscored_emission,
)
from edge_runtime.stream.feed import Feed
from edge_runtime.stream.handover import Taken
from edge_runtime.stream.outlet import Outlet, Write
from edge_runtime.stream.scored_frame import ScoredFrame, scored
from edge_runtime.stream.shadow import Pace, Shadow
from edge_runtime.stream.source_state import RunSettings, SourceState
from edge_runtime.stream.source_watch import EventNews, Meaning
from edge_runtime.stream.summary import RunSummary

__all__ = ["Pipeline", "RunSettings", "RunSummary", "SourceState", "run"]

logger = logging.getLogger(__name__)

WAIT_S = 0.1
"""How long the loop waits for a frame before it looks at stops and stalls again."""

STOP_WITHIN_S = 1.0
"""How long the sources may take to end, all together; one that hangs within a grab is left behind."""

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
        shadow: Detector | None = None,
    ) -> None:
        """Neither sources nor sinks are open yet.

        write: takes each record, in order, in the thread that runs the pipeline, so that it must be quick; sinks take
        them in threads of their own and cannot slow the scoring. pulse: called in the pipeline's thread before each
        frame, and ten times a second where none comes; it must be quick. shadow: a detector with a backend of its own
        that scores the same frames where there is time; records say what it found, and nothing else follows from it.
        """
        self._pulse = pulse
        self.judges = Judges(detector)
        """Who judges which source"""
        self.summary = RunSummary() if summary is None else summary
        self.destinations: Sequence[Destination] = ()
        """Where events are delivered to; for the metrics."""
        self._settings = settings or RunSettings()
        self._ready = threading.Condition()
        self._stopped: Callable[[], bool] = lambda: False
        lossless = not any(source.live for source in sources)
        self._outlet = Outlet(write, sinks, lossless=lossless, stopped=lambda: self._stopped())
        if self._settings.drift and detector.usual is None:
            raise ConfigError("the bundle keeps no distribution of scores to watch drift by; run `edge-aae calibrate`")
        self._sources = sources
        tell_levels(sources, detector.preprocess.levels)
        limits = detector.bundle.quality_limits
        self._streams = [
            SourceState(source, self._settings, self.report, self._ready, self._usual_of(source.source_id), limits)
            for source in sources
        ]
        self.summary.sources.extend(stream.feed.counts for stream in self._streams)
        self.summary.sinks = [runner.counts for runner in self.sinks.runners]
        pace = None if lossless else Pace(self._settings.feed)
        self._shadow = None if shadow is None else Shadow(shadow, self.report, pace)
        self.summary.shadow = self._shadow.counts if self._shadow else None
        for stream in self._streams:
            if self.judges.has(stream.source_id):
                stream.watch.move(self.threshold_of(stream.source_id))
        self._turn = 0
        self._failed: Exception | None = None
        self._moved_s = time.perf_counter()

    @property
    def sinks(self) -> Sinks:
        """The sinks at work, with what each came to."""
        return self._outlet.sinks

    @property
    def feeds(self) -> list[Feed]:
        """The sources' feeds, as the sources were given."""
        return [stream.feed for stream in self._streams]

    def states(self) -> list[SourceState]:
        """The sources' states, as the sources were given; to be read from any thread."""
        return list(self._streams)

    def health(self) -> dict[str, Any]:
        """{ok, scorer_moves, sources, sinks}: ok while every source is up, the scorer moves and every sink takes
        what it is given. From any thread."""
        moves = time.perf_counter() - self._moved_s < HANG_S
        sources = [state.health() for state in self._streams]
        sinks = self.sinks.health()
        ok = moves and all(source["up"] for source in sources) and all(sink["ok"] for sink in sinks)
        return {"ok": ok, "scorer_moves": moves, "sources": sources, "sinks": sinks}

    def current(self) -> dict[str, Any]:
        """{ok, model, threshold, sources}: the run's state without what changes with every frame; signed_by too where a
        signature is required. The threshold is that of sources without one of their own. From any thread."""
        detector = self.detector
        by = detector.bundle.signed_by
        return {
            "ok": self.health()["ok"],
            "model": f"sha256:{detector.bundle.digest}",
            **({} if by is None else {"signed_by": by}),
            "threshold": detector.decision.threshold,
            "sources": [
                {**state.current(), "threshold": self.threshold_of(state.source_id)} for state in self._streams
            ],
        }

    def threshold_of(self, source_id: str) -> float:
        """What the source's frames are judged by. From any thread."""
        return self.judges.of(source_id).decision.threshold

    @property
    def detector(self) -> Detector:
        """The one that judges sources without a threshold of their own. From any thread."""
        return self.judges.detector

    def set_detector(self, detector: Detector, own: Mapping[str, float] | None = None) -> None:
        """Score with another detector from the next frame on. In the pipeline's thread, such as from `pulse`.

        own: thresholds of single sources, by name; None takes those that the detector was calibrated with.
        """
        self._judge_by(Judges(detector, own))
        tell_levels(self._sources, detector.preprocess.levels)
        for stream in self._streams:
            stream.watch.expect(self._usual_of(stream.source_id))
            stream.pictures.expect(detector.bundle.quality_limits)

    def set_threshold(self, threshold: float, source_id: str | None = None) -> None:
        """Move the threshold, and the alarms with it. In the pipeline's thread, such as from `pulse`.

        source_id: of this source alone; None moves that of all, and none has one of its own any more.
        """
        if source_id is None:
            self._judge_by(Judges(self.detector.with_threshold(threshold), {}))
        else:
            own = {**self.judges.thresholds, redact(source_id): threshold}
            self._judge_by(Judges(self.detector, own))

    def report(self, record: dict[str, Any]) -> None:
        """Have a status record written in its turn. From any thread."""
        self._outlet.report(record)

    def run(self, *, stopped: Callable[[], bool] = lambda: False, max_frames: int | None = None) -> RunSummary:
        """Score until every source has ended, `stopped` says so, or max_frames were taken.

        A source that is given up has a status record; its SourceError is raised when no source is left, what the
        scorer fails with where it fails at every source that is left or at every frame, and BrokenPipeError where the
        reader of a sink went away.
        """
        self._stopped = stopped
        self.sinks.start()
        try:
            reason = self._score_all(stopped, max_frames)
        finally:
            self.sinks.close(patient=not stopped() and self.sinks.broken is None)
        if self.sinks.broken is not None:
            raise self.sinks.broken
        if self._failed is not None:
            raise self._failed
        if reason == "ended":
            for feed in self.feeds:
                if feed.error is not None:
                    raise feed.error
        return self.summary

    def _score_all(self, stopped: Callable[[], bool], max_frames: int | None) -> str:
        """Why it ended: ended (the sources) or stopped."""
        summary = self.summary
        reason = "stopped"
        self._failed = None
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
                self._outlet.emit_reported()
                if taken:
                    self._pass_on(*taken)
                    self._failed = self._failure(at_end=False)
                    if self._failed is not None:
                        break
                elif all(feed.ended for feed in self.feeds):
                    reason = "ended"
                    break
        finally:
            for feed in self.feeds:
                feed.stop()
            # All at once: however many hang, a service manager must not have to kill the run.
            deadline = time.monotonic() + STOP_WITHIN_S
            for feed in self.feeds:
                feed.join(max(0.0, deadline - time.monotonic()))
        self._failed = self._failed or self._failure(at_end=True)
        self._end_events(reason)
        self._outlet.emit_reported()
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
                    self._ready.wait(min(WAIT_S, *(feed.due_s() for feed in self.feeds)))
        return None

    def _pass_on(self, stream: SourceState, taken: Taken) -> None:
        """One thing that a source gave, through all stages."""
        if isinstance(taken, dict):
            self._outlet.emit(Emission(taken))
            return
        try:
            frame = scored(taken, self.judges.of(stream.source_id))
        except (DataError, FrameError) as error:
            self._leave_out(stream, error)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this frame's, and other sources go on
            self._not_scored(stream, taken, error)
            return
        recovered = stream.scorer.scored(frame.frame.grabbed_s)
        if recovered is not None:
            self._outlet.emit(Emission(recovered))
        result, bad_pictures = stream.pictures.judged(frame.result, frame.frame.image.shape)
        frame = replace(frame, result=result)
        meaning = stream.watch.take(frame)
        if meaning.event is not None:
            self._tell(stream, meaning.event)
        # After the event, which waits for nothing; before the frame's record, which says what the shadow found.
        beside = {"shadow": self._shadow.beside(stream.source_id, frame.frame, frame.result)} if self._shadow else {}
        self._outlet.emit(frame_emission(stream.source_id, frame, meaning, boxes=self._settings.boxes, beside=beside))
        self._count(stream, frame, meaning)
        if bad_pictures is not None:
            self._outlet.emit(picture_emission(stream.source_id, bad_pictures))
        if meaning.drift is not None:
            self._outlet.emit(drift_emission(stream.source_id, meaning.drift))

    def _leave_out(self, stream: SourceState, error: DataError | FrameError) -> None:
        self.summary.unscored += 1
        stream.unscored += 1
        logger.warning("frame not scored: %s", error)
        self._outlet.emit(unscored_emission(stream.source_id, error))

    def _not_scored(self, stream: SourceState, taken: CapturedFrame | DataError, error: Exception) -> None:
        """The scorer fails at a frame of this source."""
        self.summary.unscored += 1
        stream.unscored += 1
        logger.debug("raised here", exc_info=error)
        for record in stream.scorer.add(error, getattr(taken, "grabbed_s", 0.0)):
            if record["event_type"] == "FRAME_NOT_SCORED":
                logger.warning("frame not scored: %s", record["payload"]["reason"])
            self._outlet.emit(Emission(record))

    def _failure(self, *, at_end: bool) -> Exception | None:
        """Why nothing is scored any more: the scorer fails at every source that still gives frames; at the end, why
        nothing was."""
        if at_end:
            faults = [stream.scorer.last for stream in self._streams if stream.scorer.last is not None]
            return faults[0] if faults and not any(stream.frames for stream in self._streams) else None
        alive = [stream.scorer.failed for stream in self._streams if not stream.feed.ended]
        return alive[0] if alive and None not in alive else None

    def _tell(self, stream: SourceState, news: EventNews) -> None:
        self.summary.events += news.change.phase == "new"
        stream.events += news.change.phase == "new"
        self._outlet.emit(event_emission(stream.source_id, news, self.detector.bundle))

    def _count(self, stream: SourceState, frame: ScoredFrame, meaning: Meaning) -> None:
        self.summary.frames += 1
        self.summary.anomalies += frame.result.is_anomaly
        self.summary.too_small += frame.result.too_small
        self.summary.bad_pictures += bool(frame.result.faults)
        self.summary.unknown += frame.result.unknown
        self.summary.add_latency(sum(frame.result.latency_ms.values()))
        stream.count(frame, meaning)

    def _end_events(self, reason: str) -> None:
        for stream in self._streams:
            news = stream.watch.stop(reason)
            if news is not None:
                self._tell(stream, news)

    def _usual_of(self, source_id: str) -> KeptScores | None:
        """The scores by which a source's drift is watched, where it is."""
        return self.detector.usual_of(redact(source_id)) if self._settings.drift else None

    def _judge_by(self, judges: Judges) -> None:
        self.judges = judges
        for stream in self._streams:
            stream.watch.move(self.threshold_of(stream.source_id))


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
