"""What scores mean for their source: events with their pictures, and drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores
from edge_runtime.model.image_quality import Fault
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources import CapturedFrame
from edge_runtime.stream.scored_frame import ScoredFrame, scored
from edge_runtime.stream.source_watch import SourceWatch
from edge_runtime.watching.alarm import AlarmSettings

Frames = Callable[[float], ScoredFrame]


@pytest.fixture
def scores(detector: Detector) -> Frames:
    """Makes a frame with a score, one a second."""
    number = 0

    def make(score: float) -> ScoredFrame:
        nonlocal number
        image = np.full((8, 8), 128, np.uint8)
        frame = scored(CapturedFrame(image, number, float(number), float(number), 0.0, None), detector)
        number += 1
        return replace(frame, result=replace(frame.result, score=score))

    return make


def watch(alarm: AlarmSettings | None = None, *, smoothing: str = "none", drift_frames: int = 0) -> SourceWatch:
    return SourceWatch(smoothing=smoothing, alarm=alarm, drift_frames=drift_frames, usual=None)


def test_without_an_alarm_a_score_is_smoothed_and_means_no_event(scores: Frames) -> None:
    watching = watch(smoothing="median:3")
    meanings = [watching.take(scores(score)) for score in (1.0, 9.0, 2.0)]
    assert [meaning.smoothed for meaning in meanings][-1] == 2.0
    assert {(meaning.state, meaning.event_id, meaning.event, meaning.drift) for meaning in meanings} == {(None,) * 4}
    assert watching.stop("stopped") is None
    watching.move(5.0)


def test_an_event_s_news_are_numbered_and_carry_each_best_picture_once(scores: Frames) -> None:
    settings = AlarmSettings(enter=1.0, clear=1.0, n=2, m=2, clear_frames=2, update_s=2.0)
    watching = watch(settings)
    frames = [scores(score) for score in (0.5, 3.0, 2.0, 2.0, 2.0, 4.0, 4.0, 0.5, 0.5)]
    meanings = [watching.take(frame) for frame in frames]
    news = [(index, meaning.event) for index, meaning in enumerate(meanings) if meaning.event]
    phases = [(index, event.change.phase, event.number) for index, event in news]
    assert phases == [(2, "new", 0), (4, "update", 1), (6, "update", 2), (8, "end", 3)]
    # The peak of 3 came before the event began; that of 4 is told with the next update, and none with the end.
    best = [event.picture for _, event in news]
    assert [None if picture is None else picture[1].score for picture in best] == [3.0, None, 4.0, None]
    assert best[0] is not None
    assert best[0][0] is frames[1].frame.image
    assert [meaning.state for meaning in meanings[1:4]] == ["suspect", "alarm", "alarm"]
    assert meanings[1].event_id is None
    assert {meaning.event_id for meaning in meanings[2:8]} == {news[0][1].change.event_id}
    assert meanings[8].event_id is None


def test_an_event_that_goes_on_ends_with_the_run_at_the_threshold_in_force(scores: Frames) -> None:
    watching = watch(AlarmSettings(enter=1.0, clear=0.5, n=1, m=1))
    first = watching.take(scores(2.0)).event
    assert first is not None
    assert (first.threshold, first.change.phase) == (1.0, "new")
    watching.move(1.5)
    last = watching.stop("stopped")
    assert last is not None
    assert (last.threshold, last.number, last.change.reason) == (1.5, 1, "stopped")
    assert watching.stop("stopped") is None


def too_small(frame: ScoredFrame) -> ScoredFrame:
    return replace(frame, result=replace(frame.result, is_anomaly=False, too_small=True))


@pytest.mark.parametrize("smoothing", ["none", "ema:0.5", "median:3"])
def test_frames_whose_regions_are_all_too_small_begin_no_event(scores: Frames, smoothing: str) -> None:
    watching = watch(AlarmSettings(enter=1.0, clear=1.0, n=1, m=1), smoothing=smoothing)
    meanings = [watching.take(too_small(scores(9.0))) for _ in range(5)]
    assert {(meaning.state, meaning.event, meaning.smoothed) for meaning in meanings} == {("normal", None, 1.0)}


def test_they_clear_an_event_and_are_not_its_picture(scores: Frames) -> None:
    watching = watch(AlarmSettings(enter=1.0, clear=0.5, n=1, m=1, clear_frames=2, update_s=1.0))
    frames = [scores(2.0), too_small(scores(9.0)), scores(3.0), too_small(scores(9.0)), too_small(scores(0.2))]
    meanings = [watching.take(frame) for frame in frames]
    assert [meaning.smoothed for meaning in meanings] == [2.0, 0.5, 3.0, 0.5, 0.2]
    events = [meaning.event for meaning in meanings if meaning.event]
    assert [event.change.phase for event in events] == ["new", "update", "update", "update", "end"]
    assert [event.picture[1].score for event in events if event.picture] == [2.0, 3.0]
    assert events[-1].change.peak_score == 3.0


def test_without_an_alarm_they_are_no_more_than_the_threshold(scores: Frames) -> None:
    assert watch().take(too_small(scores(9.0))).smoothed == 1.0


def test_drift_is_told_when_it_begins_and_when_it_ends(scores: Frames) -> None:
    frame = scores(0.0)

    def told(values: np.ndarray) -> list[tuple[int, bool]]:
        found = []
        for index, value in enumerate(values):
            window = watching.take(replace(frame, result=replace(frame.result, score=float(value)))).drift
            if window is not None:
                found.append((index, window.drifted))
        return found

    watching = watch(drift_frames=50)
    assert told(np.full(100, 99.0)) == []  # nothing is known of what is usual
    watching.expect(KeptScores(SCORE_QUANTILES, 1000))
    usual = np.linspace(0.0, 1.0, 50)
    assert told(np.concatenate([usual, usual + 5.0, usual + 5.0, usual, usual])) == [(99, True), (199, False)]


@pytest.mark.parametrize("set_by_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_an_anomaly_is_told_however_the_time_of_day_is_set_meanwhile(scores: Frames, set_by_s: float) -> None:
    watching = watch(AlarmSettings(enter=1.0, clear=1.0, n=3, m=5, min_duration_s=10.0))
    told = []
    for second in range(40):
        frame = scores(2.0)
        if second >= 5:
            frame = replace(frame, frame=replace(frame.frame, t_capture=frame.frame.t_capture + set_by_s))
        if news := watching.take(frame).event:
            told.append((second, news.change.phase, news.change.start_s))
    assert told == [(10, "new", 0.0), (20, "update", 0.0), (30, "update", 0.0)]


def test_the_picture_of_an_event_is_no_frame_of_before_it(scores: Frames) -> None:
    watching = watch(AlarmSettings(enter=1.0, clear=1.0, n=2, m=3))
    news = [watching.take(scores(score)).event for score in (9.0, 0.0, 0.0, 2.0, 3.0)]
    assert news[-1] is not None
    assert news[-1].picture is not None
    assert (news[-1].picture[1].score, news[-1].change.frames) == (3.0, 2)


def test_alarm_and_smoothing_do_not_hear_a_frame_that_is_unknown(scores: Frames) -> None:
    def unknown(score: float) -> ScoredFrame:
        frame = scores(score)
        faults = (Fault("dark", 1.0, 2.0),)
        result = replace(frame.result, is_anomaly=False, faults=faults, bad_is_unknown=True)
        return replace(frame, result=result)

    watching = watch(AlarmSettings(enter=1.0, clear=1.0, n=2, m=2, clear_frames=2), smoothing="median:3")
    begun = [watching.take(scores(5.0)) for _ in range(3)]
    during = [watching.take(unknown(0.1)) for _ in range(4)]
    assert begun[1].event is not None
    assert {(meaning.state, meaning.event, meaning.event_id) for meaning in during} == {
        ("alarm", None, begun[1].event_id)
    }
    assert watching.take(scores(5.0)).smoothed == 5.0
