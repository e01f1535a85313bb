"""What a run asks of its sources, and what it knows of each."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.model.image_quality import QualityLimits
from edge_runtime.redact import redact
from edge_runtime.sources.contract import FrameSource
from edge_runtime.sources.files import ImageSource, VideoSource
from edge_runtime.stream.feed import Feed, FeedSettings
from edge_runtime.stream.latency import LatencyHistogram
from edge_runtime.stream.outlet import Write
from edge_runtime.stream.scored_frame import ScoredFrame
from edge_runtime.stream.source_health import ScorerFaults
from edge_runtime.stream.source_watch import Meaning, SourceWatch
from edge_runtime.watching.alarm import AlarmSettings
from edge_runtime.watching.picture_watch import PictureWatch

__all__ = ["RunSettings", "SourceState"]

STAGES = ("capture", "preprocess", "infer", "post")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """How frames are taken and what is made of their scores."""

    feed: FeedSettings = field(default_factory=FeedSettings)
    smoothing: str = "none"
    """none, ema:WEIGHT or median:LENGTH, of each source's scores."""
    alarm: AlarmSettings | None = None
    """When events begin and end; None gives none. Not for image files, which follow in no time."""
    drift: int = 0
    """Frames a window over which the scores of each source are compared with the usual ones; 0: not at all."""
    boxes: bool = False
    """Whether frame records say where: boxes around the bright regions of anomalous frames."""


class SourceState:
    """One source: its feed, the watch over its scores, and what they came to. To be read from any thread."""

    def __init__(
        self,
        source: FrameSource,
        settings: RunSettings,
        report: Write,
        ready: threading.Condition,
        usual: KeptScores | None,
        limits: QualityLimits | None = None,
    ) -> None:
        """report, ready: as for Feed. usual: the scores by which drift is watched; None watches none. limits: of the
        picture quality; None judges none."""
        self.feed = Feed(source, settings.feed, report, ready)
        self.watch = SourceWatch(
            smoothing=settings.smoothing,
            alarm=None if isinstance(source, ImageSource) else settings.alarm,
            drift_frames=settings.drift,
            usual=usual,
            # What waits between two frames of a file is the machine, and no camera.
            gap_s=math.inf if isinstance(source, VideoSource) else settings.feed.stall_timeout_s,
        )
        self.pictures = PictureWatch(limits)
        self.bad_pictures: Counter[str] = Counter()
        """Frames by what is wrong with their picture"""
        self.scorer = ScorerFaults(source.source_id)
        self.frames = self.anomalies = self.unscored = self.events = 0
        self.last_score = math.nan
        self.last_is_anomaly = self.last_is_unknown = False
        self.latencies = {stage: LatencyHistogram() for stage in STAGES}

    def count(self, scored: ScoredFrame, meaning: Meaning) -> None:
        """Add a frame, once its record is out."""
        result = scored.result
        self.frames += 1
        self.anomalies += result.is_anomaly
        self.last_score, self.last_is_anomaly = meaning.smoothed, result.is_anomaly
        self.last_is_unknown = result.unknown
        self.bad_pictures.update(fault.what for fault in result.faults or ())
        self.latencies["capture"].add(scored.frame.capture_ms / 1000.0)
        for stage, latency_ms in result.latency_ms.items():
            self.latencies[stage].add(latency_ms / 1000.0)

    @property
    def source_id(self) -> str:
        """The source's name, which may hold a password; redact it before it is shown."""
        return self.feed.source.source_id

    @property
    def up(self) -> bool:
        """Whether the source gives what is asked of it, a live one good frames, a file no error, and it is scored."""
        return self.feed.health.up and self.scorer.failed is None

    @property
    def last_error(self) -> str | None:
        """Why it was last lost, did not open, or is not scored; None while all is well."""
        return self.feed.health.last_error or (None if self.scorer.failed is None else str(self.scorer.failed))

    @property
    def in_event(self) -> bool:
        """Whether an event goes on."""
        return self._event_id is not None

    @property
    def state(self) -> str:
        """The alarm's state; of a source without alarm, or before the first frame, whether its last frame was above."""
        if self.watch.alarm is not None:
            return self.watch.alarm.state
        return "anomaly" if self.last_is_anomaly else "unknown" if self.last_is_unknown else "normal"

    def current(self) -> dict[str, Any]:
        """How it stands, without what changes with every frame."""
        return {
            "source_id": redact(self.source_id),
            "up": self.up,
            "stalled": self.feed.health.stalled,
            "state": self.state,
            "event_id": self._event_id,
            "last_error": self.last_error,
        }

    def health(self) -> dict[str, Any]:
        """What /healthz says of it."""
        return {
            "source_id": redact(self.source_id),
            "up": self.up,
            "stalled": self.feed.health.stalled,
            "last_good_frame_age_s": round(self.feed.last_good_age_s, 3),
            "last_error": self.last_error,
        }

    @property
    def _event_id(self) -> str | None:
        return self.watch.alarm.event_id if self.watch.alarm else None
