"""Frames that are none, each recognised by what it is, and good frames that look a little like them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.watching.guard import FrameGuard, GuardSettings

Frame = NDArray[np.uint8]


def photograph(seed: int, height: int = 96, width: int = 128, channels: int | None = 3) -> Frame:
    shape = (height, width) if channels is None else (height, width, channels)
    return np.random.default_rng(seed).integers(60, 200, shape, dtype=np.uint8)


def code(guard: FrameGuard, frame: Frame) -> str | None:
    fault = guard.check(frame)
    return fault.code if fault else None


@pytest.mark.parametrize("channels", [3, None])
def test_good_frames_pass(channels: int | None) -> None:
    guard = FrameGuard()
    assert [code(guard, photograph(seed, channels=channels)) for seed in range(5)] == [None] * 5


def test_an_exact_duplicate_is_repeated_and_one_changed_pixel_is_not() -> None:
    guard = FrameGuard()
    frame = photograph(0)
    assert code(guard, frame) is None
    assert code(guard, frame.copy()) == "FRAME_REPEATED"
    assert code(guard, frame.copy()) == "FRAME_REPEATED"
    changed = frame.copy()
    changed[95, 127, 0] ^= 1  # at the bottom, so that no row below it is stale
    assert code(FrameGuard(GuardSettings(checks=("repeated",))), changed) is None
    assert code(guard, photograph(1)) is None


@pytest.mark.parametrize("level", [0, 7])
def test_a_black_frame_is_black_and_not_repeated(level: int) -> None:
    guard = FrameGuard()
    black = np.full((96, 128, 3), level, dtype=np.uint8)
    assert [code(guard, black.copy()) for _ in range(3)] == ["FRAME_BLACK"] * 3


def test_sensor_noise_in_the_dark_is_black_and_a_dim_scene_is_not() -> None:
    noise = np.random.default_rng(0).integers(0, 6, (96, 128), dtype=np.uint8)
    assert code(FrameGuard(), noise) == "FRAME_BLACK"
    dim = noise.copy()
    dim[:30] += 40
    assert code(FrameGuard(), dim) is None


def test_a_blank_frame_of_any_level_is_refused() -> None:
    fault = FrameGuard().check(np.full((96, 128, 3), (0, 135, 0), dtype=np.uint8))
    assert fault is not None
    assert (fault.code, fault.reason) == ("FRAME_BLACK", "blank: every pixel is [0, 135, 0]")


@pytest.mark.parametrize("rows", [6, 40, 95])
def test_rows_of_the_frame_before_are_torn(rows: int) -> None:
    guard = FrameGuard()
    before, torn = photograph(0), photograph(1)
    torn[96 - rows :] = before[96 - rows :]
    assert code(guard, before) is None
    fault = guard.check(torn)
    assert fault is not None
    assert (fault.code, fault.reason) == ("FRAME_TORN", f"the last {rows} of 96 rows are those of the frame before")


def test_fewer_stale_rows_than_a_sixteenth_pass() -> None:
    guard = FrameGuard()
    before, frame = photograph(0), photograph(1)
    frame[91:] = before[91:]
    assert [code(guard, before), code(guard, frame)] == [None, None]


def test_a_codec_that_copies_unchanged_parts_is_not_torn() -> None:
    guard = FrameGuard(GuardSettings(inter_coded=True))
    before, frame = photograph(0), photograph(1)
    frame[40:] = before[40:]
    assert [code(guard, before), code(guard, frame)] == [None, None]


@pytest.mark.parametrize("filler", [(128, 128, 128), (0, 135, 0), (0, 0, 0)])
@pytest.mark.parametrize("rows", [12, 70])
def test_filler_that_was_not_there_before_is_torn(filler: tuple[int, int, int], rows: int) -> None:
    guard = FrameGuard()
    torn = photograph(1)
    torn[96 - rows :] = filler
    assert [code(guard, photograph(0)), code(guard, torn), code(guard, photograph(2))] == [None, "FRAME_TORN", None]


def test_the_bars_of_a_letterbox_are_no_filler() -> None:
    guard = FrameGuard()
    frames = [photograph(seed) for seed in range(4)]
    for frame in frames:
        frame[:20] = frame[76:] = 0
    assert [code(guard, frame) for frame in frames] == [None] * 4


def test_a_frame_of_another_size_is_refused_until_the_size_is_back() -> None:
    guard = FrameGuard()
    assert code(guard, photograph(0)) is None
    fault = guard.check(photograph(1, height=48))
    assert fault is not None
    assert fault.code == "FRAME_SIZE"
    assert "frame is (48, 128, 3), the source began with (96, 128, 3)" in fault.reason
    assert code(guard, photograph(2)) is None


def test_only_the_named_checks_are_made() -> None:
    guard = FrameGuard(GuardSettings(checks=()))
    frame = np.zeros((96, 128), dtype=np.uint8)
    assert [code(guard, frame), code(guard, frame), code(guard, frame[:50])] == [None] * 3


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 3), (8, 8)])
def test_tiny_frames_are_looked_at_without_a_fall(shape: tuple[int, ...]) -> None:
    guard = FrameGuard()
    frame = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) + 60
    guard.check(frame)
    assert code(guard, frame.copy()) is not None


def test_an_unknown_check_is_refused() -> None:
    with pytest.raises(ConfigError, match="--reject names blur, expected some of repeated, black, torn, size, or none"):
        GuardSettings(checks=("black", "blur"))
