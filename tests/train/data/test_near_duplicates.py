from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from train.data.loading import load_training_set
from train.data.near_duplicates import cell_means, earlier_duplicates, largest_difference
from train.data.settings import DataSettings

NOISE = 4.0
"""Grey levels a pixel, standard deviation."""


def scene(seed: int, side: int = 64) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.uniform(40, 200, (8, 8)), (side, side), interpolation=cv2.INTER_LINEAR)


def photograph(image: NDArray[np.float64], seed: int, *, brighter: float = 0.0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(0.0, NOISE, image.shape)
    return (image + noise + brighter).round().clip(0, 255).astype(np.uint8)[:, :, None]


def spotted(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """The same with a dark spot of 6x6 pixels."""
    marked = image.copy()
    marked[20:26, 30:36] -= 40
    return marked


def duplicates(images: list[NDArray[np.uint8]]) -> list[int]:
    return earlier_duplicates(cell_means(np.stack(images))).tolist()


def test_cell_means_are_of_whole_pixels_less_the_image_s_mean() -> None:
    image = np.zeros((1, 6, 8, 1), dtype=np.uint8)
    image[0, :4, :4] = 48
    image[0, 4:, 4:] = 12
    # Cells of 4x4 above and 2x4 below; the image's mean is (16 * 48 + 8 * 12) / 48 = 18.
    np.testing.assert_allclose(cell_means(image), [[[30.0, -18.0], [-18.0, -6.0]]])
    assert cell_means(np.zeros((2, 256, 128, 3), np.uint8)).shape == (2, 32, 16)


def test_the_largest_difference_is_of_one_cell() -> None:
    one, other = np.zeros((1, 2, 2), np.float32), np.array([[[0, 1], [-5, 2]]], np.float32)
    assert largest_difference(one, other).tolist() == [5.0]


def test_the_same_view_with_other_noise_and_light_is_a_duplicate() -> None:
    view = scene(0)
    assert duplicates([photograph(view, 1), photograph(view, 2), photograph(view, 3, brighter=15)]) == [-1, 0, 0]


def test_another_view_is_none() -> None:
    assert duplicates([photograph(scene(seed), seed) for seed in range(20)]) == [-1] * 20


def test_a_view_with_a_small_defect_is_none() -> None:
    view = scene(0)
    assert duplicates([photograph(view, 1), photograph(spotted(view), 2)]) == [-1, -1]


def test_a_chain_of_small_changes_does_not_swallow_a_large_one() -> None:
    steps = []
    for level in range(0, 13, 4):
        image = np.full((64, 64, 1), 100, np.uint8)
        image[:8, :8] += np.uint8(level)
        steps.append(image)
    # 4 is within 6 grey levels of 0; 8 is not, and 12 is within 6 of 8.
    assert duplicates(steps) == [-1, 0, -1, 2]


def test_duplicates_are_left_out_of_a_folder_when_asked(tmp_path: Path) -> None:
    for seed in range(12):
        cv2.imwrite(str(tmp_path / f"{seed}.png"), photograph(scene(seed % 10), seed))
    settings = DataSettings(path=str(tmp_path), imgsz=(64, 64), drop_duplicates=True)
    data = load_training_set(settings, "conv")
    assert data.duplicates == [("10.png", "0.png"), ("11.png", "1.png")]
    assert data.names == [f"{seed}.png" for seed in range(10)]
    np.testing.assert_array_equal(data.images[3], photograph(scene(3), 3))
    assert len(data.guidance) == 10
    assert len(load_training_set(DataSettings(path=str(tmp_path), imgsz=(64, 64)), "conv").names) == 12


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_labels_go_with_the_images_that_are_left(tmp_path: Path, cache: str) -> None:
    images = np.stack([photograph(scene(seed // 2), seed)[:, :, 0] for seed in range(20)])
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(20))
    data = load_training_set(
        DataSettings(path=str(tmp_path / "set.npz"), drop_duplicates=True, cache=cache),  # type: ignore[arg-type]
        "conv",
    )
    assert data.labels is not None
    assert data.labels.tolist() == list(range(0, 20, 2))
    assert data.names == [str(index) for index in range(0, 20, 2)]
    np.testing.assert_array_equal(data.images[:, :, :, 0], images[::2])
