"""Lens spots: seen over changing scenes, never over a still one, nor where training had them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.image_quality import GRID, measured
from edge_runtime.watching.lens_spot import BLOCK, LensSpotWatch, Spot, UsualSpots

Frame = NDArray[np.uint8]
CENTRE, RADIUS = (70, 200), 22
"""Row, column, and pixels, of the spot in frames of 240x320"""


def scene(seed: int) -> Frame:
    """Texture of coarse and fine grain, other in every frame."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(60, 200, (12, 16)).astype(np.float32), (320, 240), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 60, (240, 320)).astype(np.float32), (0, 0), 1.0)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def cover() -> NDArray[np.float32]:
    y, x = np.ogrid[:240, :320]
    return np.clip(1.3 - np.hypot(y - CENTRE[0], x - CENTRE[1]) / RADIUS, 0, 1).astype(np.float32)


def darkened(frame: Frame) -> Frame:
    return (frame * (1.0 - 0.6 * cover())).astype(np.uint8)


def smeared(frame: Frame) -> Frame:
    blurred = cv2.GaussianBlur(frame, (0, 0), 8.0)
    return (frame + cover() * (blurred.astype(np.float32) - frame)).astype(np.uint8)


def clean(frame: Frame) -> Frame:
    return frame


def seen(frames: Iterable[Frame], usual: NDArray[np.bool_] | None = None) -> list[Spot | None]:
    watch = LensSpotWatch(np.zeros((GRID, GRID), dtype=bool) if usual is None else usual)
    found = []
    for frame in frames:
        quality = measured(frame)
        assert quality is not None
        found.append(watch.add(quality))
    return found


@pytest.mark.parametrize("dirt", [darkened, smeared])
def test_a_spot_on_the_lens_is_seen_where_it_is(dirt: Callable[[Frame], Frame]) -> None:
    found = seen(dirt(scene(seed)) for seed in range(3 * BLOCK))
    assert found[:BLOCK] == [None] * BLOCK  # one block may be chance
    spot = found[-1]
    assert spot is not None
    x, y, width, height = spot.box
    assert x < CENTRE[1] / 320 < x + width
    assert y < CENTRE[0] / 240 < y + height
    assert width < 0.25
    assert height < 0.3


def test_without_dirt_nothing_is_seen() -> None:
    assert seen(scene(seed) for seed in range(10 * BLOCK)) == [None] * (10 * BLOCK)


@pytest.mark.parametrize("dirt", [clean, darkened, smeared])
def test_a_still_scene_says_nothing_of_the_lens(dirt: Callable[[Frame], Frame]) -> None:
    rng = np.random.default_rng(0)
    still = dirt(scene(1)).astype(np.float32)
    frames = (np.clip(still + rng.normal(0, 3, still.shape), 0, 255).astype(np.uint8) for _ in range(5 * BLOCK))
    assert seen(frames) == [None] * (5 * BLOCK)


def test_a_still_scene_in_flickering_light_says_nothing_of_the_lens() -> None:
    still = scene(1).astype(np.float32)
    frames = (np.clip(still * factor, 0, 255).astype(np.uint8) for factor in [1.0, 0.8] * (3 * BLOCK))
    assert seen(frames) == [None] * (6 * BLOCK)


def test_what_training_images_show_in_that_place_is_no_spot() -> None:
    usual = UsualSpots()
    for seed in range(100, 100 + 3 * BLOCK):
        quality = measured(darkened(scene(seed)))
        assert quality is not None
        usual.add(quality)
    assert usual.mask().any()
    assert seen((darkened(scene(seed)) for seed in range(4 * BLOCK)), usual.mask()) == [None] * (4 * BLOCK)


def test_a_lens_that_was_wiped_is_clean_again() -> None:
    frames = [darkened(scene(seed)) for seed in range(3 * BLOCK)] + [
        scene(seed) for seed in range(100, 100 + 2 * BLOCK)
    ]
    found = seen(frames)
    assert found[3 * BLOCK] is not None
    assert found[-1] is None
