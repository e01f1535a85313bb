"""Frames out of streams of bytes, pipes and network alike: JPEGs found by their own markers, decoded when wanted."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from numpy.typing import NDArray

from edge_runtime.errors import SourceError
from edge_runtime.image_files.wholeness import jpeg_end
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext

__all__ = ["MAX_FRAME_BYTES", "ByteSource", "HeldBytes", "next_jpeg"]

MAX_FRAME_BYTES = 256 << 20
"""A frame above this is no frame but a broken stream: memory must not follow it."""

SOI, EOI = b"\xff\xd8\xff", b"\xff\xd9"


class HeldBytes(ABC):
    """Bytes that came and were not taken yet."""

    def __init__(self) -> None:
        self._held = bytearray()

    @abstractmethod
    def more(self) -> bool:
        """Wait for more bytes; False at the end of the stream. Raises TimeoutError."""

    def find(self, marker: bytes, start: int = 0) -> int:
        return self._held.find(marker, start)

    def jpeg_end(self, n_bytes: int | None = None) -> tuple[int, bool] | None:
        """As of the module of that name, for the JPEG that the held bytes, or the first n of them, begin with."""
        return jpeg_end(self._held if n_bytes is None else self._held[:n_bytes])

    def take(self, n_bytes: int) -> bytes:
        taken = bytes(self._held[:n_bytes])
        del self._held[:n_bytes]
        return taken

    def __len__(self) -> int:
        return len(self._held)


def next_jpeg(stream: HeldBytes, called: str, boundary: bytes = b"") -> bytes | None:
    """The next JPEG's bytes, cut where another one or the boundary comes before its end; None at the end of the stream.

    What a stream that ends within a JPEG leaves of it stays in the stream. boundary: what stands between frames, where
    something does. Raises SourceError, by `called`, where no end comes within MAX_FRAME_BYTES.
    """
    while (start := stream.find(SOI)) < 0:
        stream.take(max(0, len(stream) - len(SOI) + 1))
        if not stream.more():
            stream.take(len(stream))
            return None
    stream.take(start)
    searched = for_boundary = len(SOI)
    while True:
        bound = stream.find(boundary, for_boundary) if boundary else -1
        # What is compressed holds no EOI, but a thumbnail in the metadata has one of its own.
        if (found := stream.find(EOI, searched)) >= 0 and not 0 <= bound < found:
            end = stream.jpeg_end(None if bound < 0 else bound)
            if end is not None:
                return stream.take(end[0])
            searched = found + len(EOI)
            continue
        if bound >= 0:
            return stream.take(bound)
        searched = max(searched, len(stream) - 1)
        for_boundary = max(for_boundary, len(stream) - len(boundary) + 1)
        if len(stream) > MAX_FRAME_BYTES:
            raise SourceError(f"{called}: no end of a JPEG within {MAX_FRAME_BYTES} bytes", code="UNSUPPORTED")
        if not stream.more():
            return None


class ByteSource(SourceContext, ABC):
    """A source whose grab reads a frame's bytes and whose retrieve decodes them."""

    def __init__(self, source_id: str, settings: CaptureSettings | None) -> None:
        self.source_id = source_id
        self._settings = settings or CaptureSettings()
        self._content = b""
        self._n_grabbed = 0
        self._started_s = self._grabbed_s = self._t_capture = 0.0

    def retrieve(self) -> CapturedFrame:
        """Decode the grabbed frame; raises DataError where it cannot be."""
        called = f"frame {self._n_grabbed - 1} of {self.described()}"
        image, deep = self._frame(self._decoded(self._content, called), self._settings.flip, called)
        capture_ms = 1000.0 * (time.perf_counter() - self._started_s)
        return CapturedFrame(image, self._n_grabbed - 1, self._t_capture, self._grabbed_s, capture_ms, None, deep)

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
