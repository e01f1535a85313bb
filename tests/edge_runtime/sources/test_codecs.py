"""Whether frames depend on each other is told by their codec, whatever kind of address they come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.sources import CameraSource, ChildSource, PipelineSource, StdinSource, VideoSource
from edge_runtime.sources.capture import CaptureSource
from edge_runtime.sources.codecs import codec_inter_coded
from edge_runtime.sources.pipes import ffmpeg_command
from edge_runtime.watching.guard import FrameGuard


def video(path: Path, code: str) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (64, 48))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV does not encode {code}")
    rng = np.random.default_rng(0)
    for _ in range(50):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(("code", "depends"), [("MJPG", False), ("mp4v", True), ("FFV1", False)])
def test_a_capture_tells_by_its_codec(tmp_path: Path, code: str, depends: bool) -> None:
    with VideoSource(video(tmp_path / "a.avi", code)) as source:
        assert source.inter_coded is depends


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
@pytest.mark.parametrize(("code", "depends"), [("MJPG", False), ("mp4v", True)])
def test_a_child_tells_by_what_it_decodes(tmp_path: Path, code: str, depends: bool) -> None:
    command = ffmpeg_command(str(video(tmp_path / "a.avi", code)))
    assert command is not None
    with ChildSource("child", command) as source:
        assert source.grab()
        assert source.retrieve().image.shape == (48, 64, 3)
        assert source.inter_coded is depends


@pytest.mark.parametrize(
    ("pipeline", "depends"),
    [
        ("v4l2src device=/dev/video2 ! video/x-raw,width=640,height=480", False),
        ("v4l2src ! image/jpeg ! jpegdec ! videoconvert", False),
        ("souphttpsrc location=http://a ! multipartdemux ! nvjpegdec", False),
        ("nvarguscamerasrc sensor-id=0 ! nvvidconv", False),
        ("rtspsrc location=rtsp://a ! rtph264depay ! avdec_h264", True),
        ("rtspsrc location=rtsp://a ! rtpjpegdepay ! jpegdec", False),
        ("v4l2src ! video/x-h264 ! nvv4l2decoder", True),
        ("uridecodebin uri=rtsp://a", True),
        ("filesrc location=a.mp4 ! decodebin", True),
    ],
)
def test_a_pipeline_tells_by_the_decoders_that_it_names(pipeline: str, depends: bool) -> None:
    assert PipelineSource("a", pipeline).inter_coded is depends
    assert ChildSource("a", ["gst-launch-1.0", "-q", *pipeline.split()]).inter_coded is depends


def test_what_is_not_known_may_depend_on_the_frame_before_and_what_has_no_codec_does_not() -> None:
    assert codec_inter_coded("\0\0\0\0")
    assert codec_inter_coded("new1")
    assert CaptureSource("a").inter_coded
    assert not StdinSource().inter_coded
    assert CameraSource(0).inter_coded  # until it is open


def test_a_guard_is_told_the_codec_whenever_the_source_is_opened() -> None:
    rng = np.random.default_rng(1)
    before, after = (rng.integers(0, 200, (64, 64, 3), dtype=np.uint8) for _ in range(2))
    after[32:] = before[32:]
    for depends in (False, True, False):
        guard = FrameGuard()
        guard.opened(inter_coded=depends)
        guard.check(before)
        fault = guard.check(after)
        assert (fault is None) is depends


@pytest.mark.skipif(shutil.which("sh") is None, reason="there is no shell")
def test_a_child_that_says_more_than_a_pipe_holds_does_not_stand_still(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.write_bytes(b"YUV4MPEG2 W16 H16\n" + (b"FRAME\n" + bytes(384)) * 2)
    chatty = f"i=0; while [ $i -lt 4000 ]; do echo {'x' * 60} >&2; i=$((i+1)); done; cat {frames}"
    with ChildSource("chatty", ["sh", "-c", chatty]) as source:
        assert source.grab()
        assert source.grab()


def test_the_words_of_a_child_that_fails_are_its_errors(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = ffmpeg_command(str(tmp_path / "absent.avi"))
    assert command is not None
    with pytest.raises(OSError, match=r"ffmpeg gave no video: .*No such file") as caught:
        ChildSource("child", command).open()
    assert "Input #" not in str(caught.value)
