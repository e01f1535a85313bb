"""Turned photographs: the same turn each time, the part whole, and the mask where the defect went."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.industrial.turned import outline, turned, turned_copy
from edge_runtime.errors import DataError
from edge_runtime.model.images import list_images
from edge_runtime.model.preprocess import Frame


def _part(side: int = 96) -> Frame:
    """A bright ellipse with a dark defect, on grey with grain."""
    image = np.random.default_rng(0).integers(95, 105, (side, side, 3), dtype=np.uint8)
    cv2.ellipse(image, (48, 48), (26, 12), 0.0, 0.0, 360.0, (220, 220, 220), -1)
    image[44:52, 56:64] = 150
    return image


def test_the_outline_is_the_part_without_holes() -> None:
    found = outline(_part())
    assert found[48, 48] == found[48, 60] == 1
    assert found[5, 5] == found[48, 5] == 0
    assert found.sum() == pytest.approx(np.pi * 26 * 12, rel=0.25)


def test_a_generator_gives_one_turn_and_others_other_ones() -> None:
    first, again, other = (turned(_part(), np.random.default_rng(seed))[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_mask_goes_where_the_defect_goes() -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[44:52, 56:64] = 255
    for seed in range(6):
        frame, moved = turned(_part(), np.random.default_rng(seed), mask)
        assert moved is not None
        assert moved.shape == frame.shape[:2]
        inside = cv2.erode(moved, np.ones((3, 3), np.uint8)) > 0
        assert inside.sum() > 10
        assert frame[inside].mean() == pytest.approx(150, abs=8)


def test_the_part_stays_inside_and_leaves_no_trace_behind() -> None:
    for seed in range(6):
        frame, _ = turned(_part(), np.random.default_rng(seed))
        bright = (frame[:, :, 0] > 180).sum()
        assert bright == pytest.approx((_part()[:, :, 0] > 180).sum(), rel=0.2)
        rim = np.concatenate([frame[:2].ravel(), frame[-2:].ravel(), frame[:, :2].ravel(), frame[:, -2:].ravel()])
        assert rim.max() < 130


def test_a_grey_photograph_is_turned_like_its_colour_copy() -> None:
    grey = _part()[:, :, 0]
    frame, _ = turned(grey, np.random.default_rng(1))
    np.testing.assert_array_equal(frame, turned(np.repeat(grey[:, :, None], 3, axis=2), np.random.default_rng(1))[0])


def test_a_photograph_without_a_part_is_refused_by_name(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((32, 32), 90, np.uint8))
    with pytest.raises(DataError, match=r"blank\.png: no part stands out"):
        turned_copy([("train/good/blank.png", tmp_path / "blank.png")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_copy_follows_from_the_place_alone(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), _part())
    places = [("train/good/a.jpg", tmp_path / "a.jpg"), ("test/good/a.jpg", tmp_path / "a.jpg")]
    for name in ("one", "two"):
        turned_copy(places if name == "one" else places[::-1], tmp_path / name)
    one, two = ([file.read_bytes() for file in list_images(tmp_path / name)] for name in ("one", "two"))
    assert one == two
    assert one[0] != one[1]
    assert [file.name for file in list_images(tmp_path / "one")] == ["a.png", "a.png"]
