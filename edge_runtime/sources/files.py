"""Files as sources: images, each once, and video files; every frame, in order."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import DataError, FrameError, SourceError
from edge_runtime.image_files.listing import FORMATS, unread_pictures
from edge_runtime.model.images import decoded, read_bytes
from edge_runtime.sources.capture import CaptureSource
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["ImageSource", "VideoSource"]

logger = logging.getLogger(__name__)


class ImageSource(SourceContext):
    """Image files in the order given, as often as settings.loop says."""

    live = False

    def __init__(self, source_id: str, files: Sequence[Path], settings: CaptureSettings | None = None) -> None:
        self.source_id = source_id
        self._settings = settings or CaptureSettings()
        self._files = files
        self._n_grabbed = 0
        self._grabbed_s = 0.0
        self._t_capture = 0.0

    def open(self) -> None:
        """Raise SourceError where there is no image."""
        if not self._files:
            unread = unread_pictures(Path(self.source_id))
            raise SourceError(
                f"cannot open source {self.source_id}: it holds no {FORMATS} image{f'; {unread}' if unread else ''}",
                code="NOT_FOUND",
            )

    def grab(self) -> bool:
        """Step to the next file; False after the last."""
        if self._settings.loop and self._n_grabbed >= self._settings.loop * len(self._files):
            return False
        self._n_grabbed += 1
        self._grabbed_s, self._t_capture = time.perf_counter(), time.time()
        return True

    def retrieve(self) -> CapturedFrame:
        """Read and decode the file; raises DataError where it cannot be."""
        file = self._files[(self._n_grabbed - 1) % len(self._files)]
        picture = decoded(read_bytes(file), called=str(file))
        try:
            image, deep = self._frame(picture, self._settings.flip, str(file))
        except FrameError as error:
            raise DataError(f"{file}: {error}") from error
        capture_ms = 1000.0 * (time.perf_counter() - self._grabbed_s)
        return CapturedFrame(image, self._n_grabbed - 1, self._t_capture, self._grabbed_s, capture_ms, str(file), deep)

    def close(self) -> None:
        """Nothing to release."""


class VideoSource(CaptureSource):
    """A video file: every frame, in order, as often as settings.loop says, then the end."""

    live = False

    def __init__(self, file: Path, settings: CaptureSettings | None = None) -> None:
        super().__init__(str(file), settings)
        self._file = file
        self._played = 0
        self._n_at_start = 0

    def open(self) -> None:
        """Open the file; raises SourceError where OpenCV has no decoder for it."""
        self._start(quiet_cv2().VideoCapture(str(self._file)))
        if self._capture is None:
            raise SourceError(
                f"cannot open source {self.source_id}: OpenCV finds no video in it; "
                "expected a video file, an image or a folder of images",
                code="UNSUPPORTED",
            )

    def grab(self) -> bool:
        """Take the next frame, from the start again where the file is played more than once; False at the end."""
        while not super().grab():
            self._played += 1
            played_out = self._settings.loop and self._played >= self._settings.loop
            if played_out or self._n_grabbed == self._n_at_start:
                return False
            self.close()
            self.open()
            self._n_at_start = self._n_grabbed
        return True

    @property
    def frame_rate(self) -> float:
        """Frames a second as the file says; 0 where it does not. For an open source."""
        rate = float(self._capture.get(quiet_cv2().CAP_PROP_FPS))
        return rate if math.isfinite(rate) and rate > 0 else 0.0

    @property
    def n_frames(self) -> int:
        """Frames in the file as its header says, which can be wrong; 0 where it does not. For an open source."""
        return max(0, int(self._capture.get(quiet_cv2().CAP_PROP_FRAME_COUNT)))
