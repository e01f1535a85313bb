"""Motion JPEG over HTTP, read here: each frame is checked whole before it is decoded, which FFmpeg does not do.

FFmpeg fills up a frame that was cut with the rows of the one before. What a URL gives that is no Motion JPEG is left to
another source.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from numpy.typing import NDArray

from edge_runtime.errors import DataError, FrameError, SourceError, TornFrameError
from edge_runtime.image_files.wholeness import is_whole
from edge_runtime.model.images import decoded
from edge_runtime.serving.deadline import Deadline
from edge_runtime.sources.byte_streams import ByteSource, HeldBytes, next_jpeg
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, FrameSource, SourceContext
from edge_runtime.sources.probe import why_unreachable

__all__ = ["HttpSource", "MotionJpegSource"]

CHUNK = 1 << 16
"""Bytes a read asks for at most."""

MAX_BOUNDARY = 200
"""Bytes of a line between frames; RFC 2046 allows 70 and two hyphens."""

REDIRECTS = 5
REDIRECT_STATUS = (301, 302, 303, 307, 308)


class HttpSource(SourceContext):
    """What an http:// or https:// URL gives: Motion JPEG as MotionJpegSource reads it, else as another source does."""

    live = True

    def __init__(self, url: str, other: FrameSource, settings: CaptureSettings | None = None) -> None:
        """other: of the same URL, for streams that are no Motion JPEG."""
        self.source_id = url
        self._motion_jpeg = MotionJpegSource(url, settings)
        self._other = other
        self._used: FrameSource = other

    @property
    def inter_coded(self) -> bool:
        """As of the source that reads the stream."""
        return self._used.inter_coded

    def take_name(self, name: str) -> None:
        """As of any source; messages come from those that read the stream."""
        super().take_name(name)
        for source in (self._motion_jpeg, self._other):
            if isinstance(source, SourceContext):
                source.take_name(name)

    def open(self) -> None:
        """Open the stream, looked at anew each time; raises SourceError that says what the other side answered."""
        self.close()
        if self._motion_jpeg.opens():
            self._used = self._motion_jpeg
            return
        self._used = self._other
        if isinstance(self._other, SourceContext):
            self._other.take_levels(self.levels)
        self._other.open()

    def grab(self) -> bool:
        """Take the next frame; raises SourceError when the source gives none."""
        return self._used.grab()

    def retrieve(self) -> CapturedFrame:
        """The frame last grabbed; raises TornFrameError for one that is not whole, DataError for other damage."""
        return self._used.retrieve()

    def close(self) -> None:
        """Close what is open."""
        self._used.close()


class MotionJpegSource(ByteSource):
    """JPEGs one after the other in the answer of an HTTP server, found by their markers and the boundary between them.

    What a server states as the length of a part is not read. Certificates are not checked, as FFmpeg checks none.
    """

    live = True

    def __init__(self, url: str, settings: CaptureSettings | None = None) -> None:
        super().__init__(url, settings)
        self._url = url
        self._bytes: _Answer | None = None
        self._boundary = b""

    def open(self) -> None:
        """Open the stream; raises SourceError where it is none."""
        if not self.opens():
            raise SourceError(f"cannot open source {self.described()}: it is no Motion JPEG", code="UNSUPPORTED")

    def opens(self) -> bool:
        """Open the stream where it is Motion JPEG; False, and nothing open, where it is something else.

        Raises SourceError where the other side does not answer, or refuses.
        """
        self.close()
        if _through_proxy(self._url):
            return False
        timeout_s = self._settings.open_timeout_s
        with Deadline(timeout_s) as deadline:
            try:
                answer = _asked(self._url, deadline)
                if answer is None:
                    return False
                self._bytes = answer
                # The line between the frames, as it comes and not as it was announced.
                while not (held := answer.begin.lstrip(b"\r\n")) or (held.startswith(b"--") and b"\n" not in held):
                    if len(held) > MAX_BOUNDARY or not answer.more():
                        break
                if deadline.is_over:
                    raise TimeoutError
            except (OSError, ValueError, HTTPException) as error:
                self.close()
                if isinstance(error, HTTPException) and not deadline.is_over:
                    return False  # no HTTP that we know: FFmpeg may
                if deadline.is_over:
                    code, reason = "TIMEOUT", f"it gave no frame within {timeout_s:g} s"
                else:
                    code, reason = why_unreachable(self._url, timeout_s=min(3.0, timeout_s))
                raise SourceError(f"cannot open source {self.described()}: {reason}", code=code) from error
        if held.startswith(b"--"):
            line = held.split(b"\n", 1)[0].rstrip()
            self._boundary = line if 4 <= len(line) <= MAX_BOUNDARY else b""
        elif not held.startswith(b"\xff\xd8") and not answer.is_multipart:
            self.close()
            return False
        else:
            self._boundary = b""
        answer.take_over(self._settings.read_timeout_s)
        return True

    def grab(self) -> bool:
        """Read the next frame's bytes, those of one that is not whole too; raises SourceError where none comes."""
        stream = self._bytes
        if stream is None:
            raise SourceError(f"{self.described()} is closed", code="LOST")
        self._started_s = time.perf_counter()
        stream.expect_within()
        called = self.described()
        try:
            content = next_jpeg(stream, called, self._boundary)
        except TimeoutError as error:
            wait_s = self._settings.read_timeout_s
            raise SourceError(f"lost {called}: it gave no frame for {wait_s:g} s", code="TIMEOUT") from error
        except (OSError, ValueError, HTTPException) as error:
            raise SourceError(f"lost {called} after {self._n_grabbed} frames: {error}", code="LOST") from error
        if content is None and len(stream):
            content = stream.take(len(stream))  # of the frame at which the link broke: counted, and refused as torn
        if content is None:
            raise SourceError(f"lost {called} after {self._n_grabbed} frames: it gives no frame any more", code="LOST")
        return self._grabbed(content)

    def retrieve(self) -> CapturedFrame:
        """Decode the grabbed frame; raises TornFrameError where it is not whole, DataError for other damage."""
        if not is_whole(self._content):
            raise TornFrameError(
                f"frame {self._n_grabbed - 1} of {self.described()} is {len(self._content)} bytes, "
                "which end before its picture does"
            )
        try:
            return super().retrieve()
        except FrameError as error:
            raise DataError(str(error)) from error

    def close(self) -> None:
        """Close the connection."""
        if self._bytes is not None:
            self._bytes.close()
            self._bytes = None

    def _decoded(self, content: bytes, called: str) -> NDArray[Any]:
        return decoded(content, called=called)


class _Answer(HeldBytes):
    """The body of an answer, as it comes."""

    def __init__(self, connection: socket.socket, response: HTTPResponse) -> None:
        super().__init__()
        self._connection, self._response = connection, response
        self._timeout_s: float | None = None
        self._end_s = 0.0
        self.is_multipart = response.headers.get_content_maintype() == "multipart"

    @property
    def begin(self) -> bytes:
        return bytes(self._held[: 2 * MAX_BOUNDARY])

    def take_over(self, timeout_s: float) -> None:
        """From here on each frame has so long, however slowly its bytes come."""
        self._timeout_s = timeout_s

    def expect_within(self) -> None:
        """The time of the next frame begins."""
        if self._timeout_s is not None:
            self._end_s = time.monotonic() + self._timeout_s

    def more(self) -> bool:
        if self._timeout_s is not None:
            left_s = self._end_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError
            self._connection.settimeout(left_s)
        try:
            content = self._response.read1(CHUNK)
        except (ConnectionError, HTTPException):
            return False  # the end of a stream without one
        self._held += content
        return bool(content)

    def close(self) -> None:
        with suppress(OSError):
            self._response.close()
        with suppress(OSError):
            self._connection.close()


def _through_proxy(url: str) -> bool:
    """Whether the environment names a proxy for a URL: FFmpeg takes it."""
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


def _asked(url: str, deadline: Deadline) -> _Answer | None:
    """The answer to a GET, redirects followed; None for a status that has no frames. Raises OSError, HTTPException and
    ValueError, as for an answer of 400 and more."""
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii") if user else None
    target = parts
    for _ in range(REDIRECTS + 1):
        connection, response = _got(target, authorization, deadline)
        if response.status == 200:
            return _Answer(connection, response)
        challenge = response.headers.get("WWW-Authenticate", "")
        place = response.headers.get("Location", "")
        status = response.status
        response.close()
        connection.close()
        if status in REDIRECT_STATUS and place:
            target = urlsplit(urljoin(urlunsplit(target), place))
            if (target.scheme, target.hostname) != (parts.scheme, parts.hostname):
                authorization = None  # a password is for the host that it was given for
            if target.scheme not in ("http", "https"):
                return None
        elif (
            status == 401
            and user
            and authorization
            and authorization.startswith("Basic ")
            and "digest" in challenge.lower()
        ):
            authorization = _digest(target, user, password, challenge)
        elif status >= 400:
            raise ValueError(f"answers {status}")
        else:
            return None
    return None


def _got(target: SplitResult, authorization: str | None, deadline: Deadline) -> tuple[socket.socket, HTTPResponse]:
    host, port = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    if not host:
        raise ValueError("it names no host")
    connection = deadline.hold(socket.create_connection((host, port), timeout=deadline.left_s))
    try:
        if target.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = context.wrap_socket(connection, server_hostname=host)
        exchange = HTTPConnection(host, port)
        exchange.sock = connection
        headers = {"User-Agent": "edge-aae", "Accept": "*/*", "Connection": "close"}
        if authorization:
            headers["Authorization"] = authorization
        exchange.request("GET", _path(target), headers=headers)
        return connection, exchange.getresponse()
    except BaseException:
        connection.close()
        raise


def _path(target: SplitResult) -> str:
    path = quote(target.path or "/", safe="/%:@!$&'()*+,;=~-._")
    return path + ("?" + quote(target.query, safe="/?%:@!$&'()*+,;=~-._") if target.query else "")


def _digest(target: SplitResult, user: str, password: str, challenge: str) -> str | None:
    """The answer to a challenge by RFC 2617; None for one that the standard library does not answer."""
    url = urlunsplit((target.scheme, target.netloc.rpartition("@")[2], _path(target), "", ""))
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, user, password)
    handler = urllib.request.AbstractDigestAuthHandler(passwords)
    begin = challenge.lower().index("digest") + len("digest")
    facts = urllib.request.parse_keqv_list(urllib.request.parse_http_list(challenge[begin:].strip()))
    answer = handler.get_authorization(urllib.request.Request(url), facts)
    return f"Digest {answer}" if answer else None
