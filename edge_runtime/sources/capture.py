"""What OpenCV captures: V4L2 cameras, network streams, GStreamer pipelines."""

from __future__ import annotations

import glob
import logging
import os
import re
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError, SourceError
from edge_runtime.redact import redact
from edge_runtime.sources.bayer import demosaiced, mosaic_of
from edge_runtime.sources.codecs import codec_inter_coded, pipeline_inter_coded
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext
from edge_runtime.sources.probe import why_unreachable
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["CameraSource", "CaptureSource", "NetworkSource", "PipelineSource", "opencv_has", "quiet_cv2"]

logger = logging.getLogger(__name__)

V4L_TIMEOUT_VARIABLE = "OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT"
"""Seconds after which OpenCV's V4L2 grab gives up; read by OpenCV when it loads."""

JETSON_ALONE = "; csi:// works on a Jetson alone"
"""To what is said of a sensor that gives no pictures"""

CAMERA_API = {"linux": "CAP_V4L2", "win32": "CAP_DSHOW", "darwin": "CAP_AVFOUNDATION"}
"""By sys.platform what OpenCV opens cameras with; named, because its own first choice may differ between releases"""

PERMITTED = {
    "linux": "is this user in group video?",
    "win32": "do the privacy settings let desktop programs use cameras?",
    "darwin": "do the privacy settings let this terminal use cameras?",
}


class CaptureSource(SourceContext):
    """What cameras, streams and videos share: an OpenCV capture."""

    live = True

    def __init__(self, source_id: str, settings: CaptureSettings | None = None) -> None:
        self.source_id = source_id
        self._settings = settings or CaptureSettings()
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
            raise DataError(f"cannot decode frame {self._n_grabbed - 1} of {redact(self.source_id)}")
        if self._settings.bayer is not None:
            image = demosaiced(mosaic_of(image, *self._shape()), self._settings.bayer)
        frame, deep = self._frame(image, self._settings.flip, redact(self.source_id))
        capture_ms = 1000.0 * (time.perf_counter() - self._started_s)
        return CapturedFrame(frame, self._n_grabbed - 1, self._t_capture, self._grabbed_s, capture_ms, None, deep)

    @property
    def inter_coded(self) -> bool:
        """By the codec that the open capture names; True where it names none."""
        if self._capture is None:
            return True
        code = int(self._capture.get(quiet_cv2().CAP_PROP_FOURCC))
        return codec_inter_coded("".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)))

    def _shape(self) -> tuple[int, int]:
        """Rows and columns that the capture says it gives."""
        cv2 = quiet_cv2()
        return int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))

    def close(self) -> None:
        """Release the capture."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _start(self, capture: Any) -> None:
        """Keep a capture that is open; release one that is not."""
        self.close()
        self._capture = capture
        if not capture.isOpened():
            self.close()


class _LiveCapture(CaptureSource):
    def grab(self) -> bool:
        """Take the next frame; raises SourceError when the source gives none."""
        if not super().grab():
            raise SourceError(
                f"lost {self.described()} after {self._n_grabbed} frames: it gives no frame any more", code="LOST"
            )
        return True


class CameraSource(_LiveCapture):
    """A V4L2 camera by index or by device name; the newest frame wins."""

    def __init__(self, device: int | str, settings: CaptureSettings | None = None) -> None:
        """device: an index, or a stable name such as /dev/v4l/by-id/usb-..., followed anew whenever it is opened."""
        super().__init__(f"camera:{device}" if isinstance(device, int) else str(device), settings)
        self._device = device

    def open(self) -> None:
        """Open the camera; raises SourceError where it is absent, busy or gives no frame."""
        self.check_present()
        os.environ.setdefault(V4L_TIMEOUT_VARIABLE, str(max(1, round(self._settings.read_timeout_s))))
        cv2 = quiet_cv2()
        # OpenCV takes an index or a path; a link is followed here, because it may point elsewhere after a reconnect.
        device = self._device if isinstance(self._device, int) else os.path.realpath(self._device)
        self._start(cv2.VideoCapture(device, getattr(cv2, camera_api())))
        if self._capture is None:
            raise SourceError(
                f"cannot open {self.described()}: {self._path} is busy, not a capture device, "
                f"or not permitted ({PERMITTED.get(sys.platform, PERMITTED['linux'])})",
                code="BUSY",
            )
        asked = {
            "fourcc": cv2.VideoWriter.fourcc(*self._settings.fourcc) if self._settings.fourcc else None,
            "width": self._settings.width,
            "height": self._settings.height,
            "fps": self._settings.fps,
        }
        names = {"fourcc": "CAP_PROP_FOURCC", "width": "CAP_PROP_FRAME_WIDTH", "height": "CAP_PROP_FRAME_HEIGHT",
                 "fps": "CAP_PROP_FPS"}  # fmt: skip
        for setting, value in asked.items():
            if value is not None:
                self._ask(setting, getattr(cv2, names[setting]), value)
        if self._settings.bayer is not None and not self._capture.set(cv2.CAP_PROP_CONVERT_RGB, 0):
            raise SourceError(
                f"cannot open {self.described()}: OpenCV does not give its raw pixels; leave --bayer out",
                code="UNSUPPORTED",
            )
        # One buffer, so that a slow scorer sees the newest frame and not a queue of old ones.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def _ask(self, setting: str, code: int, value: float) -> None:
        self._capture.set(code, value)
        given = self._capture.get(code)
        if abs(given - value) > 0.01 * abs(value):
            logger.warning("%s: asked for %s %s, the camera gives %s", self.source_id, setting, value, given)

    @property
    def _path(self) -> str:
        if isinstance(self._device, int):
            return f"/dev/video{self._device}" if sys.platform == "linux" else "it"
        return self._device

    def _place(self) -> str:
        return f"camera {self._device}"

    def check_present(self) -> None:
        """Raise SourceError where the device is not there."""
        if sys.platform != "linux":
            if isinstance(self._device, str):
                raise SourceError(
                    f"cannot open {self.described()}: cameras have names on Linux alone; expected an index such as 0",
                    code="NOT_FOUND",
                )
            return  # nothing lists them without opening them
        if not Path(self._path).exists():
            found = sorted(glob.glob("/dev/v4l/by-id/*")) if isinstance(self._device, str) else []
            found = found or sorted(path.name for path in Path("/dev").glob("video*"))
            raise SourceError(
                f"cannot open {self.described()}: there is no {self._path} (present: {', '.join(found) or 'none'})",
                code="NOT_FOUND",
            )


class NetworkSource(_LiveCapture):
    """An RTSP or HTTP stream through OpenCV's FFmpeg."""

    def __init__(self, url: str, settings: CaptureSettings | None = None) -> None:
        super().__init__(url, settings)
        self._url = url

    def open(self) -> None:
        """Open the stream within the timeout; raises SourceError that says what the other side answered."""
        cv2 = quiet_cv2()
        timeouts = [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            round(1000 * self._settings.open_timeout_s),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            round(1000 * self._settings.read_timeout_s),
        ]
        self._start(cv2.VideoCapture(self._url, cv2.CAP_FFMPEG, timeouts))
        if self._capture is None:
            code, reason = why_unreachable(self._url, timeout_s=min(3.0, self._settings.open_timeout_s))
            raise SourceError(f"cannot open source {self.described()}: {reason}", code=code)


class PipelineSource(_LiveCapture):
    """A GStreamer pipeline through an OpenCV that was built with GStreamer."""

    @property
    def inter_coded(self) -> bool:
        """By the decoders that the pipeline names; OpenCV does not tell what they decode."""
        return pipeline_inter_coded(self._pipeline)

    def __init__(self, source_id: str, pipeline: str, settings: CaptureSettings | None = None) -> None:
        """pipeline: as gst-launch-1.0 takes it, ending in an appsink that gets BGR."""
        super().__init__(source_id, settings)
        self._pipeline = pipeline

    def open(self) -> None:
        """Start the pipeline; raises SourceError where it does not run."""
        cv2 = quiet_cv2()
        self._start(cv2.VideoCapture(self._pipeline, cv2.CAP_GSTREAMER))
        if self._capture is None:
            raise SourceError(
                f"cannot open source {self.described()}: the pipeline does not run; try it with gst-launch-1.0 "
                f"and fakesink in place of appsink{JETSON_ALONE if 'nvargus' in self._pipeline else ''}",
                code="PIPELINE_FAILED",
            )


def camera_api() -> str:
    """The name of OpenCV's constant for cameras of this system."""
    return CAMERA_API.get(sys.platform, "CAP_ANY")


@cache
def opencv_has(feature: str) -> bool:
    """Whether OpenCV was built with a feature, FFMPEG or GStreamer; its list of backends names absent ones too."""
    return bool(re.search(rf"^\s*{feature}:\s+YES", quiet_cv2().getBuildInformation(), re.MULTILINE))
