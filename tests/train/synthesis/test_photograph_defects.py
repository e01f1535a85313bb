"""Defects on whole photographs: marked exactly, visible, even in kind, and the same for the same seed."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from train.synthesis import photograph_kinds
from train.synthesis.photograph_defects import defective_copies, with_defect
from train.synthesis.photograph_kinds import PHOTOGRAPH_KINDS
from train.synthesis.shapes import smooth_noise

Frame = NDArray[np.uint8]


def _photograph(seed: int, channels: int = 3, shape: tuple[int, int] = (96, 120)) -> Frame:
    """A bright textured disc on a dark ground."""
    rng = np.random.default_rng(seed)
    frame = np.full((*shape, channels), 20.0)
    frame += rng.normal(0.0, 2.0, frame.shape)
    disc = np.zeros(shape, dtype=np.uint8)
    cv2.circle(disc, (shape[1] // 2, shape[0] // 2), min(shape) // 3, 1, -1)
    for channel in range(channels):
        frame[..., channel] += disc * (110.0 + 30.0 * channel + 15.0 * smooth_noise(shape, 8.0, rng))
    return np.clip(frame, 0, 255).astype(np.uint8)


def _scan(seed: int, dark: int = 0, bright: int = 255) -> Frame:
    """Bars and dots of two values, (100, 100, 1)."""
    rng = np.random.default_rng(seed)
    scan = np.zeros((100, 100), dtype=np.uint8)
    for _ in range(6):
        x, y = (int(place) for place in rng.integers(0, 90, 2))
        cv2.rectangle(scan, (x, y), (x + int(rng.integers(3, 50)), y + int(rng.integers(3, 12))), 1, -1)
    return np.where(scan[..., None] > 0, bright, dark).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_changes_outside_the_mask_and_what_is_inside_is_visible(channels: int) -> None:
    frames = [_photograph(seed, channels) for seed in range(4)]
    for seed in range(30):
        frame, mask = with_defect(frames[0], frames[1:], np.random.default_rng(seed))
        change = np.abs(frame.astype(int) - frames[0])
        assert frame.dtype == np.uint8
        assert frame.shape == frames[0].shape
        assert mask.shape == frame.shape[:2]
        assert not change[~mask].any()
        assert change[mask].mean() >= 8.0
        assert 0.001 * mask.size <= mask.sum() + 1 <= 0.03 * mask.size + 2


def test_one_seed_gives_one_defect_and_the_photographs_stay_as_they_are() -> None:
    frames = [_photograph(seed) for seed in range(3)]
    kept = [frame.copy() for frame in frames]
    (first, mask), (second, same) = (with_defect(frames[0], frames[1:], np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(mask, same)
    np.testing.assert_array_equal(frames, kept)


def test_copies_take_even_turns_of_kinds_and_photographs() -> None:
    frames = [_photograph(seed) for seed in range(5)]
    copies = defective_copies(frames, 35, 2)
    assert copies.frames.shape == (35, 96, 120, 3)
    assert copies.masks.shape == (35, 96, 120)
    assert set(Counter(copies.sources.tolist()).values()) == {7}
    assert Counter(copies.kinds) == dict.fromkeys(PHOTOGRAPH_KINDS, 5)
    for frame, mask, source in zip(copies.frames, copies.masks, copies.sources, strict=True):
        differs = (frame != frames[source]).any(axis=2)
        assert differs.any()
        assert not differs[~mask].any()


def test_the_first_copies_do_not_depend_on_how_many_follow_and_seeds_differ() -> None:
    frames = [_photograph(seed, 1) for seed in range(3)]
    few, many, other = defective_copies(frames, 4, 0), defective_copies(frames, 9, 0), defective_copies(frames, 4, 1)
    np.testing.assert_array_equal(few.frames, many.frames[:4])
    np.testing.assert_array_equal(few.masks, many.masks[:4])
    assert few.kinds == many.kinds[:4]
    assert (few.frames != other.frames).any()


@pytest.mark.parametrize("kind", PHOTOGRAPH_KINDS)
def test_a_two_valued_scan_keeps_its_two_values(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "train.synthesis.photograph_defects.PHOTOGRAPH_KINDS", {kind: photograph_kinds.PHOTOGRAPH_KINDS[kind]}
    )
    frames = [_scan(seed, 30, 220) for seed in range(3)]
    for seed in range(10):
        frame, mask = with_defect(frames[0], frames[1:], np.random.default_rng(seed))
        assert set(np.unique(frame)) <= {30, 220}
        assert not (frame != frames[0])[~mask].any()
        assert (frame != frames[0])[mask].any()


def test_a_two_valued_scan_in_colour_keeps_its_two_colours() -> None:
    colours = np.array([[40, 90, 20], [200, 210, 250]], dtype=np.uint8)
    frames = [colours[(_scan(seed)[..., 0] > 0).astype(int)] for seed in range(3)]
    copies = defective_copies(frames, 21, 0)
    found = {tuple(colour) for colour in copies.frames.reshape(-1, 3).tolist()}
    assert found == {tuple(colour) for colour in colours.tolist()}


def test_a_blank_scan_among_two_valued_ones_gets_their_values() -> None:
    frame, mask = with_defect(np.zeros((80, 80, 1), dtype=np.uint8), [_scan(1)], np.random.default_rng(0))
    assert set(np.unique(frame)) == {0, 255}
    assert mask.any()


def test_defects_lie_on_the_part() -> None:
    frames = [_photograph(seed) for seed in range(3)]
    near = cv2.dilate((frames[0].max(axis=2) > 60).astype(np.uint8), np.ones((3, 3), dtype=np.uint8)) > 0
    for seed in range(30):
        _, mask = with_defect(frames[0], frames[1:], np.random.default_rng(seed))
        assert (mask & near).any()
    corner = np.zeros((96, 120), dtype=np.bool_)
    corner[:20, :20] = True
    where = [with_defect(frames[0], frames[1:], np.random.default_rng(s), part=corner)[1] for s in range(12)]
    assert np.mean([np.argwhere(mask).mean(axis=0) for mask in where]) < 25.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (8, 8), (16, 5), (20, 300)])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiny_and_narrow_photographs_get_defects_too(shape: tuple[int, int], channels: int) -> None:
    frames = [np.random.default_rng(i).integers(0, 256, (*shape, channels), dtype=np.uint8) for i in range(2)]
    copies = defective_copies(frames, 14, 0)
    for frame, mask, source in zip(copies.frames, copies.masks, copies.sources, strict=True):
        assert mask.any()
        assert (frame != frames[source]).any()
        assert not (frame != frames[source]).any(axis=2)[~mask].any()


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("alone", [True, False])
def test_flat_photographs_get_visible_defects(level: int, alone: bool) -> None:
    flat = np.full((64, 64, 3), level, dtype=np.uint8)
    for seed in range(14):
        frame, mask = with_defect(flat, [] if alone else [flat], np.random.default_rng(seed))
        assert np.abs(frame.astype(int) - flat)[mask].mean() >= 8.0
        assert not (frame != flat).any(axis=2)[~mask].any()


def test_where_no_kind_can_be_seen_a_blot_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.synthesis.photograph_defects.STRUCTURE_KINDS", {"stain": lambda scene, rng: None})
    flat = np.full((64, 64, 1), 90, dtype=np.uint8)
    frame, mask = with_defect(flat, [], np.random.default_rng(0), kinds=["stain"])
    assert 4 <= mask.sum() <= 9
    np.testing.assert_array_equal(frame[mask], 255)


def test_what_cannot_be_drawn_on_is_refused_with_what_came() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"\(8, 8\) uint8, expected \(H, W, 1\)"):
        with_defect(np.zeros((8, 8), dtype=np.uint8), [], rng)
    with pytest.raises(ConfigError, match="expected 3 channels"):
        with_defect(_photograph(0), [_photograph(1, 1)], rng)
    with pytest.raises(ConfigError, match=r"part's mask is \(4, 4\)"):
        with_defect(_photograph(0), [], rng, part=np.ones((4, 4), dtype=np.bool_))
    with pytest.raises(DataError, match="expected one size"):
        defective_copies([_photograph(0), _photograph(1, shape=(50, 60))], 2, 0)
    with pytest.raises(DataError, match="at least one of each"):
        defective_copies([], 2, 0)
    with pytest.raises(DataError, match="2 masks of parts came for 1 photographs"):
        defective_copies([_photograph(0)], 2, 0, parts=[np.ones((96, 120), dtype=np.bool_)] * 2)
