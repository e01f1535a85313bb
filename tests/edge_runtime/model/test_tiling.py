"""Tiles cover a frame, their maps come together again, and no seam shows."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.tiling import Tiling, starts


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "expected"),
    [
        (10, 10, 3, (0,)),
        (4, 10, 3, (0,)),
        (1, 10, 3, (0,)),
        (11, 10, 3, (0, 1)),
        (17, 10, 3, (0, 7)),
        (18, 10, 3, (0, 4, 8)),
        (30, 10, 0, (0, 10, 20)),
        (31, 10, 0, (0, 7, 14, 21)),
        (3, 1, 0, (0, 1, 2)),
        (5, 3, 2, (0, 1, 2)),
    ],
)
def test_tiles_start_where_worked_by_hand(length: int, tile: int, overlap: int, expected: tuple[int, ...]) -> None:
    assert starts(length, tile, overlap) == expected


def test_every_pixel_is_covered_with_the_overlap_asked_for() -> None:
    for tile in (1, 2, 7, 16):
        for overlap in range(0, tile, max(1, tile // 4)):
            for length in range(1, 120):
                firsts = starts(length, tile, overlap)
                assert firsts[0] == 0
                assert firsts[-1] == max(0, length - tile)
                gaps = np.diff(firsts)
                assert (gaps <= tile - overlap).all()
                assert (gaps > 0).all()
                assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1  # evenly spread


@pytest.mark.parametrize("shape", [(16, 16), (40, 33), (5, 90), (3, 4), (1, 1), (64, 16)])
def test_cut_tiles_assemble_to_the_frame_again(shape: tuple[int, int]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    tiling = Tiling.covering(shape, (16, 16), 5)
    missing = [max(0, 16 - side) for side in shape]
    tiles = tiling.cut(np.pad(frame, ((0, missing[0]), (0, missing[1]), (0, 0))))
    assert tiles.shape == (len(tiling), 16, 16, 3)
    assert tiles.flags.c_contiguous
    np.testing.assert_array_equal(tiling.assemble(tiles), frame)


@pytest.mark.parametrize("shape", [(16, 16), (40, 33), (5, 90), (1, 1)])
@pytest.mark.parametrize("overlap", [0, 5, 15])
def test_stitching_the_frame_s_own_values_gives_the_frame(shape: tuple[int, int], overlap: int) -> None:
    frame = np.random.default_rng(0).random(shape, dtype=np.float32)
    tiling = Tiling.covering(shape, (16, 16), overlap)
    missing = [max(0, 16 - side) for side in shape]
    padded = np.pad(frame, ((0, missing[0]), (0, missing[1])), constant_values=9.0)
    maps = np.stack([padded[top : top + 16, left : left + 16] for top, left in tiling.positions])
    stitched = tiling.stitch(maps)
    assert stitched.dtype == np.float32
    np.testing.assert_allclose(stitched, frame, rtol=1e-5)  # a weighted mean of equal float32 values


def test_maps_of_a_quarter_of_the_resolution_leave_no_seam() -> None:
    """Each tile's map is a smooth surface with an error that differs from tile to tile."""
    tiling = Tiling.covering((96, 160), (64, 64), 32)
    rng = np.random.default_rng(0)
    maps = np.stack([np.full((16, 16), 1.0 + error, dtype=np.float32) for error in rng.normal(0.0, 0.1, len(tiling))])
    stitched = tiling.stitch(maps)
    largest_gap = maps.max() - maps.min()
    for axis in (0, 1):
        # Weights fall over at least 32 pixels; a maximum, or plain pasting, would step by the whole gap at once.
        assert np.abs(np.diff(stitched, axis=axis)).max() < largest_gap / 8


def test_a_quarter_resolution_peak_stays_in_its_place() -> None:
    tiling = Tiling.covering((100, 150), (64, 64), 16)
    frame = np.zeros((100, 150), dtype=np.float32)
    frame[52:60, 84:92] = 1.0
    maps = np.stack(
        [frame[t : t + 64, left : left + 64].reshape(16, 4, 16, 4).mean(axis=(1, 3)) for t, left in tiling.positions]
    )
    stitched = tiling.stitch(maps)
    centre = [float((index * stitched).sum() / stitched.sum()) for index in np.indices(stitched.shape)]
    assert centre == pytest.approx([55.5, 87.5], abs=1.0)
    assert stitched[52:60, 84:92].mean() > 0.5
    row, column = np.unravel_index(int(stitched.argmax()), stitched.shape)
    assert 52 <= row < 60
    assert 84 <= column < 92


def inside_of(tiling: Tiling, index: int) -> NDArray[np.int64]:
    covered, _ = tiling.inside(index)
    return np.array([covered[0].start, covered[0].stop, covered[1].start, covered[1].stop])


def test_the_padding_of_a_small_frame_is_not_inside() -> None:
    tiling = Tiling.covering((5, 40), (16, 16), 4)
    assert len(tiling) == 3
    assert inside_of(tiling, 0).tolist() == [0, 5, 0, 16]
    assert inside_of(tiling, 2).tolist() == [0, 5, 24, 40]
    assert tiling.inside(2)[1] == (slice(0, 5), slice(0, 16))
