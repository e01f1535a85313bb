"""Frames through pipes: a gst-launch-1.0 or ffmpeg child where OpenCV cannot, and standard input."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.model.images import decoded
from edge_runtime.redact import redact
from edge_runtime.sources.bayer import demosaiced
from edge_runtime.sources.byte_streams import MAX_FRAME_BYTES, ByteSource, HeldBytes, next_jpeg
from edge_runtime.sources.codecs import codec_inter_coded, pipeline_inter_coded
from edge_runtime.sources.contract import CaptureSettings
from edge_runtime.sources.quiet import quiet_cv2
from edge_runtime.systems.pipes import readable

__all__ = ["ChildSource", "StdinSource", "ffmpeg_command", "gstreamer_command"]

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
"""Bytes a read asks for."""

MAX_HEADER = 256
"""Bytes of a Y4M header or frame line at most."""

MOST_SAID, MAX_SAID = 20, 1000
"""Lines that are kept of what a child says, and bytes of one."""

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


class _Bytes(HeldBytes):
    """Bytes from a file descriptor, waited for with a limit."""

    def __init__(self, descriptor: int, timeout_s: float | None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.timeout_s = timeout_s
        self.closed = False

    def more(self) -> bool:
        """Wait for more bytes; False at the end of the stream. Raises TimeoutError."""
        deadline = None if self.timeout_s is None else time.monotonic() + self.timeout_s
        while not self.closed:
            if readable(self._descriptor, POLL_S):
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


class ChildSource(ByteSource):
    """A child process that writes YUV4MPEG2 (I420) to its standard output: one small format that names its size."""

    live = True

    def __init__(self, source_id: str, command: Sequence[str], settings: CaptureSettings | None = None) -> None:
        super().__init__(source_id, settings)
        self._bytes: _Bytes | None = None
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._size = (0, 0)
        self._said: deque[str] = deque(maxlen=MOST_SAID)
        self._codec = ""
        self._listener: threading.Thread | None = None

    @property
    def inter_coded(self) -> bool:
        """By the codec that FFmpeg says it decodes, or the decoders that a GStreamer pipeline names."""
        if Path(self._command[0]).name.startswith("gst-launch"):
            return pipeline_inter_coded(" ".join(self._command[2:]))
        return codec_inter_coded(self._codec)

    def open(self) -> None:
        """Start the child and read the stream's header; raises SourceError with the child's own words."""
        self.close()
        logger.info("%s: frames come through a child process, %s", self.described(), self._command[0])
        self._child = subprocess.Popen(
            _ending_with_us(self._command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._said.clear()
        self._codec = ""
        # Read all the time: a child whose words nobody reads stands still once the pipe is full of them.
        self._listener = threading.Thread(target=self._listen, args=(self._child.stderr,), daemon=True)
        self._listener.start()
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
            raise SourceError(f"{self.described()} is closed", code="LOST")
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
        child, listener = self._child, self._listener
        if child is not None and listener is not None:
            child.terminate()
            listener.join(0.5)
        said = list(self._said)
        self.close()
        words = f": {said[-1]}" if said else ""
        return SourceError(redact(f"source {self.described()}: {self._command[0]} {reason}{words}"), code=code)

    def _listen(self, stream: IO[bytes]) -> None:
        """Take note of what the child says until it ends: the codec that it decodes, and its last words."""
        with stream:
            for line in iter(lambda: stream.readline(MAX_SAID), b""):
                text = line.decode("utf-8", errors="replace").strip()
                found = re.search(r"Stream #\S+.*?: Video: (\w+)", text)
                if found:
                    self._codec = self._codec or found[1]
                elif text and "[info]" not in text:
                    self._said.append(re.sub(r"\[(error|fatal|warning)\] ", "", text))


class StdinSource(ByteSource):
    """Standard input: Motion JPEG, or raw frames of a stated size. Every frame, in order; the pipe holds the writer."""

    live = False

    def __init__(self, settings: CaptureSettings | None = None, descriptor: int | None = None) -> None:
        """descriptor: another file descriptor than standard input's."""
        super().__init__("-", settings)
        self._bytes: _Bytes | None = None
        self._descriptor = descriptor

    def open(self) -> None:
        """Nothing is read yet."""
        self._bytes = _Bytes(sys.stdin.fileno() if self._descriptor is None else self._descriptor, None)

    def grab(self) -> bool:
        """Read the next frame's bytes; False at the end. A last frame that is cut short is not one, and is said."""
        if self._bytes is None:
            return False
        self._started_s = time.perf_counter()
        content = self._jpeg(self._bytes) if self._settings.raw is None else self._raw(self._bytes)
        if content is None and self._n_grabbed == 0 and not len(self._bytes) and not self._bytes.closed:
            logger.warning("nothing came on standard input, expected frames; does what writes there run?")
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
        content = next_jpeg(stream, "standard input")
        if content is None and len(stream):
            logger.warning("standard input ends within a frame: %d bytes of one are left out", len(stream))
        return content

    def _place(self) -> str:
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
    return ["ffmpeg", "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info", *transport,
            "-fflags", "nobuffer", "-i", url, "-an", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-"]  # fmt: skip
