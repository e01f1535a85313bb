"""test://: what is asked for is what is given."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.sources import CaptureSettings, TestSource, source_from
from edge_runtime.sources.selection import csi_pipeline


def test_no_two_frames_of_the_pattern_are_equal_and_the_source_ends() -> None:
    with source_from(None, "test://pattern?fps=5000&frames=70&width=32&height=24") as source:
        images = []
        while source.grab():
            images.append(source.retrieve().image)
    assert len(images) == 70
    assert images[0].shape == (24, 32, 3)
    assert len({image.tobytes() for image in images}) == 70


def test_the_same_seed_gives_the_same_frames() -> None:
    def first(seed: int) -> bytes:
        with TestSource(f"test://pattern?fps=5000&width=32&height=24&seed={seed}") as source:
            source.grab()
            return source.retrieve().image.tobytes()

    assert first(1) == first(1)
    assert first(1) != first(2)


@pytest.mark.parametrize("flip", ["horizontal", "vertical", "180"])
def test_flips(flip: str) -> None:
    def first(settings: CaptureSettings) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        with TestSource("test://pattern?fps=5000&width=32&height=24", settings) as source:
            source.grab()
            return source.retrieve().image

    plain = first(CaptureSettings())
    expected = {"horizontal": plain[:, ::-1], "vertical": plain[::-1], "180": plain[::-1, ::-1]}[flip]
    np.testing.assert_array_equal(first(CaptureSettings(flip=flip)), expected)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("test://melt", "test://melt: expected one of pattern, defect, freeze"),
        ("test://freeze?speed=3", "there is no 'speed'; expected some of width, height, fps"),
        ("test://freeze?fps=fast", "fps is 'fast', expected a number"),
        ("test://freeze?fps=0", "expected fps above 0"),
        ("test://black?width=4", "is 4x480, expected 8 to 16384 pixels"),
    ],
)
def test_what_cannot_be_made_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        source_from(None, url)


def test_a_csi_camera_is_a_pipeline_with_what_was_asked() -> None:
    settings = CaptureSettings(width=1920, height=1080, fps=60, flip="180")
    assert csi_pipeline("csi://1", settings) == (
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1,format=NV12 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
    )
    with pytest.raises(ConfigError, match="expected csi:// and the sensor's number"):
        csi_pipeline("csi://left", settings)


def test_an_unknown_scheme_is_a_source_error() -> None:
    with pytest.raises(SourceError, match="ftp:// is not known; expected test, csi, rtsp") as caught:
        source_from(None, "ftp://host/a.avi")
    assert caught.value.code == "UNSUPPORTED"
