"""Medians against numpy, channels against hand-worked numbers, and the same bytes on every machine."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import MissingExtraError
from edge_runtime.model.images import list_images, read_image
from edge_runtime.model.self_reference import (
    LOG_TABLE,
    N_CHANNELS,
    STEPS_PER_LOG,
    medians,
    self_referenced,
    unclipped_levels,
)

DATA = Path(os.environ.get("EDGE_AAE_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def by_definition(grey: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Channels 1 and 2 in float64, not rounded: the formula of the docstring through np.median."""
    log_grey = np.log1p(grey.astype(np.float64))
    without_columns = log_grey - np.median(log_grey, axis=0, keepdims=True)
    without_both = without_columns - np.median(without_columns, axis=1, keepdims=True)
    return 128.0 + STEPS_PER_LOG * without_both, 128.0 + STEPS_PER_LOG * without_columns


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 9), (8, 1), (13, 14), (14, 13), (50, 51)])
@pytest.mark.parametrize("spread", [1, 2, 40, 16383])
@pytest.mark.parametrize("axis", [0, 1])
def test_medians_are_those_of_numpy_rounded_down(shape: tuple[int, int], spread: int, axis: int) -> None:
    values = np.random.default_rng(spread).integers(-spread, spread + 1, shape).astype(np.int16)
    found = medians(values, axis=axis)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, np.floor(np.median(values, axis=axis, keepdims=True)))


def test_medians_at_the_ends_of_the_range_do_not_wrap_around() -> None:
    values = np.array([[-16383, 16383], [16383, 16383], [-16383, -16383]], dtype=np.int16)
    assert medians(values, axis=1).ravel().tolist() == [0, 16383, -16383]


def test_a_flat_frame_is_neutral_whatever_its_brightness() -> None:
    for grey in (0, 1, 128, 255):
        channels = self_referenced(np.full((5, 7), grey, dtype=np.uint8))
        assert channels.shape == (5, 7, N_CHANNELS)
        assert channels.flags.c_contiguous
        assert np.unique(channels.reshape(-1, N_CHANNELS), axis=0).tolist() == [[grey, 128, 128, 255]]


def test_a_defect_stands_out_by_the_logarithm_of_its_contrast() -> None:
    frame = np.full((9, 11), 99, dtype=np.uint8)
    frame[4, 5] = 49  # (1 + 49) / (1 + 99) is a half
    channels = self_referenced(frame)
    expected = 128 - round(STEPS_PER_LOG * math.log(2.0))
    assert channels[4, 5].tolist() == [49, expected, expected, 255]
    assert (np.delete(channels[:, :, 1].ravel(), 4 * 11 + 5) == 128).all()


def test_columns_of_different_brightness_vanish_from_both_channels() -> None:
    frame = np.tile(np.arange(10, 250, 20, dtype=np.uint8), (8, 1))
    assert (self_referenced(frame)[:, :, 1:3] == 128).all()


def test_a_horizontal_band_stays_in_the_column_channel_alone() -> None:
    frame = np.full((9, 8), 99, dtype=np.uint8)
    frame[3] = 199  # a step of log 2
    channels = self_referenced(frame)
    assert (channels[:, :, 1] == 128).all()
    assert (channels[3, :, 2] == 128 + round(STEPS_PER_LOG * math.log(2.0))).all()
    assert (np.delete(channels[:, :, 2], 3, axis=0) == 128).all()


def test_twice_the_light_changes_no_channel_but_grey() -> None:
    dark = noise(20, 30) // 4
    bright = 2 * dark + 1  # 1 + bright is twice 1 + dark
    difference = self_referenced(bright)[:, :, 1:3].astype(int) - self_referenced(dark)[:, :, 1:3]
    assert np.abs(difference).max() <= 1  # rounding


@pytest.mark.parametrize("shape", [(41, 33), (40, 32), (1, 64), (64, 1), (1, 1)])
def test_channels_are_those_of_the_definition_within_rounding(shape: tuple[int, int]) -> None:
    grey = noise(*shape)
    for levels, exact in zip(unclipped_levels(grey), by_definition(grey), strict=True):
        # Half a level of rounding; half a sixteenth each of the table and, twice, of a median of two.
        np.testing.assert_allclose(levels, exact, atol=0.5 + 3 / 16)


def test_what_leaves_a_byte_is_clipped() -> None:
    frame = np.full((5, 5), 60, dtype=np.uint8)
    frame[1, 1], frame[3, 3] = 0, 255
    channels = self_referenced(frame)
    assert channels[1, 1, 1:3].tolist() == [0, 0]  # 128 - 411
    assert channels[3, 3, 1:3].tolist() == [255, 255]  # 128 + 143


def test_one_grey_level_is_a_whole_channel_level_up_to_grey_99() -> None:
    steps = np.diff(LOG_TABLE) / 16
    assert (steps[:99] >= 1.0 - 1 / 16).all()  # the table is rounded to sixteenths
    assert steps[255 - 1] >= 0.3


def test_the_bytes_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(LOG_TABLE.astype("<i2").tobytes()).hexdigest()
    assert digest == "b332c4937d0768d89cd6cf742b2cb7582b8ab4e9922ccce847af88d6f24cd663"
    lines = np.add.outer(np.arange(97) * 31, np.arange(64) * 57) % 251  # no random generator of any release
    digest = hashlib.sha256(self_referenced(lines.astype(np.uint8)).tobytes()).hexdigest()
    assert digest == "9f523c1b59e41407453479b7c2e282cf87a59beaca90b61d8b95532567f66625"


def test_a_view_of_a_larger_frame_gives_the_same() -> None:
    frame = noise(40, 60)
    view = frame[5:30, 7:50]
    np.testing.assert_array_equal(self_referenced(view), self_referenced(view.copy()))


def test_normal_magnetic_tiles_hardly_clip() -> None:
    folder = DATA / "magnetic-tile/train/good"
    if not folder.is_dir():
        pytest.skip("magnetic-tile is not at hand; set EDGE_AAE_DATA to the folder that holds it")
    frames = [read_image(path) for path in list_images(folder)[::10]]
    greys = [frame if frame.ndim == 2 else frame[:, :, 0] for frame in frames]
    clipped = sum(((levels < 0) | (levels > 255)).sum() for grey in greys for levels in unclipped_levels(grey))
    # 0.1 % over all 762; a tenth of them may hold more than their share.
    assert clipped / sum(2 * grey.size for grey in greys) < 0.002


def test_without_opencv_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r'self-referenced channels need cv2: pip install "edge-aae\[camera\]"'):
        self_referenced(noise(4, 4))
