"""From scores to events: one alarm for one source, pure and without a clock of its own.

An event begins when N of the last M scores lie above `enter` and have done so for `min_duration_s`; it ends after
`clear_frames` scores in a row at or below `clear`; after it, none begins for `cooldown_s`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from edge_runtime.errors import ConfigError

__all__ = ["Alarm", "AlarmSettings", "AlarmState", "EventChange"]

AlarmState = Literal["normal", "suspect", "alarm", "clearing", "cooldown"]


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
    """Seconds from the first score above enter until an event may begin."""
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
    """That an event began, goes on or ended."""

    phase: Literal["new", "update", "end"]
    event_id: str
    start_s: float
    """Time of the first score above enter that led to it."""
    end_s: float | None
    """Time of the last score above clear; None while it goes on."""
    peak_score: float
    peak_s: float
    """Time of the peak."""
    frames: int
    """Scored frames from the start on."""
    reason: str | None = None
    """Why it ended: cleared, stopped or ended (the source). None while it goes on."""


@dataclass(slots=True)
class _Event:
    event_id: str
    start_s: float
    peak_score: float
    peak_s: float
    frames: int
    last_above_s: float
    updated_s: float


class Alarm:
    """The alarm of one source; step it with every score, in order."""

    def __init__(self, settings: AlarmSettings, new_id: Callable[[float], str]) -> None:
        """new_id: gives an event's id for the time of its start."""
        self.settings = settings
        self.state: AlarmState = "normal"
        self._new_id = new_id
        self._recent: deque[tuple[float, float]] = deque(maxlen=settings.m)
        self._event: _Event | None = None
        self._suspect_since_s: float | None = None
        self._suspect_frames = 0
        self._suspect_peak = (-math.inf, 0.0)
        self._n_clear = 0
        self._cool_until_s = -math.inf

    @property
    def event_id(self) -> str | None:
        """Id of the event that goes on."""
        return self._event.event_id if self._event else None

    def move(self, enter: float) -> None:
        """Another enter threshold from the next score on; the clear threshold keeps its distance below it."""
        self.settings = replace(self.settings, enter=enter, clear=enter - (self.settings.enter - self.settings.clear))

    def step(self, t: float, score: float) -> EventChange | None:
        """Take one score. t: seconds, not falling. Returns what changed, if anything."""
        self._recent.append((t, score))
        return self._go_on(t, score) if self._event else self._look_for_one(t, score)

    def stop(self, reason: str) -> EventChange | None:
        """End the event that goes on, if any, because no more scores will come."""
        event = self._event
        return self._end(event, reason, cooldown_from_s=-math.inf) if event else None

    def _look_for_one(self, t: float, score: float) -> EventChange | None:
        enter = self.settings.enter
        above = [moment for moment, value in self._recent if value > enter]
        if not above:
            self._suspect_since_s = None
            self.state = "cooldown" if t < self._cool_until_s else "normal"
            return None
        if self._suspect_since_s is None:
            self._suspect_since_s, self._suspect_frames, self._suspect_peak = above[0], 0, (-math.inf, t)
        self._suspect_frames += 1
        self._suspect_peak = max(self._suspect_peak, (score, t), key=lambda pair: pair[0])
        if t < self._cool_until_s:
            self.state = "cooldown"
            return None
        self.state = "suspect"
        if len(above) < self.settings.n or t - self._suspect_since_s < self.settings.min_duration_s:
            return None
        start_s = self._suspect_since_s
        peak_score, peak_s = self._suspect_peak
        self._event = _Event(self._new_id(start_s), start_s, peak_score, peak_s, self._suspect_frames, above[-1], t)
        self.state, self._n_clear, self._suspect_since_s = "alarm", 0, None
        return self._change(self._event, "new")

    def _go_on(self, t: float, score: float) -> EventChange | None:
        event = self._event
        if event is None:
            return None
        event.frames += 1
        if score > event.peak_score:
            event.peak_score, event.peak_s = score, t
        if score > self.settings.clear:
            event.last_above_s, self._n_clear, self.state = t, 0, "alarm"
        else:
            self._n_clear += 1
            self.state = "clearing"
            if self._n_clear >= self.settings.clear_frames:
                return self._end(event, "cleared", cooldown_from_s=t)
        if t - event.updated_s >= self.settings.update_s:
            event.updated_s = t
            return self._change(event, "update")
        return None

    def _end(self, event: _Event, reason: str, *, cooldown_from_s: float) -> EventChange:
        self._event = None
        self._recent.clear()
        self._cool_until_s = cooldown_from_s + self.settings.cooldown_s
        self.state = "cooldown" if self.settings.cooldown_s > 0 and reason == "cleared" else "normal"
        return self._change(event, "end", end_s=event.last_above_s, reason=reason)

    @staticmethod
    def _change(
        event: _Event,
        phase: Literal["new", "update", "end"],
        end_s: float | None = None,
        reason: str | None = None,
    ) -> EventChange:
        return EventChange(
            phase=phase,
            event_id=event.event_id,
            start_s=event.start_s,
            end_s=end_s,
            peak_score=event.peak_score,
            peak_s=event.peak_s,
            frames=event.frames,
            reason=reason,
        )
