"""What a run asks of its sources, and what it remembers of each."""

from __future__ import annotations

import math
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_runtime.model.preprocess import Frame
from edge_runtime.redact import redact
from edge_runtime.scoring.result import Result
from edge_runtime.sources.contract import FrameSource
from edge_runtime.sources.files import ImageSource
from edge_runtime.stream.feed import Feed, FeedSettings
from edge_runtime.stream.latency import LatencyHistogram
from edge_runtime.stream.summary import RunSummary
from edge_runtime.watching.alarm import Alarm, AlarmSettings
from edge_runtime.watching.drift import DriftWatch
from edge_runtime.watching.smoothing import Smoothing, smoothing_from

__all__ = ["RunSettings", "SourceState", "Write", "new_event_id"]

STAGES = ("capture", "preprocess", "infer", "post")

Write = Callable[[dict[str, Any]], None]


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
    """One source with what it remembers and what it came to."""

    def __init__(
        self,
        source: FrameSource,
        settings: RunSettings,
        report: Write,
        ready: threading.Condition,
        summary: RunSummary,
        usual: Sequence[float] | None,
    ) -> None:
        self.feed = Feed(source, settings.feed, report, ready)
        self.smooth: Smoothing = smoothing_from(settings.smoothing)
        in_time = settings.alarm is not None and not isinstance(source, ImageSource)
        self.alarm = Alarm(settings.alarm, new_event_id) if settings.alarm and in_time else None
        self.drift = DriftWatch(usual, settings.drift) if usual is not None else None
        self.frames = self.anomalies = self.unscored = self.events = 0
        self.n_changes = 0
        """Records of the event that goes on, or was last."""
        self._best: tuple[Frame, Result] | None = None
        self._best_is_new = False
        self.last_score = math.nan
        self.last_is_anomaly = False
        self.latencies = {stage: LatencyHistogram() for stage in STAGES}
        summary.sources.append(self.feed.counts)

    @property
    def source_id(self) -> str:
        """The source's name, which may hold a password; redact it before it is shown."""
        return self.feed.source.source_id

    @property
    def up(self) -> bool:
        """Whether the source gives what is asked of it: a live one good frames, a file no error."""
        return self.feed.health.up

    @property
    def in_event(self) -> bool:
        """Whether an event goes on."""
        return self.alarm is not None and self.alarm.event_id is not None

    @property
    def state(self) -> str:
        """The alarm's state; of a source without alarm, or before the first frame, whether its last frame was above."""
        if self.alarm is not None:
            return self.alarm.state
        return "anomaly" if self.last_is_anomaly else "normal"

    def keep_best(self, image: Frame, result: Result) -> None:
        """Remember the frame with the highest score while an event goes on or may begin: its picture is the event's."""
        if self.alarm is None:
            return
        if self.alarm.state in ("normal", "cooldown"):
            self._best, self._best_is_new = None, False
        elif self._best is None or result.score > self._best[1].score:
            self._best, self._best_is_new = (image, result), True

    def take_best(self) -> tuple[Frame | None, Result | None]:
        """The event's picture, where it is another than the one given last."""
        if self._best is None or not self._best_is_new:
            return None, None
        self._best_is_new = False
        return self._best

    def current(self) -> dict[str, Any]:
        """How it stands, without what changes with every frame."""
        return {
            "source_id": redact(self.source_id),
            "up": self.up,
            "stalled": self.feed.health.stalled,
            "state": self.state,
            "event_id": self.alarm.event_id if self.alarm else None,
            "last_error": self.feed.health.last_error,
        }

    def health(self) -> dict[str, Any]:
        """What /healthz says of it."""
        return {
            "source_id": redact(self.source_id),
            "up": self.up,
            "stalled": self.feed.health.stalled,
            "last_good_frame_age_s": round(self.feed.last_good_age_s, 3),
            "last_error": self.feed.health.last_error,
        }


def new_event_id(start_s: float) -> str:
    """An id that no other event has: its start in milliseconds since the epoch, and 32 random bits."""
    return f"{int(1000 * start_s)}-{secrets.token_hex(4)}"
