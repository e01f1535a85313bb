"""Picture quality: what blur and light do to the measures, and what limits make of training images."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.model.image_quality import GRID, Fault, QualityLimits, limits_of, measured, told

Frame = NDArray[np.uint8]


def scene(seed: int, *, rows: int = 160, columns: int = 220, colour: bool = True) -> Frame:
    """Texture about grey 110, other in every scene."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (rows, columns, 3) if colour else (rows, columns))
    smooth = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 0.8)
    return np.clip(110.0 + 60.0 * smooth, 0, 255).astype(np.uint8)


def motion(frame: Frame, length: int) -> Frame:
    """Moved along its rows."""
    return cv2.filter2D(frame, -1, np.full((1, length), 1.0 / length, np.float32))


def light(frame: Frame, factor: float) -> Frame:
    return np.clip(factor * frame.astype(np.float32), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def limits() -> QualityLimits:
    found = limits_of([measured(scene(seed)) for seed in range(40)])
    assert found is not None
    return found


def kinds(limits: QualityLimits, frame: Frame) -> set[str]:
    quality = measured(frame)
    assert quality is not None
    return {fault.what for fault in limits.faults(quality)}


def test_unseen_pictures_of_the_same_camera_have_no_fault(limits: QualityLimits) -> None:
    assert [kinds(limits, scene(seed)) for seed in range(100, 130)] == [set()] * 30


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_picture_out_of_focus_is_blurred_both_ways(limits: QualityLimits, sigma: float) -> None:
    blurred = cv2.GaussianBlur(scene(100), (0, 0), sigma)
    assert kinds(limits, blurred) == {"blurred along rows", "blurred along columns"}


@pytest.mark.parametrize("length", [5, 11, 21])
def test_motion_blurs_the_way_of_the_motion_alone(limits: QualityLimits, length: int) -> None:
    assert kinds(limits, motion(scene(100), length)) == {"blurred along rows"}
    upright = np.ascontiguousarray(motion(scene(100, rows=220, columns=160), length).transpose(1, 0, 2))
    assert kinds(limits, upright) == {"blurred along columns"}


@pytest.mark.parametrize(("factor", "kind"), [(0.25, "dark"), (0.5, "dark"), (2.0, "bright"), (4.0, "overexposed")])
def test_wrong_light_is_named(limits: QualityLimits, factor: float, kind: str) -> None:
    assert kind in kinds(limits, light(scene(100), factor))


def test_a_fault_says_how_much_and_what_the_limit_is(limits: QualityLimits) -> None:
    quality = measured(light(scene(100), 0.25))
    assert quality is not None
    (fault,) = limits.faults(quality)
    assert fault.limit is not None
    assert fault.value < fault.limit
    # 110 / 4 levels and 4 more, as a power of two; texture is clipped at neither end.
    assert fault.value == pytest.approx(np.log2(110 / 4 + 4), abs=0.05)
    assert fault.to_json() == {"what": "dark", "value": round(fault.value, 4), "limit": round(fault.limit, 4)}


def test_a_few_bad_training_images_do_not_pass_for_usual() -> None:
    images = [scene(seed) for seed in range(57)] + [light(scene(seed), 0.3) for seed in range(57, 60)]
    limits = limits_of([measured(image) for image in images])
    assert limits is not None
    assert [kinds(limits, image) for image in images].count({"dark"}) == 3


def test_two_kinds_of_light_in_training_are_both_usual() -> None:
    images = [light(scene(seed), 1.0 if seed % 5 else 0.5) for seed in range(60)]
    limits = limits_of([measured(image) for image in images])
    assert limits is not None
    assert kinds(limits, light(scene(100), 0.5)) == kinds(limits, scene(100)) == set()


def test_sharpness_is_not_judged_in_frames_of_another_size(limits: QualityLimits) -> None:
    enlarged = cv2.resize(scene(100), (660, 480), interpolation=cv2.INTER_LINEAR)
    assert kinds(limits, enlarged) == set()
    assert kinds(limits, light(enlarged, 0.25)) == {"dark"}


@pytest.mark.parametrize(("columns", "bad"), [(200, False), (242, False), (160, True), (300, True)])
def test_another_shape_is_told_and_how_far_it_may_go(limits: QualityLimits, columns: int, bad: bool) -> None:
    frame = cv2.resize(scene(100), (columns, 160), interpolation=cv2.INTER_AREA)
    assert ("squeezed" in kinds(limits, frame)) is bad
    assert "squeezed" not in kinds(replace(limits, aspects=None), frame)
    before = {key: value for key, value in limits.to_json().items() if key != "aspects"}
    assert QualityLimits.from_json(before) == replace(limits, aspects=None)


def test_a_region_of_another_shape_is_told_though_the_frame_is_as_ever(limits: QualityLimits) -> None:
    quality = measured(scene(100), (0, 0, 100, 160))
    assert quality is not None
    (fault,) = (fault for fault in limits.faults(quality) if fault.what == "squeezed")
    assert fault.to_json() == {"what": "squeezed", "value": 0.625, "limit": 1.25}


def test_only_the_region_of_interest_is_looked_at() -> None:
    frame = scene(100)
    beyond = frame.copy()
    beyond[:, 100:] = 0
    cut, seen = measured(frame, (0, 0, 100, 160)), measured(beyond, (0, 0, 100, 160))
    assert cut is not None
    assert seen is not None
    assert cut.values == seen.values


def test_grey_is_measured_as_colour_of_the_same_levels() -> None:
    grey = scene(7, colour=False)
    of_grey, of_colour = measured(grey), measured(np.repeat(grey[:, :, None], 3, axis=2))
    assert of_grey is not None
    assert of_colour is not None
    assert of_grey.values == pytest.approx(of_colour.values)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_flat_picture_gives_finite_measures(level: int) -> None:
    quality = measured(np.full((80, 90), level, np.uint8))
    assert quality is not None
    assert np.isfinite(quality.values).all()
    assert quality.values[3] == (level == 255)


def test_tiny_pictures_and_few_images_give_no_limits() -> None:
    assert measured(np.zeros((28, 28), np.uint8)) is None
    assert limits_of([measured(scene(seed)) for seed in range(19)]) is None
    assert limits_of([None] * 50) is None


def test_limits_survive_json(limits: QualityLimits) -> None:
    spots = np.zeros((GRID, GRID), dtype=bool)
    spots[3, 0] = spots[5, 31] = True
    with_spots = limits_of([measured(scene(seed)) for seed in range(20)], spots)
    assert with_spots is not None
    read = QualityLimits.from_json(with_spots.to_json())
    assert read == with_spots
    assert (read.spots() == spots).all()
    assert QualityLimits.from_json(None) is None


def test_limits_that_make_no_sense_are_refused(limits: QualityLimits) -> None:
    content = limits.to_json()
    with pytest.raises(ConfigError, match="low <= high"):
        QualityLimits.from_json({**content, "low": content["high"], "high": content["low"]})
    with pytest.raises(ConfigError, match="export the bundle again"):
        QualityLimits.from_json({key: value for key, value in content.items() if key != "low"})
    with pytest.raises(ConfigError, match="32 numbers of 32 bits"):
        QualityLimits.from_json({**content, "usual_spots": [0]})


def test_images_that_differ_are_counted_and_named() -> None:
    dark, blurred = Fault("dark", 1.0, 2.0), Fault("blurred along rows", 1.0, 2.0)
    names = [f"{index}.png" for index in range(6)]
    faults = [(dark,), (), (dark, blurred), (), (dark,), (dark,)]
    assert told(names, faults) == (
        "4 of 6 images differ in picture quality (4 dark, 1 blurred along rows): 0.png (dark); "
        "2.png (dark, blurred along rows); 4.png (dark); ..."
    )
    assert told(names, [()] * 6) is None
