"""Bayer-coded frames, of raw bytes and of a V4L2 camera that is a stand-in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DataError, SourceError
from edge_runtime.sources import CameraSource, CaptureSettings, StdinSource, source_from
from edge_runtime.sources.bayer import BAYER

COLOURS = {"R": 2, "G": 1, "B": 0}
SCENE = np.zeros((16, 24, 3), dtype=np.uint8)
SCENE[:, :8], SCENE[:, 8:16], SCENE[:, 16:] = (200, 30, 60), (40, 180, 20), (10, 90, 220)


def mosaic(pattern: str, scene: np.ndarray = SCENE) -> np.ndarray:
    """One colour a pixel, as the pattern says: the first row's two, then the second row's."""
    coded = np.empty(scene.shape[:2], dtype=scene.dtype)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        coded[row::2, column::2] = scene[row::2, column::2, COLOURS[colour]]
    return coded


def assert_is_scene(frame: np.ndarray) -> None:
    assert frame.shape == SCENE.shape
    assert frame.dtype == np.uint8
    for columns in (slice(2, 6), slice(10, 14), slice(18, 22)):  # away from where two colours meet
        np.testing.assert_array_equal(frame[2:-2, columns], SCENE[2:-2, columns])


@pytest.mark.parametrize("pattern", BAYER)
def test_raw_frames_get_their_colours(pattern: str) -> None:
    reader, writer = os.pipe()
    os.write(writer, mosaic(pattern).tobytes() * 2)
    os.close(writer)
    try:
        with StdinSource(CaptureSettings(raw=(24, 16, 1), bayer=pattern), descriptor=reader) as source:
            for _ in range(2):
                assert source.grab()
                assert_is_scene(source.retrieve().image)
            assert not source.grab()
    finally:
        os.close(reader)


class FakeCapture:
    """A V4L2 camera that gives its raw bytes where it is asked to, in whatever shape OpenCV would."""

    raw: np.ndarray
    takes_raw = True

    def __init__(self, *_: Any) -> None:
        self.asked: dict[int, float] = {}

    def isOpened(self) -> bool:
        return True

    def set(self, name: int, value: float) -> bool:
        self.asked[name] = value
        return self.takes_raw or name != cv2.CAP_PROP_CONVERT_RGB

    def get(self, name: int) -> float:
        return {cv2.CAP_PROP_FRAME_HEIGHT: 16.0, cv2.CAP_PROP_FRAME_WIDTH: 24.0}.get(name, 0.0)

    def grab(self) -> bool:
        return True

    def retrieve(self) -> tuple[bool, np.ndarray]:
        assert self.asked[cv2.CAP_PROP_CONVERT_RGB] == 0
        return True, self.raw

    def release(self) -> None:
        pass


def camera(monkeypatch: pytest.MonkeyPatch, raw: np.ndarray, **asked: Any) -> CameraSource:
    monkeypatch.setattr(FakeCapture, "raw", raw, raising=False)
    monkeypatch.setattr("cv2.VideoCapture", FakeCapture)
    monkeypatch.setattr(CameraSource, "check_present", lambda self: None)
    return CameraSource(0, CaptureSettings(**asked))


@pytest.mark.parametrize("pattern", BAYER)
@pytest.mark.parametrize("flat", [False, True])
def test_a_camera_s_frames_get_their_colours(monkeypatch: pytest.MonkeyPatch, pattern: str, flat: bool) -> None:
    raw = mosaic(pattern)
    with camera(monkeypatch, raw.reshape(1, -1) if flat else raw, bayer=pattern) as source:
        assert source.grab()
        assert_is_scene(source.retrieve().image)


def test_samples_of_10_bits_lie_in_two_bytes_and_are_read_by_the_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = mosaic("RGGB", SCENE.astype(np.uint16) * 4)
    with camera(monkeypatch, deep.astype("<u2").view(np.uint8).reshape(1, -1), bayer="RGGB") as source:
        source.take_levels((0, 1020))
        assert source.grab()
        assert_is_scene(source.retrieve().image)


def test_a_packed_format_is_refused_with_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    with camera(monkeypatch, np.zeros((1, 480), np.uint8), bayer="RGGB") as source:
        assert source.grab()
        with pytest.raises(DataError, match="has 480 bytes, expected 384 or twice as many for 24x16; ask for a raw"):
            source.retrieve()


def test_a_camera_that_gives_no_raw_pixels_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeCapture, "takes_raw", False)
    with pytest.raises(SourceError, match="OpenCV does not give its raw pixels; leave --bayer out"):
        camera(monkeypatch, SCENE, bayer="RGGB").open()


def test_where_nothing_is_bayer_coded_it_is_refused(tmp_path: Path) -> None:
    settings = CaptureSettings(bayer="GBRG")
    for source in (str(tmp_path), "rtsp://10.0.0.5/live", "test://pattern", "csi://0", "-"):
        with pytest.raises(ConfigError, match="--bayer GBRG is for V4L2 cameras, and for raw frames"):
            source_from(None, source, settings)
    with pytest.raises(ConfigError, match="bayer is 'RGB', expected one of RGGB, BGGR, GRBG, GBRG"):
        CaptureSettings(bayer="RGB")
    with pytest.raises(ConfigError, match="raw frames have 3 channels, Bayer-coded ones have 1: name WIDTHxHEIGHTx1"):
        CaptureSettings(bayer="RGGB", raw=(24, 16, 3))
