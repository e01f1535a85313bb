"""Sources: every frame of a file once and in order, and an error that names what is missing or lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError, SourceError
from edge_runtime.model.images import write_image
from edge_runtime.sources import CameraSource, CapturedFrame, FrameSource, ImageSource, VideoSource, source_from
from edge_runtime.sources.contract import CaptureSettings
from edge_runtime.sources.pipes import StdinSource
from tests.edge_runtime.waiting import wait_until

N_FRAMES = 12
GREY_STEP = 20
"""Between two frames of the test video; MJPG is off by less than a tenth of it."""

FRAME = np.full((4, 6, 3), 7, dtype=np.uint8)

PlugIn = Callable[[Sequence[NDArray[np.uint8] | None]], list[Any]]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame i is grey 20 i."""
    path = tmp_path_factory.mktemp("video") / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
    assert writer.isOpened()
    for index in range(N_FRAMES):
        writer.write(np.full((24, 32, 3), GREY_STEP * index, dtype=np.uint8))
    writer.release()
    return path


def saved_images(folder: Path, names: Sequence[str]) -> None:
    """Image i is grey i."""
    for index, name in enumerate(names):
        write_image(folder / name, np.full((4, 6), index, dtype=np.uint8))


def all_frames(source: FrameSource) -> list[CapturedFrame]:
    frames = []
    while source.grab():
        frames.append(source.retrieve())
    return frames


def names_of(frames: Sequence[CapturedFrame]) -> list[str]:
    return [Path(str(frame.name)).name for frame in frames]


def test_a_video_gives_every_frame_in_order(video: Path) -> None:
    with source_from(None, str(video)) as source:
        assert isinstance(source, VideoSource)
        assert source.source_id == str(video)
        frames = all_frames(source)
        assert not source.grab()
    assert [frame.frame_id for frame in frames] == list(range(N_FRAMES))
    greys = [frame.image.mean() for frame in frames]
    np.testing.assert_allclose(greys, [GREY_STEP * index for index in range(N_FRAMES)], atol=GREY_STEP / 10)
    assert all(frame.image.shape == (24, 32, 3) and frame.image.dtype == np.uint8 for frame in frames)
    assert {frame.name for frame in frames} == {None}


def test_frames_that_are_only_grabbed_leave_a_gap_in_the_ids(video: Path) -> None:
    with source_from(None, str(video)) as source:
        for _ in range(4):
            assert source.grab()
        frame = source.retrieve()
    assert frame.frame_id == 3
    assert frame.image.mean() == pytest.approx(3 * GREY_STEP, abs=GREY_STEP / 10)


def test_a_frame_carries_when_it_was_grabbed(video: Path) -> None:
    with source_from(None, str(video)) as source:
        started_s, started = time.perf_counter(), time.time()
        source.grab()
        frame = source.retrieve()
        elapsed_s = time.perf_counter() - started_s
    assert started_s <= frame.grabbed_s <= started_s + elapsed_s
    assert started - 0.1 <= frame.t_capture <= started + elapsed_s + 0.1
    assert 0.0 < frame.capture_ms <= 1000.0 * elapsed_s


def test_a_folder_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    saved_images(tmp_path, ["1.png", "2.png", "10.png", "sub/3.png"])
    with source_from(None, str(tmp_path)) as source:
        frames = all_frames(source)
    assert names_of(frames) == ["1.png", "2.png", "10.png", "3.png"]
    assert [frame.frame_id for frame in frames] == [0, 1, 2, 3]
    assert [int(frame.image[0, 0]) for frame in frames] == [0, 1, 2, 3]


def test_a_glob_gives_the_images_that_match(tmp_path: Path) -> None:
    saved_images(tmp_path, ["a1.png", "a2.png", "b1.png"])
    (tmp_path / "a3.txt").touch()
    with source_from(None, str(tmp_path / "a*")) as source:
        assert names_of(all_frames(source)) == ["a1.png", "a2.png"]


def test_a_glob_gives_its_images_in_natural_order(tmp_path: Path) -> None:
    saved_images(tmp_path, ["1.png", "2.png", "10.png"])
    with source_from(None, str(tmp_path / "*.png")) as source:
        assert names_of(all_frames(source)) == ["1.png", "2.png", "10.png"]


def test_a_single_image_gives_one_frame(tmp_path: Path) -> None:
    saved_images(tmp_path, ["a.png"])
    with source_from(None, str(tmp_path / "a.png")) as source:
        (frame,) = all_frames(source)
    assert (frame.frame_id, frame.name) == (0, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(frame.image, np.zeros((4, 6), dtype=np.uint8))


def test_a_glob_of_one_video_is_a_video(video: Path) -> None:
    with source_from(None, str(video.parent / "*.avi")) as source:
        assert len(all_frames(source)) == N_FRAMES


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    saved_images(tmp_path, ["[1].png", "1.png"])
    with source_from(None, str(tmp_path / "[1].png")) as source:
        assert names_of(all_frames(source)) == ["[1].png"]


def test_an_unreadable_image_is_a_data_error_and_the_next_one_is_read(tmp_path: Path) -> None:
    saved_images(tmp_path, ["1.png", "2.png", "3.png"])
    (tmp_path / "2.png").write_bytes(b"\x89PNG and no more")
    with source_from(None, str(tmp_path)) as source:
        source.grab()
        source.retrieve()
        source.grab()
        with pytest.raises(DataError, match=r"cannot decode .*2\.png"):
            source.retrieve()
        assert source.grab()
        assert source.retrieve().frame_id == 2


@pytest.mark.parametrize("name", ["gone.png", "gone.avi", "gone/*.png"])
def test_a_path_to_nothing_is_a_source_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match=r"cannot open source .*gone.*: no such file or folder") as caught:
        source_from(None, str(tmp_path / name))
    assert caught.value.exit_code == 4


def test_a_url_that_cannot_be_opened_is_named_without_its_password(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    source = source_from(None, f"rtsp://admin:secret@127.0.0.1:{port}/live")
    with pytest.raises(
        SourceError, match=rf"cannot open source rtsp://.*127\.0\.0\.1:{port}/live: .* refuses"
    ) as caught:
        source.open()
    assert caught.value.code == "REFUSED"
    assert "secret" not in str(caught.value)
    assert "WARN" not in capfd.readouterr().err  # OpenCV has no line of its own


def test_an_empty_folder_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    source = source_from(None, str(tmp_path))
    with pytest.raises(
        SourceError, match=r"cannot open source .*: it holds no PNG, JPEG, WebP, BMP or TIFF image"
    ) as caught:
        source.open()
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [b"", b"RIFF\x00\x00\x00\x00AVI and no more", bytes(5000)])
def test_a_corrupt_video_is_a_source_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.avi").write_bytes(content)
    source = source_from(None, str(tmp_path / "a.avi"))
    with pytest.raises(SourceError, match=r"cannot open source .*a\.avi: OpenCV finds no video in it; exp") as caught:
        source.open()
    assert caught.value.exit_code == 4


@pytest.mark.skipif(Path("/dev/video97").exists(), reason="this machine has 98 cameras")
def test_an_absent_camera_is_a_source_error_that_names_its_device() -> None:
    assert source_from(97, None, must_exist=False).source_id == "camera:97"
    with pytest.raises(SourceError, match=r"cannot open camera 97: there is no /dev/video97 \(present: ") as caught:
        source_from(97, None)
    assert caught.value.exit_code == 4


def test_a_camera_gives_frames_from_a_buffer_of_one(plug_in_camera: PlugIn) -> None:
    opened = plug_in_camera([FRAME, FRAME + 1, FRAME + 2])
    with source_from(2, None) as source:
        assert isinstance(source, CameraSource)
        assert source.source_id == "camera:2"
        frames = []
        for _ in range(3):
            assert source.grab()
            frames.append(source.retrieve())
    assert [frame.frame_id for frame in frames] == [0, 1, 2]
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [7, 8, 9]
    (capture,) = opened
    assert capture.arguments == (2, cv2.CAP_V4L2)
    assert capture.settings == {cv2.CAP_PROP_BUFFERSIZE: 1}
    assert capture.released


@pytest.mark.parametrize(
    ("system", "api", "advice"),
    [
        ("win32", "CAP_DSHOW", "desktop programs"),
        ("darwin", "CAP_AVFOUNDATION", "this terminal"),
        ("sunos5", "CAP_ANY", ""),
    ],
)
def test_a_camera_is_opened_by_what_its_system_has(
    plug_in_camera: PlugIn, monkeypatch: pytest.MonkeyPatch, system: str, api: str, advice: str
) -> None:
    """Not asked for /dev/video0, which neither has."""
    opened = plug_in_camera([FRAME])
    monkeypatch.setattr("edge_runtime.sources.capture.sys.platform", system)
    with CameraSource(0):
        pass
    assert opened[0].arguments == (0, getattr(cv2, api))
    monkeypatch.setattr(type(opened[0]), "isOpened", lambda capture: False)
    with pytest.raises(SourceError, match=f"cannot open camera 0: it is busy.*{advice}"):
        CameraSource(0).open()


def test_a_camera_has_a_name_and_a_device_file_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.sources.capture.sys.platform", "win32")
    CameraSource(97).check_present()
    with pytest.raises(SourceError, match="have names on Linux alone; expected an index such as 0"):
        CameraSource("/dev/v4l/by-id/usb-1").check_present()


def test_a_camera_that_stops_giving_frames_is_lost(plug_in_camera: PlugIn) -> None:
    plug_in_camera([FRAME, FRAME])
    with source_from(0, None) as source:
        assert source.grab()
        assert source.grab()
        with pytest.raises(SourceError, match="lost camera 0 after 2 frames: it gives no frame any more") as caught:
            source.grab()
    assert caught.value.exit_code == 4


def test_a_camera_frame_that_cannot_be_decoded_is_a_data_error(plug_in_camera: PlugIn) -> None:
    plug_in_camera([FRAME, None, FRAME])
    with source_from(0, None) as source:
        source.grab()
        source.grab()
        with pytest.raises(DataError, match="cannot decode frame 1 of camera:0"):
            source.retrieve()
        source.grab()
        assert source.retrieve().frame_id == 2


def test_a_busy_camera_is_a_source_error(plug_in_camera: PlugIn, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = plug_in_camera([])
    monkeypatch.setattr(cv2.VideoCapture, "isOpened", lambda self: False)
    source = source_from(0, None)
    with pytest.raises(SourceError, match=r"cannot open camera 0: /dev/video0 is busy, not a capture device, or not"):
        source.open()
    assert opened[0].released


def test_a_source_is_released_when_its_block_fails(plug_in_camera: PlugIn) -> None:
    opened = plug_in_camera([FRAME])
    with pytest.raises(KeyboardInterrupt), source_from(0, None):
        raise KeyboardInterrupt
    assert opened[0].released


def test_a_source_may_be_closed_twice(video: Path) -> None:
    source = source_from(None, str(video))
    source.close()
    source.open()
    source.close()
    source.close()


def test_image_files_are_given_in_the_order_they_are_passed(tmp_path: Path) -> None:
    saved_images(tmp_path, ["a.png", "b.png"])
    with ImageSource("list", [tmp_path / "b.png", tmp_path / "a.png"]) as source:
        assert names_of(all_frames(source)) == ["b.png", "a.png"]


@pytest.mark.parametrize("raw", [None, (4, 4, 3)])
def test_standard_input_that_gives_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, raw: tuple[int, int, int] | None
) -> None:
    (tmp_path / "nothing").touch()
    with (tmp_path / "nothing").open("rb") as stream:
        with StdinSource(CaptureSettings(raw=raw), descriptor=stream.fileno()) as source:
            assert not source.grab()
        assert "nothing came on standard input, expected frames" in caplog.text
        caplog.clear()
        source = StdinSource(CaptureSettings(raw=raw), descriptor=stream.fileno())
        source.open()
        source.close()
        assert (source.grab(), caplog.text) == (False, "")


SILENT_CHILD = """
import sys, threading, time
from edge_runtime.sources import ChildSource
silent = "import sys, time; print('YUV4MPEG2 W16 H16', flush=True); time.sleep(60)"
source = ChildSource("silent", [sys.executable, "-c", silent])
source.open()
print(source._child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")
def test_a_child_that_gives_no_frame_ends_with_a_parent_that_was_killed() -> None:
    """One that writes would end by its pipe."""
    parent = subprocess.Popen([sys.executable, "-c", SILENT_CHILD], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        wait_until(lambda: not Path(f"/proc/{child}").exists() or _is_zombie(child))
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True
