"""The alarm as a table: scores in, phases out, by hand."""

from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.watching.alarm import Alarm, AlarmSettings, EventChange


def alarm_of(**settings: float) -> Alarm:
    values: dict[str, float] = {"enter": 1.0, "clear": 0.5, "n": 2, "m": 3, "clear_frames": 2, **settings}
    return Alarm(AlarmSettings(**values), lambda start_s: f"id-{start_s:g}")  # type: ignore[arg-type]


def played(alarm: Alarm, scores: list[float], step_s: float = 1.0) -> tuple[list[str], list[EventChange]]:
    """The state after each score, one a second from 0, and what changed."""
    states, changes = [], []
    for index, score in enumerate(scores):
        change = alarm.step(step_s * index, score)
        states.append(alarm.state)
        if change:
            changes.append(change)
    return states, changes


@pytest.mark.parametrize(
    ("settings", "scores", "states"),
    [
        ({}, [0, 2, 0, 0, 0], ["normal", "suspect", "suspect", "suspect", "normal"]),
        ({}, [0, 2, 2], ["normal", "suspect", "alarm"]),
        ({}, [2, 0, 2], ["suspect", "suspect", "alarm"]),
        ({}, [2, 0, 0, 2], ["suspect", "suspect", "suspect", "suspect"]),
        # 1.0 is not above 1.0, 0.5 is at clear.
        ({}, [1, 1, 1], ["normal"] * 3),
        ({}, [2, 2, 0.5, 0.5, 0], ["suspect", "alarm", "clearing", "normal", "normal"]),
        ({}, [2, 2, 0.5, 0.8, 0.5, 0.5], ["suspect", "alarm", "clearing", "alarm", "clearing", "normal"]),
        ({"n": 1, "m": 1}, [2, 0, 0, 2], ["alarm", "clearing", "normal", "alarm"]),
        ({"n": 1, "m": 1, "min_duration_s": 2.0}, [2, 2, 2], ["suspect", "suspect", "alarm"]),
        (
            {"n": 1, "m": 1, "min_duration_s": 2.0},
            [2, 0, 2, 2, 2],
            ["suspect", "normal", "suspect", "suspect", "alarm"],
        ),
        (
            {"n": 1, "m": 1, "clear_frames": 1, "cooldown_s": 2.0},
            [2, 0, 2, 2, 2],
            ["alarm", "cooldown", "cooldown", "alarm", "alarm"],
        ),
        (
            {"n": 1, "m": 1, "clear_frames": 1, "cooldown_s": 2.0},
            [2, 0, 0, 0],
            ["alarm", "cooldown", "cooldown", "normal"],
        ),
    ],
)  # fmt: skip
def test_states(settings: dict[str, float], scores: list[float], states: list[str]) -> None:
    assert played(alarm_of(**settings), scores)[0] == states


def test_an_event_begins_goes_on_and_ends_with_its_peak() -> None:
    alarm = alarm_of(update_s=2.0)
    _, changes = played(alarm, [0, 1.5, 2, 7, 3, 0, 0, 0])
    assert [(change.phase, change.frames) for change in changes] == [("new", 2), ("update", 4), ("end", 6)]
    assert {change.event_id for change in changes} == {"id-1"}
    assert [(change.peak_score, change.peak_s) for change in changes] == [(2, 2.0), (7, 3.0), (7, 3.0)]
    new, _, end = changes
    assert (new.start_s, new.end_s, new.reason) == (1.0, None, None)
    # The last score above clear was the fifth, at 4 s.
    assert (end.start_s, end.end_s, end.reason) == (1.0, 4.0, "cleared")
    assert alarm.event_id is None


def test_the_peak_counts_from_the_first_suspicion() -> None:
    _, changes = played(alarm_of(), [9, 0, 2])
    assert (changes[0].peak_score, changes[0].peak_s, changes[0].frames) == (9, 0.0, 3)


def test_a_second_event_has_an_id_of_its_own() -> None:
    _, changes = played(alarm_of(n=1, m=1, clear_frames=1), [2, 0, 2, 0])
    assert [(change.phase, change.event_id) for change in changes] == [
        ("new", "id-0"), ("end", "id-0"), ("new", "id-2"), ("end", "id-2"),
    ]  # fmt: skip


def test_stopping_ends_the_event_that_goes_on_and_says_why() -> None:
    alarm = alarm_of(n=1, m=1, cooldown_s=9.0)
    alarm.step(0.0, 2.0)
    end = alarm.stop("stopped")
    assert end is not None
    assert (end.phase, end.reason, end.end_s) == ("end", "stopped", 0.0)
    assert alarm.stop("stopped") is None
    # No cooldown: nothing was cleared.
    assert alarm.step(1.0, 2.0) is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clear": 1.5}, "clear not above enter"),
        ({"enter": float("nan")}, "expected finite numbers"),
        ({"n": 4}, "alarm needs 4 of 3 frames, expected 1 <= N <= M"),
        ({"n": 0}, "alarm needs 0 of 3"),
        ({"clear_frames": 0}, "clears after 0 frames"),
        ({"cooldown_s": -1.0}, r"cooldown -1\.0 s"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        alarm_of(**settings)
