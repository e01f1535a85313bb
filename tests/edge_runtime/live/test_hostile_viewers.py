"""The live page where those who ask mean it no good: they lock out nobody, guess nothing and change nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.live.bridge import LivePage, LiveSettings
from edge_runtime.live.threshold_desk import Asked
from edge_runtime.scoring.detector import Detector
from edge_runtime.serving.access import Visitor
from edge_runtime.stream.pipeline import Pipeline

from ..raw_request import answer_to
from ..waiting import wait_until
from .test_server import asked, messages, own, port_of

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

TOKEN, VIEW = "token-of-operators", "token-of-viewers-"


@pytest.fixture
def serve(detector: Detector, tmp_path: Path) -> Iterator[Callable[..., LivePage]]:
    pipeline, pages = Pipeline(detector, []), ExitStack()

    def start(**more: Any) -> LivePage:
        page = LivePage(LiveSettings(port=0, feedback=tmp_path / "feedback", **more), lambda: pipeline)
        page.open()
        pages.callback(page.close)
        return page

    with pages:
        yield start


@pytest.mark.parametrize("of", ["nothing", "half a header", "half a body", "nothing read"])
def test_connections_that_say_or_take_nothing_lock_out_nobody(serve: Callable[..., LivePage], of: str) -> None:
    """130 of them did, with 503 for everyone else."""
    page = serve(host="0.0.0.0", token=TOKEN) if of in ("nothing", "half a header") else serve()
    host = f"Host: 127.0.0.1:{port_of(page)}\r\n"
    said = {
        "nothing": b"",
        "half a header": b"GET / HTTP/1.1\r\nHost: 1",
        "half a body": f"POST /api/threshold HTTP/1.1\r\n{host}Authorization: x\r\nContent-Length: 9\r\n\r\n1".encode(),
        "nothing read": f"GET /vendor/uPlot.iife.min.js HTTP/1.1\r\n{host}\r\n".encode() * 20,
    }[of]
    with ExitStack() as open_ones:
        for _ in range(200):
            connection = open_ones.enter_context(socket.create_connection(("127.0.0.1", port_of(page)), timeout=20))
            with suppress(OSError):  # it was turned out already
                connection.sendall(said)
        assert asked(page, "/", Authorization=f"Bearer {TOKEN}")[0] == 200


def test_a_request_that_drips_is_ended_from_when_it_came_and_not_from_its_last_byte(
    serve: Callable[..., LivePage],
) -> None:
    page = serve()
    with socket.create_connection(("127.0.0.1", port_of(page)), timeout=20) as connection:
        connection.sendall(
            f"POST /api/threshold HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\nAuthorization: x\r\n"
            "Content-Length: 9000\r\n\r\n".encode()
        )
        started_s = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started_s < 40.0:
                connection.sendall(b" ")
                time.sleep(0.2)
        assert time.monotonic() - started_s < 30.0


@pytest.mark.parametrize(
    "header", ["Host: [::1", "Host: a b", "Host: x\r\nHost: x", "Host: localhost\r\nOrigin: http://[x", "Host: [v1.x]"]
)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_headers_that_are_none_are_a_bad_request_and_no_failure(
    serve: Callable[..., LivePage], capfd: pytest.CaptureFixture[str], header: str, bound: str
) -> None:
    page = serve(host=bound, token=TOKEN)
    request = f"GET / HTTP/1.1\r\n{header}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
    found = answer_to(port_of(page), request.encode())
    assert found.startswith(b"HTTP/1.1 400 ")
    page.close()
    assert "Traceback" not in capfd.readouterr().err


def test_a_host_never_becomes_part_of_the_path(serve: Callable[..., LivePage]) -> None:
    page = serve(host="0.0.0.0", token=TOKEN)
    assert asked(page, "/nothing", Host="h/live.css?", Authorization=f"Bearer {TOKEN}")[0] == 400


def test_who_may_look_sees_the_page_and_changes_nothing(serve: Callable[..., LivePage]) -> None:
    page = serve(host="0.0.0.0", token=TOKEN, view_token=VIEW)
    looks, changes = ({"Authorization": f"Bearer {token}"} for token in (VIEW, TOKEN))
    assert asked(page, "/", **looks)[0] == 200
    assert asked(page, "/api/preview?threshold=1", **looks)[0] == 200
    for path in ("/api/threshold", "/api/feedback"):
        status, _, content = asked(page, path, "POST", {"threshold": 5.0}, **{**looks, **own(page)})
        assert (status, b"may look, and change nothing" in content) == (403, True)
    assert page.take_threshold() is None
    assert asked(page, "/api/threshold", "POST", {"threshold": 5.0}, **changes)[0] == 200
    wait_until(lambda: bool(page._asked))
    assert page.take_threshold() == Asked(5.0, Visitor("operator", "127.0.0.1"))


def test_a_viewer_is_told_whether_to_be_shown_what_changes_things(serve: Callable[..., LivePage]) -> None:
    (board, *_) = messages(serve(), bool)
    assert board["may_change"] is True


def test_an_address_that_guesses_tokens_waits(serve: Callable[..., LivePage]) -> None:
    page = serve(host="0.0.0.0", token=TOKEN)
    statuses = [asked(page, f"/?token=guess-{number}")[0] for number in range(8)]
    assert statuses == [401] * 6 + [429] * 2
    status, headers, content = asked(page, f"/?token={TOKEN}")
    assert (status, b"try again in" in content) == (429, True)
    assert 1 <= int(headers["retry-after"]) <= 60


def test_viewers_of_one_address_leave_room_for_others(serve: Callable[..., LivePage]) -> None:
    page = serve()
    request = f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n\r\n".encode()
    with ExitStack() as open_ones:
        for _ in range(16):
            connection = open_ones.enter_context(socket.create_connection(("127.0.0.1", port_of(page)), timeout=20))
            connection.sendall(request)
            assert connection.recv(15).startswith(b"HTTP/1.1 200")
        status, _, content = asked(page, "/api/stream")
        assert (status, b"16 viewers look already from 127.0.0.1" in content) == (503, True)
    wait_until(lambda: page._viewers == 0)
    assert asked(page, "/")[0] == 200


@pytest.mark.parametrize(("tokens", "says"), [((TOKEN, TOKEN), "expected two"), (("", VIEW), "expected both")])
def test_a_token_to_look_with_is_a_second_one(tokens: tuple[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        LiveSettings(token=tokens[0], view_token=tokens[1])
