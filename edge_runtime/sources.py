"""Where frames come from: a V4L2 camera, a video file, image files. Files give every frame, in order.

grab is apart from retrieve, so that a frame that is not wanted costs no decoding.
"""

from __future__ import annotations

import glob
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from edge_runtime.errors import ConfigError, DataError, SourceError
from edge_runtime.extras import require
from edge_runtime.images import is_image, list_images, natural_order, read_image
from edge_runtime.preprocess import Frame, as_frame
from edge_runtime.redact import redact

__all__ = ["CameraSource", "CapturedFrame", "FrameSource", "ImageSource", "VideoSource", "source_from"]


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One frame with its place and time."""

    image: Frame
    """(H, W, 3) BGR or (H, W) grey, uint8"""
    frame_id: int
    """0 for the first frame of the source; every grabbed frame takes one, so a gap is a frame that was not scored."""
    t_capture: float
    """Seconds since the epoch when the frame was grabbed."""
    grabbed_s: float
    """The same moment by time.perf_counter, for ages."""
    capture_ms: float
    """What grabbing and decoding took; for a live camera this includes waiting for the frame."""
    name: str | None
    """File name of an image file, None for cameras and videos."""


class FrameSource(Protocol):
    """Gives frames. Use it as a context manager; `open` raises SourceError."""

    source_id: str

    def open(self) -> None:
        """Make the source ready; raises SourceError."""
        ...

    def grab(self) -> bool:
        """Take the next frame without decoding it; False at the end of a file. Raises SourceError when lost."""
        ...

    def retrieve(self) -> CapturedFrame:
        """The frame last grabbed. Raises DataError where it cannot be decoded; the source goes on."""
        ...

    def close(self) -> None:
        """Release the source; may be called twice."""
        ...


class _Context:
    """`with source:` opens and closes it."""

    def __enter__(self: Any) -> Any:
        self.open()
        return self

    def __exit__(
        self: Any, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def source_from(camera: int | None, path: str | None) -> ImageSource | VideoSource | CameraSource:
    """The source that the command line names; it is not opened, but what can be seen to be missing is refused.

    camera: V4L2 index. path: image, video, folder or glob pattern. Raises SourceError; ConfigError where neither is
    named.
    """
    if camera is not None:
        return CameraSource(camera)
    if path is None:
        raise ConfigError("no source named; expected a camera index or a path")
    file = Path(path)
    if not file.exists():
        matches = sorted(map(Path, glob.glob(path)), key=natural_order)
        if not matches:
            raise SourceError(f"cannot open source {redact(path)}: no such file or folder")
        if len(matches) == 1:
            return source_from(None, str(matches[0]))
        return ImageSource(path, [match for match in matches if is_image(match)])
    if file.is_dir():
        return ImageSource(path, list_images(file))
    if is_image(file):
        return ImageSource(path, [file])
    return VideoSource(file)


class ImageSource(_Context):
    """Image files, each once, in the order given."""

    def __init__(self, source_id: str, files: Sequence[Path]) -> None:
        self.source_id = source_id
        self._files = files
        self._next = 0
        self._grabbed_s = 0.0
        self._t_capture = 0.0

    def open(self) -> None:
        """Raise SourceError where there is no image."""
        if not self._files:
            raise SourceError(f"cannot open source {self.source_id}: it holds no PNG, JPEG, BMP or TIFF image")

    def grab(self) -> bool:
        """Step to the next file; False after the last."""
        if self._next >= len(self._files):
            return False
        self._next += 1
        self._grabbed_s, self._t_capture = time.perf_counter(), time.time()
        return True

    def retrieve(self) -> CapturedFrame:
        """Read and decode the file; raises DataError where it cannot be."""
        file = self._files[self._next - 1]
        image = read_image(file)
        capture_ms = 1000.0 * (time.perf_counter() - self._grabbed_s)
        return CapturedFrame(image, self._next - 1, self._t_capture, self._grabbed_s, capture_ms, str(file))

    def close(self) -> None:
        """Nothing to release."""


class _CaptureSource(_Context):
    """What cameras and videos share: an OpenCV capture."""

    def __init__(self, source_id: str) -> None:
        self.source_id = source_id
        self._capture: Any = None
        self._n_grabbed = 0
        self._started_s = 0.0
        self._grabbed_s = 0.0
        self._t_capture = 0.0

    def grab(self) -> bool:
        """Take the next frame; False where there is none."""
        self._started_s = time.perf_counter()
        if not self._capture.grab():
            return False
        self._n_grabbed += 1
        self._grabbed_s, self._t_capture = time.perf_counter(), time.time()
        return True

    def retrieve(self) -> CapturedFrame:
        """Decode the grabbed frame; raises DataError where it cannot be."""
        done, image = self._capture.retrieve()
        if not done or image is None:
            raise DataError(f"cannot decode frame {self._n_grabbed - 1} of {self.source_id}")
        capture_ms = 1000.0 * (time.perf_counter() - self._started_s)
        return CapturedFrame(as_frame(image), self._n_grabbed - 1, self._t_capture, self._grabbed_s, capture_ms, None)

    def close(self) -> None:
        """Release the capture."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


class VideoSource(_CaptureSource):
    """A video file: every frame, in order, then the end."""

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self._file = file

    def open(self) -> None:
        """Open the file; raises SourceError where OpenCV has no decoder for it."""
        cv2 = _quiet_cv2()
        self._capture = cv2.VideoCapture(str(self._file))
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"cannot open source {self.source_id}: OpenCV finds no video in it; "
                "expected a video file, an image or a folder of images"
            )

    @property
    def frame_rate(self) -> float:
        """Frames a second as the file says; 0 where it does not. For an open source."""
        rate = float(self._capture.get(_quiet_cv2().CAP_PROP_FPS))
        return rate if math.isfinite(rate) and rate > 0 else 0.0

    @property
    def n_frames(self) -> int:
        """Frames in the file as its header says, which can be wrong; 0 where it does not. For an open source."""
        return max(0, int(self._capture.get(_quiet_cv2().CAP_PROP_FRAME_COUNT)))


class CameraSource(_CaptureSource):
    """A V4L2 camera by index; the newest frame wins."""

    def __init__(self, index: int) -> None:
        super().__init__(f"camera:{index}")
        self._index = index
        self._check_present()

    def open(self) -> None:
        """Open the camera; raises SourceError where it is absent, busy or gives no frame."""
        self._check_present()
        cv2 = _quiet_cv2()
        self._capture = cv2.VideoCapture(self._index, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            self.close()
            raise SourceError(
                f"cannot open camera {self._index}: /dev/video{self._index} is busy, not a capture device, "
                "or not permitted (is this user in group video?)"
            )
        # One buffer, so that a slow scorer sees the newest frame and not a queue of old ones.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def grab(self) -> bool:
        """Take the next frame; raises SourceError when the camera gives none."""
        if not super().grab():
            raise SourceError(f"lost camera {self._index} after {self._n_grabbed} frames: it gives no frame any more")
        return True

    def _check_present(self) -> None:
        device = Path(f"/dev/video{self._index}")
        if os.name == "posix" and Path("/dev").is_dir() and not device.exists():
            present = ", ".join(sorted(path.name for path in Path("/dev").glob("video*"))) or "none"
            raise SourceError(f"cannot open camera {self._index}: there is no {device} (present: {present})")


def _quiet_cv2() -> Any:
    """OpenCV without its own lines on standard error: our one line says what went wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = require("cv2", extra="camera", purpose="cameras and videos")
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    return cv2
