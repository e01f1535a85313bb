"""Motion JPEG over HTTP: torn frames are counted and never given, and no server's figure keeps whole ones away."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backoff import Backoff
from edge_runtime.errors import SourceError, TornFrameError
from edge_runtime.sources import CapturedFrame, CaptureSettings, FrameSource, source_from
from edge_runtime.stream.feed import Feed, FeedSettings
from tests.edge_runtime.waiting import wait_until

N = 6
HEADER = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
Part = Callable[[bytes], bytes]


def picture(index: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)


def jpeg(index: int) -> bytes:
    done, content = cv2.imencode(".jpg", picture(index))
    assert done
    return content.tobytes()


def part(content: bytes, stated: int | None = None) -> bytes:
    length = b"" if stated is None else b"Content-Length: %d\r\n" % stated
    return b"--frame\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + content + b"\r\n"


@contextmanager
def serving(answers: list[list[bytes]], seen: list[bytes] | None = None) -> Iterator[int]:
    """A loopback server that sends the next answer, chunk by chunk, to each connection, then closes it."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.1)
    over = threading.Event()

    def serve() -> None:
        left = list(answers)
        while left and not over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(5.0)
                try:
                    request = connection.recv(4096)
                    if seen is not None:
                        seen.append(request)
                    for chunk in left.pop(0):
                        connection.sendall(chunk)
                        if over.wait(0.005):
                            break
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        over.set()
        thread.join(20.0)
        listening.close()


def given(source: FrameSource) -> tuple[list[CapturedFrame | str], str]:
    """Frames and what is said of those that are none, until the source is lost; and what is said of that."""
    found: list[CapturedFrame | str] = []
    try:
        for _ in range(100):
            source.grab()
            try:
                found.append(source.retrieve())
            except TornFrameError:
                found.append("torn")
    except SourceError as error:
        return found, error.code
    raise AssertionError("it never ends")


def assert_whole(found: CapturedFrame | str, index: int) -> None:
    assert isinstance(found, CapturedFrame)
    np.testing.assert_array_equal(found.image, cv2.imdecode(np.frombuffer(jpeg(index), np.uint8), 1))


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("states_length", [False, True])
def test_a_torn_frame_is_refused_and_those_around_it_are_whole(kept: float, states_length: bool) -> None:
    contents = [jpeg(index) for index in range(N)]
    contents[3] = contents[3][: int(kept * len(contents[3]))]
    stream = [part(content, len(content) if states_length else None) for content in contents]
    with serving([[HEADER, *stream]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, code = given(source)
    assert [isinstance(frame, str) for frame in found] == [index == 3 for index in range(N)]
    for index in set(range(N)) - {3}:
        assert_whole(found[index], index)
    assert code == "LOST"


def test_the_half_frame_at_which_the_link_breaks_is_counted_and_not_given() -> None:
    stream = [part(jpeg(0)), part(jpeg(1)), part(jpeg(2)[:3000])[:-2]]
    with serving([[HEADER, *stream]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, code = given(source)
    assert_whole(found[0], 0)
    assert_whole(found[1], 1)
    assert (found[2:], code) == (["torn"], "LOST")


@pytest.mark.parametrize("stated", [10, 5000, 10**9])
def test_a_wrong_length_keeps_no_frame_away(stated: int) -> None:
    stream = [part(jpeg(index), stated) for index in range(N)]
    with serving([[HEADER, *stream]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, _ = given(source)
    assert len(found) == N
    for index, frame in enumerate(found):
        assert_whole(frame, index)


@pytest.mark.parametrize(
    "kind", [b"image/jpeg", b"application/octet-stream", b"multipart/x-mixed-replace;boundary=--other", b"text/html"]
)
@pytest.mark.parametrize("bare", [False, True])
def test_frames_are_found_by_their_bytes_whatever_the_answer_calls_itself(kind: bytes, bare: bool) -> None:
    header = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n"
    stream = [jpeg(index) if bare else part(jpeg(index)) for index in range(N)]
    with serving([[header, *stream]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, _ = given(source)
    assert len(found) == N
    for index, frame in enumerate(found):
        assert_whole(frame, index)


def test_an_answer_in_chunks_is_read() -> None:
    header = HEADER.replace(b"HTTP/1.0", b"HTTP/1.1").replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    body = b"".join(part(jpeg(index)) for index in range(N))
    chunks = [b"%x\r\n%s\r\n" % (len(body[at : at + 7001]), body[at : at + 7001]) for at in range(0, len(body), 7001)]
    with serving([[header, *chunks]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, _ = given(source)
    assert len(found) == N


def test_passwords_go_as_basic_and_as_digest_and_are_not_said() -> None:
    challenge = b'HTTP/1.0 401 No\r\nWWW-Authenticate: Digest realm="cam", nonce="abc", qop="auth"\r\n\r\n'
    seen: list[bytes] = []
    with (
        serving([[challenge], [HEADER, part(jpeg(0))]], seen) as port,
        source_from(None, f"http://user:p%40ss@127.0.0.1:{port}/v?a=1") as source,
    ):
        assert source.grab()
        with pytest.raises(SourceError, match=r"lost http://\*\*\*@127") as caught:
            source.grab()
    assert "p%40ss" not in str(caught.value)
    assert b"Authorization: Basic " + base64.b64encode(b"user:p@ss") in seen[0]
    assert b'Authorization: Digest username="user"' in seen[1]
    assert b'uri="/v?a=1"' in seen[1]


def test_a_server_that_drips_is_given_up_in_time() -> None:
    drip = [b"x"] * 2000
    for header in (b"HTTP/1.0 200 OK\r\n", HEADER):
        settings = CaptureSettings(open_timeout_s=0.5, read_timeout_s=0.5)
        with serving([[header, *drip], [header, *drip]]) as port:
            started_s = time.monotonic()
            with (
                pytest.raises(SourceError),
                source_from(None, f"http://127.0.0.1:{port}/", settings) as source,
            ):
                source.grab()
            assert time.monotonic() - started_s < 8.0  # the drip goes on for longer


def test_what_is_refused_is_said_with_its_code() -> None:
    for status, code in (("401", "AUTH_FAILED"), ("404", "NOT_FOUND"), ("500", "SERVER_ERROR")):
        answer = [f"HTTP/1.0 {status} no\r\n\r\n".encode()]
        with serving([answer, answer]) as port, pytest.raises(SourceError) as caught:
            source_from(None, f"http://127.0.0.1:{port}/").open()
        assert caught.value.code == code


def test_a_feed_counts_torn_frames_reports_them_once_and_never_gives_one() -> None:
    torn = {2, 3, 5}
    whole = {index: cv2.imdecode(np.frombuffer(jpeg(index), np.uint8), 1) for index in set(range(9)) - torn}
    stream = [part(jpeg(index)[: 4000 if index in torn else None]) for index in range(9)]
    statuses: list[dict[str, object]] = []
    taken: list[CapturedFrame] = []
    ready = threading.Condition()
    with serving([[HEADER, *stream]]) as port:
        source = source_from(None, f"http://127.0.0.1:{port}/")
        feed = Feed(source, FeedSettings(reconnects=0, backoff=Backoff()), statuses.append, ready, seed=0)  # type: ignore[arg-type]
        feed.start()

        def look() -> bool:
            with ready:
                item = feed.take()
            if isinstance(item, CapturedFrame):
                taken.append(item)
            return feed.ended

        try:
            wait_until(look)
        finally:
            feed.stop()
            feed.join(2.0)
    assert feed.counts.rejected.get("FRAME_TORN", 0) >= 1
    for frame in taken:
        assert any(np.array_equal(frame.image, image) for image in whole.values())
    assert statuses[-1]["event_type"] == "SOURCE_LOST"


@pytest.mark.parametrize("size", [(48, 64), (192, 256)])
def test_a_stream_that_changes_size_gives_frames_of_the_new_size(size: tuple[int, int]) -> None:
    done, other = cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8))
    assert done
    stream = [part(jpeg(0)), part(other.tobytes())]
    with serving([[HEADER, *stream]]) as port, source_from(None, f"http://127.0.0.1:{port}/") as source:
        found, _ = given(source)
    assert [frame.image.shape for frame in found if isinstance(frame, CapturedFrame)] == [(96, 128, 3), (*size, 3)]
