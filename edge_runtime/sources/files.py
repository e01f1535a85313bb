"""Files as sources: images, each once, and video files; every frame, in order."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import DataError, FrameError, SourceError
from edge_runtime.image_files.boxes import boxes_end_beyond
from edge_runtime.image_files.listing import FORMATS, unread_pictures
from edge_runtime.model.images import decoded, read_bytes
from edge_runtime.sources.capture import CaptureSource
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["ImageSource", "VideoSource"]

logger = logging.getLogger(__name__)


MOST_TRIES = 10_000
"""Frames in a row that may be damaged before what follows is given up."""

LEAST_READ = 0.9
"""Share of an estimated number of frames below which that is said."""

MOST_SHORT = 2.5
"""Frame periods by which a whole file may end before its estimated length does."""


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
            unread = unread_pictures(Path(self.location or self.source_id))
            raise SourceError(
                f"cannot open source {self.described()}: it holds no {FORMATS} image{f'; {unread}' if unread else ''}",
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
    """A video file: every frame, in order, as often as settings.loop says, then the end.

    Frames behind damage are read too: those between take numbers. Where frames are missing the end is a SourceError.
    """

    live = False

    def __init__(self, file: Path, settings: CaptureSettings | None = None) -> None:
        super().__init__(str(file), settings)
        self._file = file
        self._played = 0
        self._n_at_start = 0
        self._n_read = self._n_lost = 0
        self._last_s = 0.0
        self._incomplete: str | None = None

    def open(self) -> None:
        """Open the file; raises SourceError where OpenCV has no decoder for it."""
        self._start(quiet_cv2().VideoCapture(str(self._file)))
        if self._capture is None:
            raise SourceError(
                f"cannot open source {self.described()}: OpenCV finds no video in it; "
                "expected a video file, an image or a folder of images",
                code="UNSUPPORTED",
            )
        self._n_read = self._n_lost = 0
        self._last_s = 0.0

    def grab(self) -> bool:
        """Take the next frame, from the start again where the file is played more than once; False at the end.

        Raises SourceError, once, at the end of a file that is cut or damaged: how many of its frames were read.
        """
        while not self._next():
            self._incomplete = self._incomplete or self._what_is_missing()
            self._played += 1
            played_out = self._settings.loop and self._played >= self._settings.loop
            if played_out or self._n_grabbed == self._n_at_start:
                if self._incomplete is not None:
                    reason, self._incomplete = self._incomplete, None
                    self._n_read, self._n_lost = self.n_frames, 0  # said, and not again
                    raise SourceError(reason, code="INCOMPLETE")
                return False
            self.close()
            self.open()
            self._n_at_start = self._n_grabbed
        return True

    def _next(self) -> bool:
        """Take the next frame that can be read, as far behind damage as the header knows of frames."""
        n_tries = 1 + max(0, min(MOST_TRIES, self.n_frames - self._n_read - self._n_lost))
        for n_failed in range(n_tries):
            if super().grab():
                self._n_grabbed += n_failed
                if n_failed:
                    logger.warning("%s: %d frames before frame %d are damaged and left out", self.described(), n_failed,
                                   self._n_grabbed - 1)  # fmt: skip
                self._n_read, self._n_lost = self._n_read + 1, self._n_lost + n_failed
                self._last_s = float(self._capture.get(quiet_cv2().CAP_PROP_POS_MSEC)) / 1000.0
                return True
        return False

    def _what_is_missing(self) -> str | None:
        """How many frames are, in words; None where all are there, as far as the file tells."""
        expected, n_read, n_lost = self.n_frames, self._n_read, self._n_lost
        if n_lost == 0 and (n_read >= expected or not self._ends_early(expected)):
            if n_read < LEAST_READ * expected:
                logger.warning(
                    "%s: %d frames read, of about %d by its header: it is damaged, or their rate varies",
                    self.described(), n_read, expected,
                )  # fmt: skip
            return None
        return (
            f"{self.described()} is cut or damaged: {n_read} of {max(expected, n_read + n_lost)} frames could be read, "
            "the others were not looked at; take or copy it again"
        )

    def _ends_early(self, expected: int) -> bool:
        """Whether fewer frames than expected mean that some are missing.

        An AVI counts its frames. An MP4 counts also those that an edit leaves out: it is cut where a box is. Of others
        the count is an estimate, from how long they are: they are cut where the last frame comes early.
        """
        with self._file.open("rb") as content:
            begin = content.read(8)
        if begin[:4] == b"RIFF":
            return True
        if begin[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return boxes_end_beyond(self._file)
        rate = self.frame_rate
        return rate > 0 and self._last_s < (expected - 1 - MOST_SHORT) / rate

    @property
    def frame_rate(self) -> float:
        """Frames a second as the file says; 0 where it does not. For an open source."""
        rate = float(self._capture.get(quiet_cv2().CAP_PROP_FPS))
        return rate if math.isfinite(rate) and rate > 0 else 0.0

    @property
    def n_frames(self) -> int:
        """Frames in the file as its header says, which can be wrong; 0 where it does not. For an open source."""
        return max(0, int(self._capture.get(quiet_cv2().CAP_PROP_FRAME_COUNT)))
