"""Thresholds set on the page: of all cameras or of one, for now or for good, and taken back in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import View
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.live.threshold_desk import Asked, ThresholdDesk
from edge_runtime.scoring.detector import Detector
from edge_runtime.serving.access import Visitor
from edge_runtime.sources import source_from
from edge_runtime.stream.pipeline import Pipeline, RunSettings
from edge_runtime.watching.alarm import AlarmSettings

BY = Visitor("operator", "127.0.0.1")
SECRET = "geheim-geheim"


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


def of_frames(model: Path, view: View | None = None) -> SiteCalibration:
    facts = {"source": "left", "precision": "fp32", "backend": "onnxruntime-cpu", "view": view or View()}
    return SiteCalibration.of([i / 10.0 for i in range(50)], 0.1, model=Bundle.open(model).digest, **facts)


def opened(
    model: Path, said: list[dict[str, Any]] | None = None, *, view: View | None = None, drift: int = 0
) -> Pipeline:
    sources = [source_from(None, f"test://pattern?fps={rate}&width=16&height=16") for rate in (90, 91)]
    for source, name in zip(sources, ("left", f"rtsp://user:{SECRET}@host/right"), strict=True):
        source.source_id = name
    detector = Detector.load(model, view=view)
    enter = detector.decision.threshold
    settings = RunSettings(alarm=AlarmSettings(enter=enter, clear=enter - 0.25, n=1, m=1), drift=drift)
    return Pipeline(detector, sources, [].append if said is None else said.append, settings)


def thresholds(pipeline: Pipeline) -> list[float]:
    """In force, of each source; its alarm's beside it must be the same."""
    found = [pipeline.threshold_of(state.source_id) for state in pipeline.states()]
    assert [state.watch.alarm.settings.enter for state in pipeline.states() if state.watch.alarm] == found
    assert [source["threshold"] for source in pipeline.current()["sources"]] == found
    return found


def test_one_camera_alone_is_moved_and_put_back(model: Path) -> None:
    pipeline = opened(model)
    desk = ThresholdDesk(lambda: pipeline)
    right = "rtsp://***@host/right"
    desk.take(Asked(2.0, BY))
    desk.take(Asked(5.0, BY, source_id=right))
    assert thresholds(pipeline) == [2.0, 5.0]
    desk.take(Asked(7.0, BY, source_id="left"))
    assert thresholds(pipeline) == [7.0, 5.0]
    assert desk.told()["undo"] == {"threshold": 2.0, "source_id": "left", "own": {}, "kept_alone": ""}
    desk.take(Asked(None, BY))
    assert thresholds(pipeline) == [2.0, 5.0]
    desk.take(Asked(3.0, BY))
    assert thresholds(pipeline) == [3.0, 3.0]
    for expected in ([2.0, 5.0], [2.0, 2.0], [1.0, 1.0]):
        desk.take(Asked(None, BY))
        assert thresholds(pipeline) == expected
    assert SiteCalibration.beside(model) is None


def test_for_good_it_holds_at_the_next_start_and_no_password_is_kept(model: Path) -> None:
    pipeline = opened(model)
    desk = ThresholdDesk(lambda: pipeline)
    right = "rtsp://***@host/right"
    desk.take(Asked(5.0, BY, keep=True, source_id=right))
    assert thresholds(pipeline) == [1.0, 5.0]
    assert desk.told()["kept"]["sources"][right]["by"] == "operator of 127.0.0.1"
    assert SECRET not in (model.parent / "model.aae.calibration.json").read_text()
    assert thresholds(opened(model)) == [1.0, 5.0]
    # Another of all, not for good: the next start knows nothing of it.
    desk.take(Asked(4.0, BY))
    assert thresholds(pipeline) == [4.0, 4.0]
    desk.take(Asked(6.0, BY, keep=True, source_id="left"))
    assert thresholds(pipeline) == [6.0, 4.0]
    assert thresholds(opened(model)) == [6.0, 5.0]
    for expected in ([4.0, 4.0], [1.0, 5.0], [1.0, 1.0]):
        desk.take(Asked(None, BY))
        assert thresholds(pipeline) == expected
    assert SiteCalibration.beside(model) is None


def test_a_kept_one_of_a_run_before_is_undone_too(model: Path) -> None:
    before = opened(model)
    ThresholdDesk(lambda: before).take(Asked(5.0, BY, keep=True, source_id="left"))
    pipeline = opened(model)
    desk = ThresholdDesk(lambda: pipeline)
    assert desk.told()["undo"] == {"threshold": None, "source_id": None, "own": {}, "kept_alone": "sources"}
    desk.take(Asked(None, BY))
    assert thresholds(pipeline) == [1.0, 1.0]
    assert SiteCalibration.beside(model) is None


def test_undo_of_single_thresholds_leaves_what_frames_made_for_all(model: Path) -> None:
    made = of_frames(model)
    made.save(model)
    before = opened(model)
    ThresholdDesk(lambda: before).take(Asked(5.0, BY, keep=True, source_id="left"))
    pipeline = opened(model)
    desk = ThresholdDesk(lambda: pipeline)
    assert thresholds(pipeline) == [5.0, made.threshold]
    desk.take(Asked(None, BY))
    assert thresholds(pipeline) == [made.threshold, made.threshold]
    assert SiteCalibration.beside(model) == made
    assert desk.told()["undo"] is None


def test_one_kept_for_a_run_with_another_view_replaces_the_calibration_of_the_other(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It went into the calibration of a view that the run does not have, and was not in force at the next start."""
    of_frames(model, view=View(roi=(0, 0, 8, 8))).save(model)
    whole = View()
    pipeline = opened(model, view=whole)
    ThresholdDesk(lambda: pipeline).take(Asked(5.0, BY, keep=True, source_id="left"))
    assert "was made with region" in caplog.text
    assert thresholds(opened(model, view=whole)) == [5.0, 1.0]
    kept = SiteCalibration.beside(model)
    assert kept is not None
    assert (kept.basis, kept.by) == ("bundle", None)
    assert "threshold 1, the bundle's own" in str(kept)


def test_what_was_calibrated_meanwhile_is_not_undone_with_an_older_change(model: Path) -> None:
    pipeline = opened(model)
    desk = ThresholdDesk(lambda: pipeline)
    desk.take(Asked(2.0, BY))
    of_frames(model).save(model)
    pipeline.set_detector(pipeline.detector.recalibrated())  # as at SIGHUP
    desk.forget()
    assert desk.told()["undo"] is None


def test_usual_scores_are_those_of_the_source_where_its_frames_were_calibrated(model: Path) -> None:
    of_all = of_frames(model)
    own = SiteCalibration.of(
        [40.0 + i for i in range(50)], 0.1, model=of_all.model, source="left", precision="fp32",
        backend="onnxruntime-cpu",
    )  # fmt: skip
    own.alone_for("left", of_all, 1.0).save(model)
    detector = opened(model).detector
    left, right = detector.usual_of("left"), detector.usual_of("right")
    assert left is not None
    assert right is not None
    assert (left.quantiles[0], right.quantiles[0]) == (40.0, 0.0)
    assert opened(model, drift=50).states()[0].watch._drift is not None
    assert detector.with_threshold(3.0).own_thresholds == {}
    assert detector.with_threshold(3.0).recalibrated().own_thresholds == {"left": own.threshold}


def test_records_say_whose_threshold_moved(model: Path) -> None:
    said: list[dict[str, Any]] = []
    pipeline = opened(model, said)
    desk = ThresholdDesk(lambda: pipeline)
    desk.take(Asked(5.0, BY, source_id="left"))
    desk.take(Asked(4.0, BY))
    pipeline.run(max_frames=1)
    of_one, of_all = (record for record in said if record["type"] == "status")
    assert (of_one["source_id"], of_one["payload"]["one_source"]) == ("left", True)
    assert (of_one["payload"]["before"], of_one["payload"]["threshold"]) == (1.0, 5.0)
    assert (of_all["payload"]["one_source"], of_all["payload"]["before"]) == (False, 1.0)


def test_what_is_asked_passes_between_processes() -> None:
    for asked in (Asked(2.0, BY, keep=True, source_id="left"), Asked(None, BY)):
        assert Asked.from_json(asked.to_json()) == asked
