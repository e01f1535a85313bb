"""A second detector beside the one that decides: what it says of the same frames is noted, and never acted on."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from edge_runtime.files import unicode_name
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.judges import Judges
from edge_runtime.scoring.result import Result
from edge_runtime.sinks.records import status_record
from edge_runtime.sources.contract import CapturedFrame
from edge_runtime.stream.feed import FeedSettings
from edge_runtime.stream.outlet import Write
from edge_runtime.stream.summary import ShadowCounts

__all__ = ["Pace", "Shadow"]

logger = logging.getLogger(__name__)

SHARE = 0.02
"""Of a live run's time what the shadow may take where there is none to spare: enough that something is compared, too
little to show in the alarms."""

RECENT = 15
"""Frame periods whose median is a source's: an outage among them does not move it."""

SMOOTHING = 0.1
"""Weight of the newest time in the mean of the times before it."""


class Pace:
    """Whether a live run has time to score a frame once more. In the pipeline's thread; times by one clock, seconds."""

    def __init__(self, settings: FeedSettings) -> None:
        self._every, self._least_s = settings.every, 1.0 / settings.max_fps
        self._last: dict[str, tuple[int, float]] = {}
        self._periods: dict[str, deque[float]] = {}
        self._cost_s: float | None = None
        self._spent_at_s = -math.inf

    def arrived(self, source_id: str, frame_id: int, grabbed_s: float) -> None:
        """A frame was taken; frame_id counts the frames that its source gave."""
        before = self._last.get(source_id)
        self._last[source_id] = frame_id, grabbed_s
        if before is not None and frame_id > before[0]:
            period_s = (grabbed_s - before[1]) / (frame_id - before[0])
            self._periods.setdefault(source_id, deque(maxlen=RECENT)).append(period_s)

    def allows(self, grabbed_s: float, now_s: float) -> bool:
        """Whether a second score is done before the next frame is due, or costs no more than SHARE of the time."""
        cost_s = self._cost_s or 0.0
        return now_s + cost_s <= grabbed_s + self._between_s() or now_s - self._spent_at_s >= cost_s / SHARE

    def spent(self, cost_s: float, now_s: float) -> None:
        """A second score took so long and ended now."""
        self._cost_s = cost_s if self._cost_s is None else self._cost_s + SMOOTHING * (cost_s - self._cost_s)
        self._spent_at_s = now_s

    def _between_s(self) -> float:
        """Seconds from one wanted frame to the next, of all sources together; inf until a source gave two."""
        wanted = [max(self._least_s, self._every * statistics.median(seen)) for seen in self._periods.values()]
        rate = sum(1.0 / max(seconds, 1e-9) for seconds in wanted)
        return 1.0 / rate if rate else math.inf


class Shadow:
    """Scores what the deployed detector has scored, while it works and there is time."""

    def __init__(
        self,
        detector: Detector,
        report: Write,
        pace: Pace | None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """report: takes the status record of a failure. pace: None scores every frame, for files, which wait. clock:
        that of CapturedFrame.grabbed_s."""
        bundle = detector.bundle
        self.counts = ShadowCounts(name=unicode_name(str(bundle.path)), model=bundle.digest)
        self._judges: Judges | None = Judges(detector)
        self._report, self._pace, self._clock = report, pace, clock

    def beside(self, source_id: str, frame: CapturedFrame, decided: Result) -> dict[str, Any] | None:
        """{model, score, anomalous} of a frame that was decided; None where it was skipped or the shadow is off."""
        if self._judges is None:
            return None
        detector = self._judges.of(source_id)
        if self._pace is not None:
            self._pace.arrived(source_id, frame.frame_id, frame.grabbed_s)
            if not self._pace.allows(frame.grabbed_s, self._clock()):
                self.counts.skipped += 1
                return None
        begun_s = self._clock()
        try:
            seen = detector.score(frame.read_by(detector.preprocess.levels))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the run that decides goes on
            self._switch_off(error)
            return None
        if self._pace is not None:
            now_s = self._clock()
            self._pace.spent(now_s - begun_s, now_s)
        self.counts.add(deployed=decided.is_anomaly, shadow=seen.is_anomaly)
        return {"model": f"sha256:{self.counts.model}", "score": seen.score, "anomalous": seen.is_anomaly}

    def _switch_off(self, error: Exception) -> None:
        self._judges = None
        self.counts.failed = unicode_name(str(error)) or type(error).__name__
        logger.warning("shadow %s failed and is switched off: %s", self.counts.name, self.counts.failed)
        logger.debug("raised here", exc_info=error)
        payload = {"reason": self.counts.failed, "model": f"sha256:{self.counts.model}"}
        self._report(status_record("warning", "SHADOW_FAILED", self.counts.name, payload))
