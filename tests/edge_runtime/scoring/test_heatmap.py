"""Heatmaps: the frame shows through, what is usual has no colour, and a map value has one colour in every image."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.scoring.heatmap import HeatScale, overlay, scale_of

BRIGHTEST_BGR = (164, 255, 252)
"""The last colour of the inferno map of matplotlib: RGB 252, 255, 164."""
SCALE = HeatScale(usual=2.0, peak=3.0)


def heat(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def test_what_is_usual_has_no_colour() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (1, 4, 3), dtype=np.uint8)
    shown = overlay(frame, heat(0.0, 1.9, 2.0, 2.4), SCALE)
    np.testing.assert_array_equal((shown != frame).any(axis=2)[0], [False, False, False, True])


def test_a_grey_frame_becomes_bgr() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4)
    shown = overlay(frame, np.zeros((3, 4), dtype=np.float32), HeatScale())
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, np.repeat(frame[:, :, None], 3, axis=2))


def test_twice_the_way_to_the_peak_covers_the_frame_by_six_tenths() -> None:
    frame = np.full((1, 2, 3), 100, dtype=np.uint8)
    shown = overlay(frame, heat(4.0, 40.0), SCALE)
    np.testing.assert_allclose(shown[0, 0], 0.4 * 100 + 0.6 * np.array(BRIGHTEST_BGR), atol=1.0)
    np.testing.assert_array_equal(shown[0, 1], shown[0, 0])  # a higher value has no more to show


def test_the_peak_has_half_the_shade_and_half_of_that_half_the_weight() -> None:
    np.testing.assert_allclose(SCALE.shade(heat(2.5, 3.0, 3.5)), [[0.25, 0.5, 0.75]])
    black = np.zeros((1, 1, 3), dtype=np.uint8)
    # inferno at 111 of 255 is RGB 165, 45, 96; half of 0.6
    np.testing.assert_allclose(overlay(black, heat(2.5), SCALE)[0, 0], 0.3 * np.array((96, 45, 165)), atol=2.0)


def test_half_the_colour_is_where_it_is_said_and_regions_go_by_the_peak() -> None:
    scale = HeatScale(usual=2.0, peak=9.0, bright=3.0)
    np.testing.assert_allclose(scale.shade(heat(2.5, 3.0, 4.0)), [[0.25, 0.5, 1.0]])


def test_a_single_pixel_of_a_large_frame_is_as_broad_as_a_brush() -> None:
    values = np.zeros((300, 500), dtype=np.float32)
    values[100, 200] = 9.0
    frame = np.full((300, 500), 90, np.uint8)
    rows, columns = np.nonzero((overlay(frame, values, SCALE) != 90).any(axis=2))
    assert np.ptp(rows) + 1 == np.ptp(columns) + 1 == round(0.012 * 500)
    assert abs(rows.mean() - 100.0) <= 1.0
    assert abs(columns.mean() - 200.0) <= 1.0


def test_where_normal_images_are_all_alike_a_little_more_is_not_the_full_colour() -> None:
    assert HeatScale(1.0, 1.0).shade(heat(1.01))[0, 0] < 0.2
    assert np.isfinite(HeatScale(0.0, 0.0).shade(heat(0.0, 1.0))).all()


@pytest.mark.parametrize(
    ("calibration", "scale"),
    [
        ({}, HeatScale(0.0, 1.0)),
        ({"anomaly_map_peak": {"0.99": 0.5}}, HeatScale(0.0, 0.5)),
        ({"anomaly_map_peak": {"0.5": 0.25, "0.99": 0.5}}, HeatScale(0.25, 0.5)),
        ({"anomaly_map_peak": {"0.5": 0.25, "0.95": 0.4, "0.99": 0.5}}, HeatScale(0.25, 0.5, 0.4)),
    ],
    ids=str,
)
def test_the_scale_comes_from_the_training_images_peaks(calibration: dict[str, object], scale: HeatScale) -> None:
    assert scale_of(calibration) == scale


def test_the_frame_passed_in_is_not_changed() -> None:
    frame = np.full((2, 2, 3), 100, dtype=np.uint8)
    overlay(frame, np.ones((2, 2), dtype=np.float32), HeatScale())
    assert (frame == 100).all()
