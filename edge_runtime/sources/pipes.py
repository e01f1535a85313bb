"""Frames through pipes: a gst-launch-1.0 or ffmpeg child where OpenCV cannot, and standard input."""

from __future__ import annotations

import logging
import os
import select
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.image_files.wholeness import jpeg_end
from edge_runtime.model.images import decoded
from edge_runtime.redact import redact
from edge_runtime.sources.bayer import demosaiced
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["ChildSource", "StdinSource", "ffmpeg_command", "gstreamer_command"]

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
"""Bytes a read asks for."""

MAX_FRAME_BYTES = 256 << 20
"""A frame above this is no frame but a broken stream: memory must not follow it."""

MAX_HEADER = 256
"""Bytes of a Y4M header or frame line at most."""

POLL_S = 0.1
"""How often a wait for bytes looks whether the source was closed."""

TIE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
if os.getppid() == int(sys.argv[1]):
    try:
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
"""Of a child: end with the parent, of the number given, that is there still; then be the command."""

SOI, EOI = b"\xff\xd8\xff", b"\xff\xd9"


class _Bytes:
    """Bytes from a file descriptor, waited for with a limit."""

    def __init__(self, descriptor: int, timeout_s: float | None) -> None:
        self._descriptor = descriptor
        self.timeout_s = timeout_s
        self._held = bytearray()
        self.closed = False

    def more(self) -> bool:
        """Wait for more bytes; False at the end of the stream. Raises TimeoutError."""
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        while not self.closed:
            if select.select([self._descriptor], [], [], POLL_S)[0]:
                content = os.read(self._descriptor, CHUNK)
                self._held += content
                return bool(content)
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
        return False

    def exactly(self, n_bytes: int) -> bytes | None:
        """The next n bytes; None where the stream ends before them."""
        while len(self._held) < n_bytes:
            if not self.more():
                return None
        return self.take(n_bytes)

    def line(self) -> bytes | None:
        """The next line without its end; None at the end of the stream. Raises ValueError where none comes."""
        while (end := self._held.find(b"\n", 0, MAX_HEADER)) < 0:
            if len(self._held) >= MAX_HEADER:
                raise ValueError("no line where one was expected")
            if not self.more():
                return None
        return self.take(end + 1)[:-1]

    def find(self, marker: bytes, start: int = 0) -> int:
        return self._held.find(marker, start)

    def jpeg_end(self) -> tuple[int, bool] | None:
        """As of the module of that name, for the JPEG that the held bytes begin with."""
        return jpeg_end(self._held)

    def take(self, n_bytes: int) -> bytes:
        taken = bytes(self._held[:n_bytes])
        del self._held[:n_bytes]
        return taken

    def __len__(self) -> int:
        return len(self._held)


class _PipeSource(SourceContext, ABC):
    """What both have in common: a frame's bytes are read by grab and decoded by retrieve."""

    def __init__(self, source_id: str, settings: CaptureSettings | None) -> None:
        self.source_id = source_id
        self._settings = settings or CaptureSettings()
        self._bytes: _Bytes | None = None
        self._content = b""
        self._n_grabbed = 0
        self._started_s = self._grabbed_s = self._t_capture = 0.0

    def retrieve(self) -> CapturedFrame:
        """Decode the grabbed frame; raises DataError where it cannot be."""
        called = f"frame {self._n_grabbed - 1} of {self._described()}"
        image, deep = self._frame(self._decoded(self._content, called), self._settings.flip, called)
        capture_ms = 1000.0 * (time.perf_counter() - self._started_s)
        return CapturedFrame(image, self._n_grabbed - 1, self._t_capture, self._grabbed_s, capture_ms, None, deep)

    def _described(self) -> str:
        return redact(self.source_id)

    @abstractmethod
    def _decoded(self, content: bytes, called: str) -> NDArray[Any]:
        """The picture of its bytes, as as_frame takes it; raises DataError where they are none.

        called: what messages call it.
        """

    def _grabbed(self, content: bytes) -> bool:
        self._content = content
        self._n_grabbed += 1
        self._grabbed_s, self._t_capture = time.perf_counter(), time.time()
        return True


class ChildSource(_PipeSource):
    """A child process that writes YUV4MPEG2 (I420) to its standard output: one small format that names its size."""

    live = True
    inter_coded = True

    def __init__(self, source_id: str, command: Sequence[str], settings: CaptureSettings | None = None) -> None:
        super().__init__(source_id, settings)
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._size = (0, 0)

    def open(self) -> None:
        """Start the child and read the stream's header; raises SourceError with the child's own words."""
        self.close()
        logger.info("%s: frames come through a child process, %s", redact(self.source_id), self._command[0])
        self._child = subprocess.Popen(
            _ending_with_us(self._command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._child.stdout is not None
        self._bytes = _Bytes(self._child.stdout.fileno(), self._settings.open_timeout_s)
        try:
            header = self._bytes.line()
        except (TimeoutError, ValueError) as error:
            raise self._failed("TIMEOUT", f"gave no frame within {self._settings.open_timeout_s:g} s") from error
        facts = {word[:1]: word[1:] for word in (header or b"").split()}
        if header is None or not header.startswith(b"YUV4MPEG2"):
            raise self._failed("PIPELINE_FAILED", "gave no video")
        self._size = int(facts.get(b"W", b"0")), int(facts.get(b"H", b"0"))
        width, height = self._size
        if width < 2 or height < 2 or width % 2 or height % 2 or 3 * width * height // 2 > MAX_FRAME_BYTES:
            raise self._failed("UNSUPPORTED", f"gives {width}x{height} pixels, expected even sides; scale or crop it")
        self._bytes.timeout_s = self._settings.read_timeout_s

    def grab(self) -> bool:
        """Read the next frame; raises SourceError where the child ended or gives none."""
        if self._bytes is None:
            raise SourceError(f"{redact(self.source_id)} is closed", code="LOST")
        self._started_s = time.perf_counter()
        width, height = self._size
        try:
            line = self._bytes.line()
            if line is not None and not line.startswith(b"FRAME"):
                raise self._failed("LOST", "sends something else than frames")
            content = None if line is None else self._bytes.exactly(3 * width * height // 2)
        except TimeoutError as error:
            raise self._failed("TIMEOUT", f"gave no frame for {self._settings.read_timeout_s:g} s") from error
        except ValueError as error:
            raise self._failed("LOST", "sends something else than frames") from error
        if content is None:
            raise self._failed("LOST", f"ended after {self._n_grabbed} frames")
        return self._grabbed(content)

    def close(self) -> None:
        """End the child."""
        if self._bytes is not None:
            self._bytes.closed = True
            self._bytes = None
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
            for stream in (self._child.stdout, self._child.stderr):
                if stream is not None:
                    stream.close()
            self._child = None

    def _decoded(self, content: bytes, called: str) -> NDArray[Any]:
        cv2 = quiet_cv2()
        width, height = self._size
        planes = np.frombuffer(content, dtype=np.uint8).reshape(height * 3 // 2, width)
        image: NDArray[Any] = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        return image

    def _failed(self, code: str, reason: str) -> SourceError:
        """The error, with what the child said last on its standard error; the child is ended."""
        said = b""
        if self._child is not None and self._child.stderr is not None:
            self._child.terminate()
            try:
                said = self._child.communicate(timeout=0.5)[1]
            except (subprocess.TimeoutExpired, ValueError):
                said = b""
        self.close()
        last = [line.strip() for line in said.decode("utf-8", errors="replace").splitlines() if line.strip()]
        words = f": {last[-1]}" if last else ""
        return SourceError(redact(f"source {self.source_id}: {self._command[0]} {reason}{words}"), code=code)


class StdinSource(_PipeSource):
    """Standard input: Motion JPEG, or raw frames of a stated size. Every frame, in order; the pipe holds the writer."""

    live = False

    def __init__(self, settings: CaptureSettings | None = None, descriptor: int | None = None) -> None:
        """descriptor: another file descriptor than standard input's."""
        super().__init__("-", settings)
        self._descriptor = descriptor
        self._n_cut = 0

    def open(self) -> None:
        """Nothing is read yet."""
        self._bytes = _Bytes(sys.stdin.fileno() if self._descriptor is None else self._descriptor, None)

    def grab(self) -> bool:
        """Read the next frame's bytes; False at the end. A last frame that is cut short is not one, and is said."""
        if self._bytes is None:
            return False
        self._started_s = time.perf_counter()
        content = self._jpeg(self._bytes) if self._settings.raw is None else self._raw(self._bytes)
        return False if content is None else self._grabbed(content)

    def close(self) -> None:
        """Stop waiting; the descriptor stays open, it is not ours."""
        if self._bytes is not None:
            self._bytes.closed = True
            self._bytes = None

    def _raw(self, stream: _Bytes) -> bytes | None:
        width, height, channels = self._settings.raw or (0, 0, 0)
        content = stream.exactly(width * height * channels)
        if content is None and len(stream):
            logger.warning("standard input ends within a frame: %d bytes of one are left out", len(stream))
        return content

    def _jpeg(self, stream: _Bytes) -> bytes | None:
        while (start := stream.find(SOI)) < 0:
            stream.take(max(0, len(stream) - len(SOI) + 1))
            if not stream.more():
                return None
        stream.take(start)
        searched = len(SOI)
        while True:
            # What is compressed holds no EOI, but a thumbnail in the metadata has one of its own.
            if (found := stream.find(EOI, searched)) >= 0:
                if (end := stream.jpeg_end()) is not None:
                    return stream.take(end[0])
                searched = found + len(EOI)
                continue
            searched = max(searched, len(stream) - 1)
            if len(stream) > MAX_FRAME_BYTES:
                raise SourceError(
                    f"standard input: no end of a JPEG within {MAX_FRAME_BYTES} bytes", code="UNSUPPORTED"
                )
            if not stream.more():
                if len(stream):
                    logger.warning("standard input ends within a frame: %d bytes of one are left out", len(stream))
                return None

    def _described(self) -> str:
        return "standard input"

    def _decoded(self, content: bytes, called: str) -> NDArray[Any]:
        if self._settings.raw is None:
            return decoded(content, called=called)
        width, height, channels = self._settings.raw
        image = np.frombuffer(content, dtype=np.uint8).reshape(height, width, channels)
        return image if self._settings.bayer is None else demosaiced(image[:, :, 0], self._settings.bayer)


def _ending_with_us(command: list[str]) -> list[str]:
    """The command as a child that does not outlive us, whatever ends us, and with us its hold on a camera.

    The kernel's own signal (prctl(2), PR_SET_PDEATHSIG) goes to it with the thread that starts it. Set by a program
    of its own, because nothing may run between fork and exec of a process with threads.
    """
    if not sys.platform.startswith("linux"):
        return command  # there it ends when it next writes to the pipe
    return [sys.executable, "-I", "-S", "-c", TIE, str(os.getpid()), *command]


def gstreamer_command(pipeline: str) -> list[str] | None:
    """gst-launch-1.0 for a pipeline, whose appsink becomes our pipe; None where it is not installed."""
    if shutil.which("gst-launch-1.0") is None:
        return None
    stages = [stage.strip() for stage in pipeline.split("!")]
    if stages and stages[-1].startswith("appsink"):
        stages.pop()
    ours = ["videoconvert", "video/x-raw,format=I420", "y4menc", "fdsink fd=1 sync=false"]
    return ["gst-launch-1.0", "-q", *" ! ".join([*stages, *ours]).split()]


def ffmpeg_command(url: str) -> list[str] | None:
    """ffmpeg for a URL; None where it is not installed."""
    if shutil.which("ffmpeg") is None:
        return None
    transport = ["-rtsp_transport", "tcp"] if url.startswith("rtsp") else []
    return ["ffmpeg", "-nostdin", "-loglevel", "error", *transport, "-fflags", "nobuffer", "-i", url, "-an",
            "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"]  # fmt: skip
