"""The second stage: what a score means for its source, which remembers the scores before it."""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass

from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.result import Result
from edge_runtime.stream.scored_frame import ScoredFrame
from edge_runtime.watching.alarm import Alarm, AlarmSettings, AlarmState, EventChange
from edge_runtime.watching.drift import DriftWatch, Window
from edge_runtime.watching.smoothing import Smoothing, smoothing_from

__all__ = ["EventNews", "Meaning", "SourceWatch", "new_event_id"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventNews:
    """That an event began, goes on or ended, and what a record of it needs."""

    change: EventChange
    number: int
    """0 for the event's first record, 1 for the second"""
    threshold: float
    """The alarm's enter threshold"""
    picture: tuple[Frame, Result] | None
    """The frame with the event's highest score, where it is another than that of the record before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meaning:
    """What the score of one frame means."""

    smoothed: float
    """The score, smoothed over those before it"""
    state: AlarmState | None
    """The alarm's; None without one"""
    event_id: str | None
    """Of the event that goes on"""
    event: EventNews | None
    """What the frame changed of an event"""
    drift: Window | None
    """The window of scores that the frame filled, where they began or ceased to be as usual"""


class SourceWatch:
    """The scores of one source: smoothed, watched for events and for drift. In the thread that scores."""

    def __init__(
        self,
        *,
        smoothing: str,
        alarm: AlarmSettings | None,
        drift_frames: int,
        usual: KeptScores | None,
        gap_s: float = math.inf,
    ) -> None:
        """smoothing: see smoothing_from. alarm: None begins no events. drift_frames: a window's; usual: the scores that
        they are compared with, None compares nothing. gap_s: see Alarm."""
        self.alarm = Alarm(alarm, new_event_id, gap_s=gap_s) if alarm else None
        self._smooth: Smoothing = smoothing_from(smoothing)
        self._drift_frames = drift_frames
        self._n_changes = 0
        """Records of the event that goes on, or was last, but for its first."""
        self._best: tuple[Frame, Result] | None = None
        self._best_at_s = -math.inf
        self._best_is_new = False
        self.expect(usual)

    def expect(self, usual: KeptScores | None) -> None:
        """Compare the scores from now on with other usual ones; None compares nothing."""
        self._drift = DriftWatch(usual, self._drift_frames) if usual is not None else None

    def move(self, threshold: float) -> None:
        """Begin events above another threshold from the next frame on."""
        if self.alarm is not None:
            self.alarm.move(threshold)

    def take(self, scored: ScoredFrame) -> Meaning:
        """What the source's next score means. That of a frame which may not count as normal means nothing: alarm,
        smoothing and drift do not hear it."""
        score = scored.result.score
        if scored.result.unknown:
            return Meaning(
                smoothed=score,
                state=self.alarm.state if self.alarm else None,
                event_id=self.alarm.event_id if self.alarm else None,
                event=None,
                drift=None,
            )
        smoothed = self._smooth(self._heard(scored.result))
        event = self._step(self.alarm, scored, smoothed) if self.alarm else None
        return Meaning(
            smoothed=smoothed,
            state=self.alarm.state if self.alarm else None,
            event_id=self.alarm.event_id if self.alarm else None,
            event=event,
            drift=self._drifted(self._drift, score) if self._drift else None,
        )

    def stop(self, reason: str) -> EventNews | None:
        """No more scores will come: the end of the event that goes on, if any."""
        return self._news(self.alarm, self.alarm.stop(reason)) if self.alarm else None

    def _heard(self, result: Result) -> float:
        """The score as smoothing and alarm hear it: of a frame whose regions are all too small no more than what clears
        an alarm."""
        if not result.too_small:
            return result.score
        return min(result.score, self.alarm.settings.clear if self.alarm else result.threshold)

    def _step(self, alarm: Alarm, scored: ScoredFrame, smoothed: float) -> EventNews | None:
        change = alarm.step(scored.frame.grabbed_s, smoothed, scored.frame.t_capture)
        if change is None or change.phase != "end":
            self._keep_best(alarm.since_s, scored)
        return self._news(alarm, change)

    def _keep_best(self, since_s: float | None, scored: ScoredFrame) -> None:
        """Remember the frame with the highest score of an event that goes on or may begin: its picture is the event's.

        since_s: frames from then on are of it; None where there is none.
        """
        if since_s is None:
            self._best, self._best_is_new = None, False
        elif self._best is None or self._best_at_s < since_s or self._heard(scored.result) > self._heard(self._best[1]):
            self._best, self._best_is_new = (scored.frame.image, scored.result), True
            self._best_at_s = scored.frame.grabbed_s

    def _news(self, alarm: Alarm, change: EventChange | None) -> EventNews | None:
        if change is None:
            return None
        self._n_changes = 0 if change.phase == "new" else self._n_changes + 1
        picture, self._best_is_new = self._best if self._best_is_new else None, False
        return EventNews(change=change, number=self._n_changes, threshold=alarm.settings.enter, picture=picture)

    @staticmethod
    def _drifted(drift: DriftWatch, score: float) -> Window | None:
        before, window = drift.last, drift.add(score)
        if window is None or window.drifted == (before is not None and before.drifted):
            return None
        return window


def new_event_id(start_s: float) -> str:
    """An id that no other event has: its start in milliseconds since the epoch, and 32 random bits."""
    return f"{int(1000 * start_s)}-{secrets.token_hex(4)}"
