"""From scores to events: one alarm for one source, pure and without a clock of its own.

An event begins when N of the last M scores lie above `enter` and have done so without a break for `min_duration_s`; it
ends after `clear_frames` scores in a row at or below `clear`; after it, none begins for `cooldown_s`. Durations are by
a clock that nobody sets; the time of day is carried along, for records alone.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from edge_runtime.errors import ConfigError

__all__ = ["Alarm", "AlarmSettings", "AlarmState", "EventChange"]

AlarmState = Literal["normal", "suspect", "alarm", "clearing", "cooldown"]

RECENT = 15
"""Intervals between scores whose median is the usual one: an outage among them does not move it."""

GAP_INTERVALS = 5.0
"""A pause of fewer usual intervals is none: frames may be few, and a scorer busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmSettings:
    """When an event begins and ends. Scores: higher = more anomalous."""

    enter: float
    """A score above this speaks for an event."""
    clear: float
    """A score at or below this speaks for its end; not above enter, and below it where scores hover about it."""
    n: int = 3
    m: int = 5
    """N of the last M scores above enter begin an event."""
    clear_frames: int = 5
    min_duration_s: float = 0.0
    """Seconds for which N of M must have been above, from the first of these N on, until an event may begin."""
    cooldown_s: float = 0.0
    """Seconds after an event's end in which none begins."""
    update_s: float = 10.0
    """Seconds between two updates of an event that goes on."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.enter) and math.isfinite(self.clear) and self.clear <= self.enter):
            raise ConfigError(
                f"alarm enters above {self.enter} and clears at {self.clear}, expected finite numbers, clear not above "
                "enter"
            )
        if not 1 <= self.n <= self.m:
            raise ConfigError(f"alarm needs {self.n} of {self.m} frames, expected 1 <= N <= M")
        if self.clear_frames < 1 or min(self.min_duration_s, self.cooldown_s) < 0 or not self.update_s > 0:
            raise ConfigError(
                f"alarm clears after {self.clear_frames} frames, minimum duration {self.min_duration_s} s, cooldown "
                f"{self.cooldown_s} s, updates every {self.update_s} s: expected 1 or more, 0 or more twice, above 0"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EventChange:
    """That an event began, goes on or ended. Times are those of day that came with the scores."""

    phase: Literal["new", "update", "end"]
    event_id: str
    start_s: float
    """Time of the first of the N scores above enter that led to it."""
    last_s: float
    """Time of the last score above clear so far."""
    end_s: float | None
    """The same of an event that ended; None while it goes on."""
    peak_score: float
    peak_s: float
    """Time of the peak."""
    frames: int
    """Scored frames from the start on."""
    reason: str | None = None
    """Why it ended: cleared, stopped or ended (the source). None while it goes on."""


@dataclass(frozen=True, slots=True)
class _Scored:
    t: float
    wall_s: float
    score: float


@dataclass(slots=True)
class _Stretch:
    """Scores of which N of M are above without a break, and the event that they became, if any."""

    first: _Scored
    """The first above enter"""
    peak: _Scored
    last_above: _Scored
    frames: int

    def add(self, latest: _Scored) -> None:
        self.frames += 1
        if latest.score > self.peak.score:
            self.peak = latest


@dataclass(slots=True)
class _Event:
    event_id: str
    scores: _Stretch
    updated_s: float


class Alarm:
    """The alarm of one source; step it with every score, in order."""

    def __init__(self, settings: AlarmSettings, new_id: Callable[[float], str], *, gap_s: float = math.inf) -> None:
        """new_id: gives an event's id for the time of day of its start. gap_s: a pause between two scores that is
        longer than this, and than GAP_INTERVALS usual ones, parts them: what lies before it speaks for no event after
        it."""
        self.settings = settings
        self.state: AlarmState = "normal"
        self._new_id = new_id
        self._gap_s = gap_s
        self._intervals: deque[float] = deque(maxlen=RECENT)
        self._last_s: float | None = None
        self._recent: deque[_Scored] = deque(maxlen=settings.m)
        self._suspect: _Stretch | None = None
        self._event: _Event | None = None
        self._n_clear = 0
        self._cool_until_s = -math.inf

    @property
    def event_id(self) -> str | None:
        """Id of the event that goes on."""
        return self._event.event_id if self._event else None

    @property
    def since_s(self) -> float | None:
        """From when on scores belong to the event that goes on, or to what speaks for one; None where nothing does.

        By the clock of `step`'s t.
        """
        stretch = self._event.scores if self._event else self._suspect
        if stretch is not None:
            return stretch.first.t
        return next((scored.t for scored in self._recent if scored.score > self.settings.enter), None)

    def move(self, enter: float) -> None:
        """Another enter threshold from the next score on; the clear threshold keeps its distance below it."""
        self.settings = replace(self.settings, enter=enter, clear=enter - (self.settings.enter - self.settings.clear))

    def step(self, t: float, score: float, wall_s: float | None = None) -> EventChange | None:
        """Take one score; what it changed, if anything.

        t: seconds by a clock that never falls, for durations. wall_s: the same moment since the epoch, for what is
        told, whatever clock steps lie between two scores; None where both are one.
        """
        latest = _Scored(t, t if wall_s is None else wall_s, score)
        if self._after_gap(t):
            self._recent.clear()
            self._suspect = None
        self._recent.append(latest)
        return self._go_on(self._event, latest) if self._event else self._look_for_one(latest)

    def stop(self, reason: str) -> EventChange | None:
        """End the event that goes on, if any, because no more scores will come."""
        event = self._event
        return self._end(event, reason, cooldown_from_s=-math.inf) if event else None

    def _after_gap(self, t: float) -> bool:
        before, self._last_s = self._last_s, t
        if before is None:
            return False
        interval_s = t - before
        usual_s = statistics.median(self._intervals) if interval_s > self._gap_s and self._intervals else 0.0
        self._intervals.append(interval_s)
        return interval_s > max(self._gap_s, GAP_INTERVALS * usual_s)

    def _look_for_one(self, latest: _Scored) -> EventChange | None:
        recent = list(self._recent)
        above = [index for index, scored in enumerate(recent) if scored.score > self.settings.enter]
        cooling = latest.t < self._cool_until_s
        self.state = "cooldown" if cooling else "suspect" if above else "normal"
        if len(above) < self.settings.n:
            self._suspect = None
            return None
        if self._suspect is None:
            since = recent[above[0] :]
            peak = max(since, key=lambda scored: scored.score)
            self._suspect = _Stretch(since[0], peak, recent[above[-1]], len(since))
        else:
            self._suspect.add(latest)
            self._suspect.last_above = recent[above[-1]]
        if cooling or latest.t - self._suspect.first.t < self.settings.min_duration_s:
            return None
        scores, self._suspect = self._suspect, None
        self._event = _Event(self._new_id(scores.first.wall_s), scores, latest.t)
        self.state, self._n_clear = "alarm", 0
        return self._change(self._event, "new")

    def _go_on(self, event: _Event, latest: _Scored) -> EventChange | None:
        event.scores.add(latest)
        if latest.score > self.settings.clear:
            event.scores.last_above, self._n_clear, self.state = latest, 0, "alarm"
        else:
            self._n_clear += 1
            self.state = "clearing"
            if self._n_clear >= self.settings.clear_frames:
                return self._end(event, "cleared", cooldown_from_s=latest.t)
        if latest.t - event.updated_s >= self.settings.update_s:
            event.updated_s = latest.t
            return self._change(event, "update")
        return None

    def _end(self, event: _Event, reason: str, *, cooldown_from_s: float) -> EventChange:
        self._event = None
        self._recent.clear()
        self._cool_until_s = cooldown_from_s + self.settings.cooldown_s
        self.state = "cooldown" if self.settings.cooldown_s > 0 and reason == "cleared" else "normal"
        return self._change(event, "end", reason)

    @staticmethod
    def _change(event: _Event, phase: Literal["new", "update", "end"], reason: str | None = None) -> EventChange:
        scores = event.scores
        return EventChange(
            phase=phase,
            event_id=event.event_id,
            start_s=scores.first.wall_s,
            last_s=scores.last_above.wall_s,
            end_s=scores.last_above.wall_s if phase == "end" else None,
            peak_score=scores.peak.score,
            peak_s=scores.peak.wall_s,
            frames=scores.frames,
            reason=reason,
        )
