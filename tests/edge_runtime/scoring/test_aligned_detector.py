"""A bundle that aligns parts: what it finds lies where the defect is in the frame, and records say how it looked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import View
from edge_runtime.errors import ConfigError
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.regions import regions_of
from edge_runtime.sinks.annotate import RED, annotated
from edge_runtime.sources.files import ImageSource
from edge_runtime.stream.pipeline import RunSettings, run
from tests.turned_part import defect_place, part_frame

ALIGN = Alignment(mode="turn", height=90.0, width=170.0, frame=(240, 300))
MIDDLE = (141.0, 124.0)
ANGLES = (0, 40, 130, 260)


@pytest.fixture(scope="module")
def make_detector(make_bundle: Callable[..., Bundle]) -> Callable[..., Detector]:
    """Makes a detector whose map is the squared error of two means; of an aligned wedge the defect is the brightest."""

    def make(align: Alignment | None = ALIGN, view: View | None = None, **settings: Any) -> Detector:
        bundle = make_bundle(Preprocess(height=90, width=170, align=align, **settings))
        return Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1), view=view, threshold=1.0)

    return make


@pytest.mark.parametrize("angle", ANGLES)
def test_the_brightest_place_of_the_map_is_the_defect(make_detector: Callable[..., Detector], angle: int) -> None:
    frame = part_frame(angle, MIDDLE, defect=True)
    result = make_detector().score(frame)
    heat = result.heatmap(frame.shape)
    assert heat.shape == (240, 300)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert (column, row) == pytest.approx(defect_place(angle, MIDDLE), abs=8)
    assert heat[:5].max() == 0.0  # outside the view

    first = regions_of(heat, float(heat.max()))[0]
    x, y = defect_place(angle, MIDDLE)
    assert first.x - 3 <= x <= first.x + first.width + 3
    assert first.y - 3 <= y <= first.y + first.height + 3
    assert max(first.width, first.height) <= 24


def test_a_result_keeps_the_place_of_its_own_view(make_detector: Callable[..., Detector]) -> None:
    """Heatmaps are drawn later, when other frames have been scored."""
    detector = make_detector()
    frames = [part_frame(angle, MIDDLE, defect=True) for angle in ANGLES]
    results = [detector.score(frame) for frame in frames]
    for angle, frame, result in zip(ANGLES, frames, results, strict=True):
        heat = result.heatmap(frame.shape)
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        assert (column, row) == pytest.approx(defect_place(angle, MIDDLE), abs=8)


def test_the_annotator_draws_around_the_defect(make_detector: Callable[..., Detector]) -> None:
    detector = make_detector()
    frame = part_frame(130, MIDDLE, defect=True)
    result = detector.score(frame)
    record = {"t_capture": "2026-01-01T00:00:00.000Z"}
    picture = annotated(frame, result, record)[:240]
    assert result.is_anomaly
    rows, columns = np.nonzero((picture == RED).all(axis=2))
    x, y = defect_place(130, MIDDLE)
    assert columns.min() <= x <= columns.max()
    assert rows.min() <= y <= rows.max()


def test_records_say_how_the_part_was_looked_at(make_detector: Callable[..., Detector], tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), part_frame(40, MIDDLE))
    cv2.imwrite(str(tmp_path / "b.png"), np.full((240, 300, 3), 60, dtype=np.uint8))
    cv2.imwrite(str(tmp_path / "c.png"), part_frame(0, (20.0, 120.0)))
    records: list[dict[str, Any]] = []
    run(make_detector(), ImageSource("folder", sorted(tmp_path.iterdir())), records.append, settings=RunSettings())
    assert [record["view"] for record in records] == ["aligned", "no_part", "part_at_border"]


def test_records_without_an_alignment_have_no_view(make_detector: Callable[..., Detector], tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), part_frame(40, MIDDLE))
    records: list[dict[str, Any]] = []
    run(make_detector(None), ImageSource("folder", sorted(tmp_path.iterdir())), records.append)
    assert "view" not in records[0]


def test_a_mask_of_the_frame_is_refused(make_detector: Callable[..., Detector]) -> None:
    seen = np.ones((240, 300), dtype=bool)
    seen[:10] = False
    with pytest.raises(ConfigError, match="view follows the part, and a mask of the frame does not"):
        make_detector(view=View(mask=seen))


def test_a_region_of_interest_on_site_keeps_the_scale(make_detector: Callable[..., Detector]) -> None:
    """The box is so many pixels of the whole frame, whatever is cut from it."""
    frame = part_frame(40, (150.0, 120.0), defect=True)
    whole = make_detector().score(frame)
    cut = make_detector(view=View(roi=(30, 10, 240, 220))).score(frame)
    assert cut.score == pytest.approx(whole.score, rel=0.02)
    x, y = defect_place(40, (150.0, 120.0))
    row, column = np.unravel_index(int(cut.heatmap(frame.shape).argmax()), (240, 300))
    assert (column, row) == pytest.approx((x, y), abs=8)
