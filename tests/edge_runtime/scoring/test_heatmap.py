"""Heatmaps: the frame shows through, and the same map value has the same colour in every image."""

from __future__ import annotations

import numpy as np

from edge_runtime.scoring.heatmap import overlay

BRIGHTEST_BGR = (164, 255, 252)
"""The last colour of the inferno map of matplotlib: RGB 252, 255, 164."""


def test_where_the_map_is_zero_the_frame_is_unchanged() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    heat = np.zeros((6, 8), dtype=np.float32)
    heat[2, 3] = 1.0
    shown = overlay(frame, heat, 1.0)
    changed = (shown != frame).any(axis=2)
    assert changed.sum() == 1
    assert changed[2, 3]


def test_a_grey_frame_becomes_bgr() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(3, 4)
    shown = overlay(frame, np.zeros((3, 4), dtype=np.float32), 1.0)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, np.repeat(frame[:, :, None], 3, axis=2))


def test_the_brightest_value_covers_the_frame_by_six_tenths() -> None:
    frame = np.full((1, 2, 3), 100, dtype=np.uint8)
    shown = overlay(frame, np.array([[0.5, 5.0]], dtype=np.float32), 0.5)
    expected = 0.4 * 100 + 0.6 * np.array(BRIGHTEST_BGR)
    np.testing.assert_allclose(shown[0, 0], expected, atol=1.0)
    np.testing.assert_array_equal(shown[0, 1], shown[0, 0])  # a higher value has no more to show


def test_a_quarter_of_the_brightest_square_is_half_of_its_root() -> None:
    black = np.zeros((1, 1, 3), dtype=np.uint8)
    quarter = overlay(black, np.array([[0.25]], dtype=np.float32), 1.0)
    # inferno at 127 of 255 is RGB 187, 55, 84; half the level, half of 0.6
    np.testing.assert_allclose(quarter[0, 0], 0.3 * np.array((84, 55, 187)), atol=1.5)


def test_a_map_without_errors_and_a_brightest_of_zero_show_the_frame() -> None:
    frame = np.full((2, 2, 3), 100, dtype=np.uint8)
    np.testing.assert_array_equal(overlay(frame, np.zeros((2, 2), dtype=np.float32), 0.0), frame)


def test_the_frame_passed_in_is_not_changed() -> None:
    frame = np.full((2, 2, 3), 100, dtype=np.uint8)
    overlay(frame, np.ones((2, 2), dtype=np.float32), 1.0)
    assert (frame == 100).all()
