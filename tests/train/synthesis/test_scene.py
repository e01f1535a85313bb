"""What a photograph shows: its part on an even background, its two values."""

from __future__ import annotations

import cv2
import numpy as np

from train.synthesis.scene import evident_foreground, nearest_value, two_values


def test_a_part_on_an_even_background_is_found() -> None:
    disc = np.zeros((300, 400), dtype=np.uint8)
    cv2.circle(disc, (150, 200), 60, 1, -1)
    noise = np.random.default_rng(0).normal(0.0, 3.0, (300, 400, 3))
    frame = (disc[..., None] * [30, 10, 0] + 100 + noise).astype(np.uint8)
    part = evident_foreground(frame)
    assert part is not None
    assert part.shape == (300, 400)
    assert (part & (disc > 0)).sum() / (part | (disc > 0)).sum() > 0.9


def test_a_texture_and_a_flat_frame_have_no_part() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (60, 60, 1), dtype=np.uint8)
    assert evident_foreground(texture) is None
    assert evident_foreground(np.full((60, 60, 3), 7, dtype=np.uint8)) is None
    assert evident_foreground(np.full((1, 1, 1), 7, dtype=np.uint8)) is None


def test_two_values_are_found_though_scaling_has_softened_the_edges() -> None:
    scan = np.zeros((200, 200), dtype=np.uint8)
    cv2.rectangle(scan, (33, 41), (151, 90), 255, -1)
    for frame in (scan, cv2.resize(scan, (128, 128), interpolation=cv2.INTER_AREA)):
        np.testing.assert_array_equal(two_values(frame[..., None]), [[0], [255]])


def test_a_photograph_and_a_flat_surface_are_not_two_valued() -> None:
    rng = np.random.default_rng(0)
    assert two_values(rng.integers(0, 256, (50, 50, 3), dtype=np.uint8)) is None
    assert two_values((100 + rng.normal(0, 2, (50, 50, 1))).astype(np.uint8)) is None
    assert two_values(np.zeros((50, 50, 1), dtype=np.uint8)) is None


def test_pixels_take_the_closer_value() -> None:
    values = np.array([[10], [200]], dtype=np.uint8)
    content = np.array([[[0.0], [104.0], [106.0], [255.0]]], dtype=np.float32)
    np.testing.assert_array_equal(nearest_value(content, values)[0, :, 0], [10, 10, 200, 200])
