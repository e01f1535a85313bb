"""How large regions are in frames of known squares, whatever lies between frame and network, and what it decides."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu, RawOutputs
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import View
from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path
from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.heatmap import HeatScale, overlay
from edge_runtime.scoring.regions import all_too_small, regions_of, without_small
from edge_runtime.sinks.annotate import annotated
from tests.turned_part import DEFECT, PART, defect_place, part_frame

Pixels = NDArray[np.uint8]
USUAL_PEAK = 0.9


class BrightIsAnomalous:
    """A network whose map is 1 where its input is brighter than a level, and whose score is its brightest pixel."""

    name = "bright"

    def __init__(self, level: int = 128) -> None:
        self.level = level

    def run(self, inputs: Pixels) -> RawOutputs:
        bright = (inputs[:, :, :, 0] > self.level).astype(np.float32)
        criteria = np.stack([9.0 * bright.max(axis=(1, 2)), np.zeros(len(inputs))], axis=1).astype(np.float32)
        return RawOutputs(criteria, np.zeros((len(inputs), 2), np.float32), bright)


def with_manifest(bundle: Bundle, **changes: Any) -> Bundle:
    manifest = {**bundle.manifest, "calibration": {"anomaly_map_peak": {"0.5": 0.4, "0.99": USUAL_PEAK}}, **changes}
    return Bundle.from_parts(manifest, bundle.files, bundle.path)


@pytest.fixture
def make_detector(make_bundle: Callable[..., Bundle]) -> Callable[..., Detector]:
    def make(preprocess: Preprocess, *, level: int = 128, **asked: Any) -> Detector:
        return Detector(with_manifest(make_bundle(preprocess)), BrightIsAnomalous(level), **asked)

    return make


def frame_with(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = (120, 200)) -> Pixels:
    """Black, with white boxes x, y, width, height."""
    frame = np.zeros(shape, np.uint8)
    for x, y, width, height in boxes:
        frame[y : y + height, x : x + width] = 255
    return frame


GEOMETRIES = [
    pytest.param(Preprocess(height=120, width=200), None, id="as it is"),
    pytest.param(Preprocess(height=60, width=50), None, id="shrunk, unlike in the two axes"),
    pytest.param(Preprocess(height=180, width=220), None, id="enlarged"),
    pytest.param(Preprocess(height=64, width=64, fit="letterbox"), None, id="letterbox"),
    pytest.param(Preprocess(height=40, width=40, roi=(60, 20, 100, 80)), None, id="region trained on"),
    pytest.param(Preprocess(height=48, width=48), View(roi=(60, 20, 100, 80)), id="region asked for"),
    pytest.param(Preprocess(height=32, width=32, fit="tile", overlap=8), None, id="tiles"),
    pytest.param(Preprocess(height=32, width=32, fit="tile", overlap=8, scale=0.5), None, id="tiles at half scale"),
    pytest.param(
        Preprocess(height=32, width=32, fit="tile", overlap=8, scale=0.5, roi=(60, 20, 100, 80)),
        None,
        id="tiles of a roi",
    ),
]


@pytest.mark.parametrize(("preprocess", "view"), GEOMETRIES)
@pytest.mark.parametrize("box", [(80, 40, 60, 48), (90, 40, 50, 50)], ids=["60x48", "50x50"])
def test_a_square_has_its_size_and_place_in_the_frame(
    make_detector: Callable[..., Detector],
    preprocess: Preprocess,
    view: View | None,
    box: tuple[int, int, int, int],
) -> None:
    frame, area = frame_with(box), box[2] * box[3]
    result = make_detector(preprocess, view=view, mm_per_pixel=0.5).score(frame)
    (region,) = result.regions(frame.shape)
    # A pixel of the input is up to four of the frame's; the map's edge lies within half of one.
    assert (region.x, region.y, region.width, region.height) == pytest.approx(box, abs=4)
    assert region.area_px == pytest.approx(area, rel=0.12)
    assert region.area_mm2 == pytest.approx(0.25 * region.area_px)
    for least, too_small in ((f"{0.8 * area}px", False), (f"{1.2 * area}px", True)):
        result = make_detector(preprocess, view=view, min_area=least).score(frame)
        assert (result.is_anomaly, result.too_small) == (not too_small, too_small)
        assert result.score > result.threshold
        assert len(result.regions(frame.shape)) == (not too_small)
    in_mm = make_detector(preprocess, view=view, mm_per_pixel=0.5, min_area=f"{0.3 * area}mm2").score(frame)
    assert in_mm.too_small


@pytest.mark.parametrize("angle", [0, 40, 130])
def test_a_square_on_a_turned_part_has_its_size_in_the_frame(
    make_detector: Callable[..., Detector], angle: int
) -> None:
    align = Alignment(mode="turn", height=90.0, width=170.0, frame=(240, 300))
    preprocess, middle = Preprocess(height=90, width=170, align=align), (282.0, 248.0)
    frame = part_frame(angle, middle, shape=(480, 600, 3), scale=2.0, defect=True)  # the view is halved
    make = {"level": (PART + DEFECT) // 2}
    result = make_detector(preprocess, **make).score(frame)
    (region,) = result.regions(frame.shape)
    x, y = defect_place(angle, middle, 2.0)
    assert region.area_px == pytest.approx(20 * 20, rel=0.15)
    assert (region.x + region.width / 2, region.y + region.height / 2) == pytest.approx((x, y), abs=3)
    assert not make_detector(preprocess, min_area="320px", **make).score(frame).too_small
    assert make_detector(preprocess, min_area="480px", **make).score(frame).too_small


def test_the_area_is_of_the_pixels_and_not_of_the_box() -> None:
    heat = np.zeros((100, 100), np.float32)
    cv2.line(heat, (10, 10), (59, 59), 1.0, 1)
    (region,) = regions_of(heat, USUAL_PEAK, DefectSize(mm_per_pixel=0.1, min_area=Area.parse("10px")))
    assert (region.width, region.height, region.area_px) == (50, 50, 50)
    assert region.area_mm2 == pytest.approx(0.5)
    assert region.to_json() == {
        "x": 10, "y": 10, "width": 50, "height": 50, "peak": 1.0, "area_px": 50, "area_mm2": region.area_mm2,
    }  # fmt: skip


def test_what_is_asked_stands_in_place_of_the_share_of_the_frame() -> None:
    heat = frame_with((10, 10, 3, 3), shape=(1000, 1000)).astype(np.float32)
    assert regions_of(heat, 1.0) == []  # below a ten-thousandth of the frame
    assert [region.area_px for region in regions_of(heat, 1.0, DefectSize(min_area=Area.parse("9px")))] == [9]
    assert regions_of(heat, 1.0, DefectSize(min_area=Area.parse("10px"))) == []


def test_one_region_that_is_large_enough_makes_a_frame_anomalous_and_is_shown_alone(
    make_detector: Callable[..., Detector],
) -> None:
    large, small = (20, 20, 30, 30), (150, 90, 6, 6)
    frame = frame_with(large, small)
    plain = make_detector(Preprocess(height=120, width=200)).score(frame)
    result = make_detector(Preprocess(height=120, width=200), min_area="50px").score(frame)
    assert (result.is_anomaly, result.too_small, result.score) == (True, False, plain.score)
    assert {(box.x, box.y) for box in plain.regions(frame.shape)} == {large[:2], small[:2]}
    assert [(box.x, box.y) for box in result.regions(frame.shape)] == [large[:2]]
    shown = result.shown_heatmap(frame.shape)
    assert shown[20:50, 20:50].all()
    assert not shown[85:, 140:].any()
    np.testing.assert_array_equal(result.heatmap(frame.shape), plain.heatmap(frame.shape))
    np.testing.assert_array_equal(plain.shown_heatmap(frame.shape), plain.heatmap(frame.shape))
    picture = annotated(frame, result, {})[:240]
    assert (picture[2 * 85 : 2 * 110, 2 * 140 : 2 * 170].max(axis=2) == np.kron(
        frame[85:110, 140:170], np.ones((2, 2), np.uint8)
    )).all()  # fmt: skip


def test_the_glow_of_a_small_region_goes_with_it_and_that_of_a_large_one_stays() -> None:
    heat = np.zeros((60, 120), np.float32)
    for x, radius in ((30, 15), (90, 3)):
        cv2.circle(heat, (x, 30), radius, 1.0, -1)
    heat = cv2.GaussianBlur(heat, (0, 0), 2.0)
    size = DefectSize(min_area=Area.parse("100px"))
    shown = without_small(heat, float(heat[:, 60:].max()), size)
    assert shown[:, 75:].max() < 0.3 * heat[:, 75:].max()
    np.testing.assert_array_equal(shown[:, :60], heat[:, :60])
    frame = np.full((60, 120), 80, np.uint8)
    assert not np.array_equal(overlay(frame, shown, HeatScale()), overlay(frame, heat, HeatScale()))


@pytest.mark.parametrize("peak", [0.0, 0.5, 0.89])
def test_a_map_that_stays_usual_speaks_for_no_size(peak: float) -> None:
    """What raised the score is elsewhere: a wrong part need not show in the map."""
    heat = np.zeros((50, 50), np.float32)
    heat[10:12, 10:12] = peak
    assert not all_too_small(heat, USUAL_PEAK, DefectSize(min_area=Area.parse("1000px")))
    heat[10, 10] = USUAL_PEAK
    assert all_too_small(heat, USUAL_PEAK, DefectSize(min_area=Area.parse("1000px")))


def test_a_normal_frame_is_never_too_small_and_its_map_is_shown_whole(
    make_detector: Callable[..., Detector],
) -> None:
    frame = frame_with((20, 20, 3, 3))
    result = make_detector(Preprocess(height=120, width=200), min_area="100px", threshold=100.0).score(frame)
    assert (result.is_anomaly, result.too_small, result.regions(frame.shape)) == (False, False, [])
    np.testing.assert_array_equal(result.shown_heatmap(frame.shape), result.heatmap(frame.shape))


def test_a_network_input_is_judged_by_its_score_alone(make_detector: Callable[..., Detector]) -> None:
    detector = make_detector(Preprocess(height=60, width=50), min_area="100000px")
    result = detector.score_input(frame_with((20, 20, 3, 3), shape=(60, 50))[:, :, None])
    assert (result.is_anomaly, result.too_small, bool(result.size)) == (True, False, False)


# Where sizes come from


@pytest.fixture
def own_bundle(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    bundle = make_bundle(Preprocess(height=120, width=200))
    asked = {"mm_per_pixel": 0.5, "min_area": "50px"}
    with_manifest(bundle, defect_size=asked).write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


def calibrated(path: Path, size: DefectSize, **changes: Any) -> None:
    model = Bundle.open(path).digest
    SiteCalibration.chosen(1.0, model=model, before=None, size=size, **changes).save(path)


def test_what_is_asked_goes_before_the_site_s_and_that_before_the_bundle_s(own_bundle: Path) -> None:
    assert Detector.load(own_bundle).size == DefectSize(mm_per_pixel=0.5, min_area=Area(50.0, "px"))
    calibrated(own_bundle, DefectSize(min_area=Area(2.0, "mm2")))
    on_site = Detector.load(own_bundle)
    assert on_site.size == DefectSize(mm_per_pixel=0.5, min_area=Area(2.0, "mm2"))
    asked = Detector.load(own_bundle, mm_per_pixel=0.1, min_area=Area(7.0, "px"))
    assert asked.size == DefectSize(mm_per_pixel=0.1, min_area=Area(7.0, "px"))
    assert Detector.load(own_bundle, min_area="0px").size.least_px is None
    assert asked.with_threshold(3.0).size == asked.size
    calibrated(own_bundle, DefectSize(mm_per_pixel=0.25, min_area=Area(2.0, "px")))
    assert on_site.recalibrated().size == DefectSize(mm_per_pixel=0.25, min_area=Area(2.0, "px"))
    assert asked.recalibrated().size == asked.size


def test_a_scale_of_the_site_holds_for_another_view(own_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    calibrated(own_bundle, DefectSize(mm_per_pixel=0.25), view=View(roi=(0, 0, 100, 100)))
    with caplog.at_level(logging.INFO, logger="edge_runtime"):
        detector = Detector.load(own_bundle, view=View(roi=(4, 4, 50, 50)))
    assert detector.size.mm_per_pixel == 0.25
    assert "sizes: 0.25 mm a pixel, regions from 50px on" in caplog.text


def test_bundles_and_calibrations_from_before_there_were_sizes_decide_as_before(
    bundle_file: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(bundle_file, tmp_path / "model.aae"))
    assert "defect_size" not in Bundle.open(path).manifest
    calibrated(path, DefectSize())
    assert "size" not in json.loads(overlay_path(path).read_text())
    frame = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    result = Detector.load(path, threads=1).score(frame)
    assert (result.is_anomaly, result.too_small, bool(result.size)) == (True, False, False)
    assert len(result.regions(frame.shape)) > 0  # measured in pixels
    assert {box.area_mm2 for box in result.regions(frame.shape)} == {None}


def test_a_bundle_without_a_usual_peak_is_refused_a_smallest_area_alone(bundle: Bundle) -> None:
    backend = OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1)
    with pytest.raises(ConfigError, match="keeps no usual peak of its anomaly map, by which regions are found; leave"):
        Detector(bundle, backend, min_area="12px")
    assert Detector(bundle, backend, mm_per_pixel=0.1, min_area="0px").size.mm_per_pixel == 0.1


def test_square_millimetres_without_a_scale_anywhere_are_refused(make_detector: Callable[..., Detector]) -> None:
    with pytest.raises(ConfigError, match=r"0\.5mm2 needs to know how large a pixel is"):
        make_detector(Preprocess(height=60, width=50), min_area="0.5mm2")
    with pytest.raises(ConfigError, match="expected a number with its unit"):
        make_detector(Preprocess(height=60, width=50), min_area="0.5")


@pytest.mark.parametrize("value", [{"mm_per_pixel": 0.0}, {"mm_per_pixel": 1e300}, {"min_area": "12"}])
def test_a_manifest_whose_sizes_are_none_is_refused(make_bundle: Callable[..., Bundle], value: Any) -> None:
    with pytest.raises(BundleError, match="the manifest's defect_size cannot be used"):
        with_manifest(make_bundle(), defect_size=value)


@pytest.mark.parametrize("size", [7, {"mm_per_pixel": "wide"}, {"mm_per_pixel": -1.0}, {"min_area": 12}])
def test_a_calibration_whose_sizes_are_none_is_refused(own_bundle: Path, size: Any) -> None:
    calibrated(own_bundle, DefectSize(mm_per_pixel=0.25))
    overlay = overlay_path(own_bundle)
    overlay.write_text(json.dumps({**json.loads(overlay.read_text()), "size": size}))
    with pytest.raises(BundleError, match="is no calibration"):
        Detector.load(own_bundle)


def test_a_region_s_picture_says_its_area_where_sizes_are_asked(make_detector: Callable[..., Detector]) -> None:
    frame = frame_with((80, 60, 40, 24))
    plain = make_detector(Preprocess(height=120, width=200)).score(frame)
    sized = replace(plain, size=DefectSize(mm_per_pixel=0.5))
    pictures = [annotated(frame, result, {}) for result in (plain, sized)]
    rows, columns = np.nonzero((pictures[0] != pictures[1]).any(axis=2))
    assert len(rows) > 0
    assert rows.max() < 2 * 60  # above the box, of a picture enlarged twice
    assert columns.min() >= 2 * 80
