from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.industrial.twins import LEAST_CORRELATION, TwinFinder


def surface(seed: int) -> NDArray[np.float64]:
    """A rough surface of 240x200 pixels with detail at several scales."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 1, (240 // n, 200 // n)), (200, 240)) * n**0.5 for n in (2, 4, 10)]
    return np.sum(layers, axis=0)


def photograph(
    image: NDArray[np.float64], *, gain: float = 15, level: float = 110, crop: tuple[int, int] = (10, 10)
) -> NDArray[np.uint8]:
    top, left = crop
    height, width = image.shape
    light = np.linspace(-20, 20, width)
    lit = gain * image + level + light
    return lit[top : height - 20 + top, left : width - 20 + left].clip(0, 255).astype(np.uint8)


def test_the_same_surface_at_another_exposure_and_crop_is_a_twin() -> None:
    known = [photograph(surface(seed)) for seed in range(8)]
    again = [photograph(surface(seed), gain=6, level=60, crop=(3, 16)) for seed in (5, 2)]
    twins = list(TwinFinder(known).pairs(again))
    assert [(twin.index, twin.of) for twin in twins] == [(0, 5), (1, 2)]
    assert all(twin.correlation > LEAST_CORRELATION for twin in twins)


def test_every_photograph_of_one_surface_is_found_the_best_first() -> None:
    known = [photograph(surface(seed)) for seed in range(6)]
    known += [photograph(surface(3), gain=gain) for gain in (5, 8)]
    twins = list(TwinFinder(known).pairs([photograph(surface(3), crop=(8, 12))]))
    assert {twin.of for twin in twins} == {3, 6, 7}
    assert [twin.correlation for twin in twins] == sorted((twin.correlation for twin in twins), reverse=True)


def test_other_surfaces_are_no_twins_and_the_best_match_is_named() -> None:
    known = [photograph(surface(seed)) for seed in range(6)]
    twins = list(TwinFinder(known).pairs([photograph(surface(seed)) for seed in (20, 21)]))
    assert [twin.index for twin in twins] == [0, 1]
    assert all(twin.correlation < 0.5 for twin in twins)


def test_colour_images_and_other_sizes_are_compared_too() -> None:
    known = [photograph(surface(seed)) for seed in range(6)]
    colour = np.dstack([photograph(surface(4))[20:180, 10:170]] * 3)
    assert next(iter(TwinFinder(known).pairs([colour]))).of == 4
