"""Region of interest and mask of a camera's frames."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends.onnxruntime_cpu import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import Masking, View, read_seen_mask
from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path
from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.self_reference import BARS, self_referenced
from edge_runtime.scoring.detector import Detector

RNG = np.random.default_rng(5)
SHAPE = 60, 80


def half_mask(shape: tuple[int, int] = SHAPE) -> NDArray[np.bool_]:
    """The right half is left out, and a spot on the left."""
    mask = np.ones(shape, dtype=np.bool_)
    mask[:, shape[1] // 2 :] = False
    mask[5:9, 3:8] = False
    return mask


def noise(shape: tuple[int, ...] = SHAPE) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


PREPROCESSES = {
    "stretch": Preprocess(height=16, width=16),
    "stretch colour": Preprocess(height=16, width=24, channels=3),
    "enlarged": Preprocess(height=90, width=100),
    "letterbox": Preprocess(height=32, width=32, fit="letterbox"),
    "tile": Preprocess(height=32, width=32, fit="tile", overlap=4),
    "scaled tile": Preprocess(height=16, width=16, fit="tile", overlap=4, scale=0.37),
    "larger tile": Preprocess(height=96, width=96, fit="tile"),
    "self-referenced": Preprocess(height=32, width=32, fit="tile", overlap=4, self_reference="row_column"),
    "self-referenced bars": Preprocess(height=32, width=32, fit="letterbox", self_reference="row_column"),
    "region": Preprocess(height=16, width=16, roi=(10, 4, 50, 40)),
}


@pytest.mark.parametrize("preprocess", PREPROCESSES.values(), ids=PREPROCESSES)
def test_what_is_masked_cannot_reach_the_network(preprocess: Preprocess) -> None:
    mask = half_mask()
    masking = Masking(preprocess, mask, np.full(preprocess.input_shape, 90, np.uint8))
    frame = noise((*SHAPE, 3))
    other = np.where(mask[:, :, None], frame, noise((*SHAPE, 3)))
    tiles, tiling = masking.tiles(frame)
    np.testing.assert_array_equal(tiles, masking.tiles(other)[0])
    moved = np.where(mask[:, :, None], noise((*SHAPE, 3)), frame)
    assert (masking.tiles(moved)[0] != tiles).any()
    assert tiling == preprocess.tiling(SHAPE)
    assert tiles.dtype == np.uint8
    assert tiles.shape == (len(masking.scored), *preprocess.input_shape)


@pytest.mark.parametrize("name", ["stretch", "letterbox", "tile"])
def test_what_is_seen_is_as_without_a_mask_and_the_rest_as_usual(name: str) -> None:
    preprocess, mask = PREPROCESSES[name], np.ones(SHAPE, dtype=np.bool_)
    mask[:, 40:] = False
    usual = noise(preprocess.input_shape)
    masking, frame = Masking(preprocess, mask, usual), noise()
    tiles, tiling = masking.tiles(frame)
    whole = preprocess.tiles(frame)[0][masking.scored]
    from_frame, from_usual = tiles == whole, tiles == usual
    assert (from_frame | from_usual).all()
    left, right = slice(0, 7), slice(9, 16)
    if name == "stretch":
        assert from_frame[0, :, left].all()
        assert from_usual[0, :, right].all()
    if name == "letterbox":
        assert from_frame[0, :4].all()  # the bars
        assert from_frame[0, :, :15].all()
    if name == "tile":
        assert len(masking.scored) == len(tiling) - 2  # the last of three columns shows nothing


def test_padding_stands_for_masked_pixels_where_the_network_knows_padding() -> None:
    preprocess = PREPROCESSES["self-referenced"]
    mask, frame = half_mask(), noise()
    tiles, tiling = Masking(preprocess, mask, np.zeros(preprocess.input_shape, np.uint8)).tiles(frame)
    assert (tiles[0, 5:9, 3:8] == BARS).all()
    valid = tiles[0, :, :, 3] == 255
    np.testing.assert_array_equal(valid, mask[:32, :32])
    # A column's masked pixels move its median by a rank at most: the others keep their levels, near enough.
    bare = self_referenced(np.ascontiguousarray(frame[:, :40]))[:32, :32]
    np.testing.assert_array_equal(tiles[0, :, :, 0][valid], bare[:, :, 0][valid])
    assert np.abs(tiles[0, :, :, 2][valid].astype(int) - bare[:, :, 2][valid]).mean() < 5
    assert len(tiling) > 1


def test_a_frame_of_another_size_than_the_mask_is_refused() -> None:
    masking = Masking(PREPROCESSES["stretch"], half_mask(), np.zeros((16, 16, 1), np.uint8))
    with pytest.raises(FrameError, match="frame has 30 rows and 40 columns, the mask 60 and 80"):
        masking.tiles(noise((30, 40)))


def test_masks_that_fit_nothing_are_refused() -> None:
    usual = np.zeros((16, 16, 1), np.uint8)
    right = Preprocess(height=16, width=16, roi=(45, 0, 30, 60))
    with pytest.raises(ConfigError, match="leaves nothing of the region"):
        Masking(right, half_mask(), usual)
    with pytest.raises(ConfigError, match="does not fit"):
        Masking(Preprocess(height=16, width=16, roi=(0, 0, 100, 100)), half_mask(), usual)


def test_masks_from_images(tmp_path: Path) -> None:
    write_image(tmp_path / "mask.png", np.where(half_mask(), 255, 0).astype(np.uint8))
    np.testing.assert_array_equal(read_seen_mask(tmp_path / "mask.png"), half_mask())
    write_image(tmp_path / "colour.png", np.dstack([np.where(half_mask(), 200, 20).astype(np.uint8)] * 3))
    np.testing.assert_array_equal(read_seen_mask(tmp_path / "colour.png"), half_mask())
    for level, problem in ((0, "leaves nothing of the frame"), (255, "leaves nothing out")):
        write_image(tmp_path / "plain.png", np.full(SHAPE, level, np.uint8))
        with pytest.raises(ConfigError, match=problem):
            read_seen_mask(tmp_path / "plain.png")
    with pytest.raises(DataError, match="cannot read"):
        read_seen_mask(tmp_path / "missing.png")


def test_a_photograph_in_the_place_of_a_mask_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bands = np.where(half_mask(), 255, 0).astype(np.uint8)
    bands[:, SHAPE[1] // 2] = np.arange(SHAPE[0], dtype=np.uint8) * 4  # a smoothed edge
    for name, image in (("edge", bands), ("two", np.where(half_mask(), 150, 100).astype(np.uint8))):
        write_image(tmp_path / f"{name}.png", image)
        read_seen_mask(tmp_path / f"{name}.png")
    assert caplog.text == ""
    write_image(tmp_path / "photo.png", noise((*SHAPE, 3)) // 2 + 30)
    read_seen_mask(tmp_path / "photo.png")
    assert "photo.png has many grey levels, expected black and white alone; is it the mask?" in caplog.text


@pytest.mark.parametrize("view", [View(), View(roi=(1, 2, 3, 4)), View(mask=half_mask((7, 9)), roi=(0, 0, 5, 5))])
def test_a_view_survives_json(view: View) -> None:
    again = View.from_json(json.loads(json.dumps(view.to_json())))
    assert again == view
    assert str(again) == str(view)
    assert again != View(mask=half_mask((7, 10)))
    assert again != View(roi=(1, 2, 3, 5))


@pytest.fixture
def own_bundle(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    path = tmp_path / "model.aae"
    make_bundle(Preprocess(height=8, width=8)).write(path)
    return path


def test_a_masked_defect_has_no_score_and_no_heat(bundle: Bundle) -> None:
    mask = np.ones((64, 64), dtype=np.bool_)
    mask[16:24, 16:24] = False
    backend = OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1)
    plain, masked = Detector(bundle, backend), Detector(bundle, backend, view=View(mask=mask))
    clean = np.full((64, 64), 100, np.uint8)
    defect = clean.copy()
    defect[16:24, 16:24] = 255
    assert plain.score(defect).score > plain.score(clean).score
    assert masked.score(defect).score == masked.score(clean).score
    result = masked.score(defect)
    heat = result.heatmap(defect.shape)
    assert (heat[16:24, 16:24] == 0).all()
    assert heat.max() > 0
    outside = clean.copy()
    outside[40:48, 40:48] = 255
    assert masked.score(outside).score > masked.score(clean).score


def test_tiles_of_which_nothing_is_seen_cost_nothing(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle(Preprocess(height=8, width=8, fit="tile"))
    mask = np.zeros((24, 24), dtype=np.bool_)
    mask[:8, 8:] = True
    calls: list[int] = []

    class Counting(OnnxRuntimeCpu):
        def run(self, frame: NDArray[np.uint8]) -> Any:
            calls.append(len(frame))
            return super().run(frame)

    detector = Detector(bundle, Counting(bundle.files["detector.onnx"], threads=1), view=View(mask=mask))
    result = detector.score(noise((24, 24)))
    assert len(calls) == 2
    assert (len(result.anomaly_maps), len(result.latents), len(result.tiling)) == (9, 9, 9)
    assert result.anomaly_maps[[1, 2]].any()
    assert not np.delete(result.anomaly_maps, [1, 2], axis=0).any()
    assert result.heatmap((24, 24)).shape == (24, 24)


def calibrated(bundle: Path, view: View, threshold: float = 3.0) -> None:
    detector = Detector.load(bundle)
    facts = {"model": detector.bundle.digest, "source": "camera:0", "precision": "fp32", "backend": "onnxruntime-cpu"}
    SiteCalibration.of([threshold] * 100, 0.05, **facts, view=view).save(bundle)


def test_a_calibration_brings_its_view(own_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    view = View(roi=(4, 4, 40, 40), mask=half_mask())
    calibrated(own_bundle, view)
    detector = Detector.load(own_bundle)
    assert detector.view == view
    assert detector.decision.threshold == 3.0
    assert detector.preprocess.roi == (4, 4, 40, 40)
    assert "calibrate again" not in caplog.text
    other = Detector.load(own_bundle, view=View(roi=(0, 0, 8, 8)))
    assert other.decision.threshold == 1.0
    assert "made with region 4,4,40,40 and a mask of 80x60" in caplog.text
    assert "this is with region 0,0,8,8" in caplog.text


def test_a_calibration_made_or_undone_is_taken_up_whole_or_not_at_all(own_bundle: Path) -> None:
    detector = Detector.load(own_bundle)
    calibrated(own_bundle, View(roi=(4, 4, 40, 40)))
    on_site = detector.recalibrated()
    assert (on_site.decision.threshold, on_site.preprocess.roi) == (3.0, (4, 4, 40, 40))
    assert (detector.decision.threshold, detector.preprocess.roi) == (1.0, None)
    calibrated(own_bundle, View(roi=(0, 0, 400, 400), mask=half_mask()), 5.0)
    with pytest.raises(ConfigError, match="does not fit"):
        on_site.recalibrated()
    assert (on_site.decision.threshold, on_site.preprocess.roi) == (3.0, (4, 4, 40, 40))
    assert on_site.usual is not None
    assert set(on_site.usual.quantiles) == {3.0}
    shutil.move(overlay_path(own_bundle), own_bundle.with_name("aside"))
    undone = on_site.recalibrated()
    assert (undone.decision.threshold, undone.preprocess.roi) == (1.0, None)
    assert undone.backend is detector.backend


def test_a_heatmap_lies_where_its_frame_was_scored_whatever_is_calibrated_since(own_bundle: Path) -> None:
    calibrated(own_bundle, View(roi=(4, 4, 40, 40)))
    detector, frame = Detector.load(own_bundle), noise()
    result = detector.score(frame)
    before = result.heatmap(frame.shape)
    calibrated(own_bundle, View(roi=(40, 20, 40, 40), mask=half_mask()[:, ::-1]))
    later = detector.recalibrated().score(frame).heatmap(frame.shape)
    np.testing.assert_array_equal(result.heatmap(frame.shape), before)
    assert before[4:44, 4:40].any()
    assert not before[:, 44:].any()
    assert later[20:, 44:].any()
    assert not later[:, :40].any()


def test_another_threshold_makes_another_detector_and_what_load_was_given_comes_back(own_bundle: Path) -> None:
    detector = Detector.load(own_bundle, threshold=7.0)
    moved = detector.with_threshold(2.5)
    assert (detector.decision.threshold, moved.decision.threshold) == (7.0, 2.5)
    assert (moved.backend is detector.backend, moved.bundle is detector.bundle) == (True, True)
    frame = noise()
    assert detector.score(frame).threshold == 7.0
    assert moved.score(frame).threshold == 2.5
    assert moved.score(frame).score == detector.score(frame).score
    assert moved.recalibrated().decision.threshold == 7.0
    with pytest.raises(ConfigError, match="threshold is nan"):
        moved.with_threshold(float("nan"))


def test_a_network_input_scored_alone_has_its_heatmap_over_itself(own_bundle: Path) -> None:
    detector = Detector.load(own_bundle, view=View(roi=(4, 4, 40, 40)))
    result = detector.score_input(noise((8, 8, 1)))
    np.testing.assert_array_equal(result.heatmap((8, 8)), result.anomaly_map)
