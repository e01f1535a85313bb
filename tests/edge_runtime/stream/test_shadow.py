"""A shadow: what a second bundle says of the same frames is noted, costs little, and changes nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError
from edge_runtime.model.images import as_frame, write_image
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.sources import source_from
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings
from edge_runtime.stream.feed import FeedSettings
from edge_runtime.stream.pipeline import Pipeline, RunSettings, RunSummary
from edge_runtime.stream.shadow import Pace, Shadow
from edge_runtime.watching.alarm import AlarmSettings

FLAT = np.full((8, 8), 128, dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)

PATTERN = "test://pattern?fps=200&width=16&height=16"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Flat, noise, flat, noise, flat, noise."""
    for number in range(6):
        write_image(tmp_path / "images" / f"{number}.png", NOISE if number % 2 else FLAT)
    return tmp_path / "images"


@pytest.fixture
def other(make_bundle: Callable[..., Bundle]) -> Detector:
    """Of another bundle, with a backend of its own, to which everything is normal."""
    limits = {
        "reconstruction_error": Limit(threshold=1e6, center=0.5),
        "neg_log_prior": Limit(threshold=1e6, center=2.0),
    }
    bundle = make_bundle(decision=UnionRule(limits=limits))
    return Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1))


class Failing(Detector):
    """Scores a frame, and fails at the second."""

    n_scored = 0

    def score(self, frame: Frame) -> Result:
        self.n_scored += 1
        if self.n_scored == 2:
            raise RuntimeError("the driver fell over")
        return super().score(frame)


def recorded(
    detector: Detector, path: str | Path, settings: RunSettings | None = None, **options: Any
) -> tuple[RunSummary, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    max_frames = options.pop("max_frames", None)
    pipeline = Pipeline(detector, [source_from(None, str(path))], records.append, settings, **options)
    return pipeline.run(max_frames=max_frames), records


@pytest.mark.parametrize("flip", ["none", "180"])
def test_each_bundle_reads_16_bits_by_its_own_levels(
    make_bundle: Callable[..., Bundle], tmp_path: Path, flip: str
) -> None:
    def of(levels: tuple[int, int] | None) -> Detector:
        bundle = make_bundle(Preprocess(height=8, width=8, levels=levels))
        return Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1))

    picture = np.random.default_rng(5).integers(0, 4096, (8, 8), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), picture)
    deployed, beside = of((0, 4095)), of((0, 65535))
    assert deployed.score(tmp_path / "deep.png").score != beside.score(tmp_path / "deep.png").score
    source = source_from(None, str(tmp_path / "deep.png"), CaptureSettings(flip=flip))
    records: list[dict[str, Any]] = []
    Pipeline(deployed, [source], records.append, shadow=beside).run()
    turned = np.ascontiguousarray(picture[::-1, ::-1]) if flip == "180" else picture
    assert [record["score"] for record in records] == [deployed.score(turned).score]
    assert [record["shadow"]["score"] for record in records] == [beside.score(as_frame(turned, (0, 65535))).score]


def test_records_say_what_the_shadow_found_at_their_end(detector: Detector, other: Detector, images: Path) -> None:
    summary, records = recorded(detector, images, shadow=other)
    assert [list(record)[-1] for record in records] == ["shadow"] * 6
    assert [record["is_anomaly"] for record in records] == [False, True] * 3
    for record in records:
        assert list(record["shadow"]) == ["model", "score", "anomalous"]
        assert record["shadow"]["model"] == f"sha256:{other.bundle.digest}" != record["model"]
        assert record["shadow"]["anomalous"] is False
    assert records[1]["shadow"]["score"] == other.score(NOISE).score
    assert str(summary.shadow) == (
        f"shadow test.aae sha256:{other.bundle.digest[:12]}: 6 frames compared, 0 normal -> anomalous, "
        "3 anomalous -> normal, 0 skipped"
    )


def test_both_ways_are_counted(detector: Detector, other: Detector, images: Path) -> None:
    summary, _ = recorded(other, images, shadow=detector)
    assert summary.shadow is not None
    assert (summary.shadow.compared, summary.shadow.to_anomalous, summary.shadow.to_normal) == (6, 3, 0)


@pytest.mark.parametrize("failing", [False, True], ids=["works", "fails"])
def test_nothing_else_of_a_run_changes(detector: Detector, other: Detector, images: Path, failing: bool) -> None:
    if failing:
        other = Failing(other.bundle, other.backend)
    alarm = RunSettings(alarm=AlarmSettings(enter=0.0, clear=0.0, n=1, m=1), smoothing="median:3", boxes=True)
    alone, before = recorded(detector, images, alarm)
    beside, after = recorded(detector, images, alarm, shadow=other)
    kept = [record for record in after if record.get("event_type") != "SHADOW_FAILED"]
    moments = {"t_capture", "t_emit", "age_ms", "latency_ms", "shadow"}
    assert [{key: record[key] for key in record if key not in moments} for record in kept] == [
        {key: record[key] for key in record if key not in moments} for record in before
    ]
    assert str(beside).split(", latency")[0] == str(alone).split(", latency")[0]
    assert all("shadow" not in record for record in before)
    assert alone.shadow is None


def test_events_begin_and_end_as_without_it(detector: Detector, other: Detector) -> None:
    settings = RunSettings(alarm=AlarmSettings(enter=-1e6, clear=-1e6, n=1, m=1))
    summary, records = recorded(detector, PATTERN, settings, shadow=other, max_frames=5)
    assert summary.events == 1
    assert [record["phase"] for record in records if record["type"] == "event"] == ["new", "end"]


def test_one_that_fails_is_named_once_and_switched_off(
    detector: Detector, other: Detector, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shadow = Failing(other.bundle, other.backend)
    with caplog.at_level(logging.WARNING):
        summary, records = recorded(detector, images, shadow=shadow)
    assert caplog.messages == ["shadow test.aae failed and is switched off: the driver fell over"]
    assert shadow.n_scored == 2
    frames = [record for record in records if record["type"] == "frame"]
    assert [record["shadow"] is None for record in frames] == [False, *[True] * 5]
    (status,) = (record for record in records if record["type"] == "status")
    assert (status["severity"], status["event_type"], status["source_id"]) == ("warning", "SHADOW_FAILED", "test.aae")
    assert status["payload"] == {"reason": "the driver fell over", "model": f"sha256:{other.bundle.digest}"}
    assert str(summary.shadow).endswith("1 frames compared, 0 normal -> anomalous, 0 anomalous -> normal, 0 skipped; "
                                        "switched off: the driver fell over")  # fmt: skip


def test_a_backend_that_gives_no_number_switches_it_off(
    detector: Detector, make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], images: Path
) -> None:
    broken = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=math.nan))
    summary, records = recorded(
        detector, images, shadow=Detector(broken, OnnxRuntimeCpu(broken.files["detector.onnx"], threads=1))
    )
    assert summary.frames == 6
    assert summary.shadow is not None
    assert "expected finite numbers" in str(summary.shadow.failed)
    assert [record["event_type"] for record in records if record["type"] == "status"] == ["SHADOW_FAILED"]


def test_the_deployed_detector_may_still_fail(detector: Detector, other: Detector, images: Path) -> None:
    class Broken(Detector):
        def score(self, frame: Frame) -> Result:
            raise BackendError("out of order")

    with pytest.raises(BackendError, match="out of order"):
        recorded(Broken(detector.bundle, detector.backend), images, shadow=other)


def paced(*, every: int = 1, max_fps: float = math.inf) -> Pace:
    return Pace(FeedSettings(every=every, max_fps=max_fps))


def told(pace: Pace, period_s: float, cost_s: float, source_id: str = "a") -> Pace:
    """Two frames of a source, and a second score that ended with the second one."""
    pace.arrived(source_id, 0, 100.0)
    pace.arrived(source_id, 1, 100.0 + period_s)
    pace.spent(cost_s, 100.0 + period_s)
    return pace


def test_the_first_frames_are_scored_to_learn_what_it_costs() -> None:
    pace = paced()
    pace.arrived("a", 0, 0.0)
    assert pace.allows(0.0, 5.0)


@pytest.mark.parametrize(
    ("cost_s", "after_s", "fits"),
    [(0.05, 0.02, True), (0.05, 0.04, True), (0.05, 0.06, False), (0.2, 0.0, False)],
)
def test_it_must_be_done_before_the_next_frame_is_due(cost_s: float, after_s: float, fits: bool) -> None:
    pace = told(paced(), 0.1, cost_s)
    pace.arrived("a", 2, 100.2)
    assert pace.allows(100.2, 100.2 + after_s) is fits


def test_frames_that_are_left_out_make_room() -> None:
    for pace, fits in ((paced(), False), (paced(every=3), True), (paced(max_fps=4), True), (paced(max_fps=20), False)):
        told(pace, 0.1, 0.15)
        assert pace.allows(100.2, 100.2) is fits


def test_numbers_of_frames_that_were_passed_over_count_for_the_period() -> None:
    pace = paced()
    pace.arrived("a", 0, 100.0)
    pace.arrived("a", 5, 100.5)
    pace.spent(0.15, 100.5)
    assert not pace.allows(100.5, 100.5), "ten frames a second, of which each fifth was taken"


def test_several_sources_share_the_time() -> None:
    pace = told(paced(), 0.1, 0.07)
    assert pace.allows(100.1, 100.1)
    told(pace, 0.1, 0.07, "b")
    assert not pace.allows(100.1, 100.1), "a frame each 0.05 s"


def test_an_outage_does_not_move_the_period() -> None:
    pace = paced()
    for frame_id in range(10):
        pace.arrived("a", frame_id, 100.0 + 0.1 * frame_id)
    pace.arrived("a", 10, 900.0)
    pace.spent(0.15, 900.0)
    assert not pace.allows(900.0, 900.0)


def test_where_there_is_never_time_it_takes_a_fiftieth() -> None:
    pace = told(paced(), 0.1, 0.2)
    assert not pace.allows(100.2, 100.2)
    assert not pace.allows(109.9, 109.9)
    assert pace.allows(110.2, 110.2), "0.2 s in the 10 s since it was last scored"


def test_a_skipped_frame_is_counted_and_has_no_score(detector: Detector, other: Detector) -> None:
    now_s = 0.0

    def clock() -> float:
        return now_s

    def frames() -> Iterator[CapturedFrame]:
        for frame_id in range(4):
            yield CapturedFrame(FLAT, frame_id, 0.0, 0.1 * frame_id, 0.0, None)

    class Slow(Detector):
        def score(self, frame: Frame) -> Result:
            nonlocal now_s
            now_s += 0.5
            return super().score(frame)

    shadow = Shadow(Slow(other.bundle, other.backend), lambda record: None, paced(), clock=clock)
    decided = detector.score(FLAT)
    found = []
    for frame in frames():
        now_s = max(now_s, frame.grabbed_s)
        found.append(shadow.beside("line", frame, decided))
    assert [one is None for one in found] == [False, True, True, True]
    assert (shadow.counts.compared, shadow.counts.skipped) == (1, 3)


def test_a_live_run_that_has_time_is_compared(detector: Detector, other: Detector) -> None:
    summary, records = recorded(detector, "test://pattern?fps=20&width=16&height=16", shadow=other, max_frames=8)
    assert summary.shadow is not None
    assert summary.shadow.compared + summary.shadow.skipped == summary.frames == 8
    assert summary.shadow.compared == sum(record.get("shadow") is not None for record in records) >= 1
