"""The alarm as a table: scores in, phases out, by hand."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.watching.alarm import Alarm, AlarmSettings, EventChange


def alarm_of(*, gap_s: float = math.inf, **settings: float) -> Alarm:
    values: dict[str, float] = {"enter": 1.0, "clear": 0.5, "n": 2, "m": 3, "clear_frames": 2, **settings}
    return Alarm(AlarmSettings(**values), lambda start_s: f"id-{start_s:g}", gap_s=gap_s)  # type: ignore[arg-type]


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


def test_one_hit_in_five_never_satisfies_a_minimum_duration() -> None:
    alarm = alarm_of(n=3, m=5, min_duration_s=30.0)
    for second in range(1000):
        assert alarm.step(float(second), 2.0 if second % 5 == 0 else 0.0) is None
    for tenth in range(3):
        assert alarm.step(1000.0 + tenth / 10, 2.0) is None  # N of M now, and for 0.2 s
    changes = [change for second in range(1001, 1040) if (change := alarm.step(float(second), 2.0))]
    assert changes[0].phase == "new"
    assert changes[0].start_s == 1000.0
    assert changes[0].frames == 3 + 30  # 1000.0 to 1000.2, then each second to 1030


def test_n_of_m_that_breaks_off_begins_its_duration_anew() -> None:
    alarm = alarm_of(n=2, m=3, min_duration_s=5.0)
    states, changes = played(alarm, [2, 2, 2, 2, 0, 0, 2, 2, 2, 2, 2, 2])
    assert states[4:7] == ["suspect", "suspect", "suspect"]
    assert [(change.phase, change.start_s, change.frames) for change in changes] == [("new", 6.0, 6)]


@pytest.mark.parametrize("silence_s", [6.0, 3600.0, 86_400.0])
def test_time_without_frames_is_no_duration(silence_s: float) -> None:
    alarm = alarm_of(n=2, m=3, min_duration_s=4.0, gap_s=5.0)
    for tenth in range(3):
        assert alarm.step(tenth / 10, 2.0) is None
    begin = 0.2 + silence_s
    assert alarm.step(begin, 2.0) is None
    assert alarm.step(begin + 0.1, 2.0) is None
    changes = [change for tenth in range(2, 60) if (change := alarm.step(begin + tenth / 10, 2.0))]
    assert changes[0].start_s == begin


def test_a_hit_before_a_gap_speaks_for_no_event_after_it_and_slow_frames_are_no_gap() -> None:
    alarm = alarm_of(n=2, m=3, gap_s=5.0)
    alarm.step(0.0, 0.0)
    alarm.step(1.0, 2.0)
    assert alarm.step(3600.0, 2.0) is None
    slow = alarm_of(n=2, m=3, gap_s=5.0)
    _, changes = played(slow, [0, 0, 2, 2], step_s=60.0)
    assert [change.phase for change in changes] == ["new"]


@pytest.mark.parametrize("step_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_a_clock_that_is_set_changes_no_duration(step_s: float) -> None:
    """The same scores with a clock that is set in their midst, and with one that is not: the same changes."""
    settings = {"n": 3, "m": 5, "min_duration_s": 2.0, "cooldown_s": 4.0, "update_s": 3.0, "gap_s": 5.0}
    scores = [0, 2, 2, 2, 2, 2, 2, 0, 0, 2, 2, 2, 2, 2, 2, 2, 0, 0]

    def phases(set_by_s: float, at: int) -> list[tuple[int, str, int]]:
        alarm = alarm_of(**settings)
        found = []
        for index, score in enumerate(scores):
            wall_s = 1.7e9 + index + (set_by_s if index >= at else 0.0)
            if change := alarm.step(100.0 + index, score, wall_s):
                found.append((index, change.phase, change.frames))
        return found

    for at in range(len(scores)):
        assert phases(step_s, at) == phases(0.0, 0)
    assert [phase for _, phase, _ in phases(0.0, 0)] == ["new", "update", "end", "new", "update", "end"]


def test_an_event_is_told_by_the_time_of_day_of_its_frames() -> None:
    alarm = alarm_of(n=2, m=2, clear_frames=1)
    alarm.step(10.0, 2.0, 5000.0)
    new = alarm.step(11.0, 3.0, 1401.0)  # the clock was put back an hour
    assert new is not None
    assert (new.start_s, new.peak_s, new.last_s, new.end_s) == (5000.0, 1401.0, 1401.0, None)
    alarm.step(12.0, 2.5, 1402.0)
    end = alarm.step(13.0, 0.0, 1403.0)
    assert end is not None
    assert (end.start_s, end.peak_s, end.last_s, end.end_s) == (5000.0, 1401.0, 1402.0, 1402.0)


def test_a_week_of_scores_and_events_leaves_nothing_behind() -> None:
    alarm = alarm_of(n=3, m=5, min_duration_s=20.0, cooldown_s=60.0, gap_s=5.0)
    phases: Counter[str] = Counter()
    clock_s = 1.7e9
    tracemalloc.start()
    sizes = []
    for number in range(7 * 24 * 360):  # a score each ten seconds, and in each hour ten minutes above
        if number % 8640 == 0:  # a day
            clock_s += (-3600.0, 86_400.0)[number // 8640 % 2]
            sizes.append(tracemalloc.get_traced_memory()[0])
        change = alarm.step(10.0 * number, 2.0 if number % 360 < 60 else 0.0, clock_s + 10.0 * number)
        phases[change.phase if change else ""] += 1
    tracemalloc.stop()
    assert phases["new"] == phases["end"] == 7 * 24
    assert sizes[-1] - sizes[1] < 20_000
