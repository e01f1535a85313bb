"""Couriers: in order, again and again, until it is acknowledged."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.backoff import Backoff
from edge_runtime.delivery import Courier, DeliveryError, Message, Outbox, Webhook
from edge_runtime.delivery.courier import unreached
from edge_runtime.errors import ConfigError
from tests.edge_runtime.delivery.test_outbox import record, whole

from ..waiting import wait_until

QUICK = Backoff(first_s=0.01, most_s=0.02)


class Board:
    """A destination that does as it is told."""

    name = "board"

    def __init__(self) -> None:
        self.got: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.down = False
        self.refuses: set[str] = set()
        self.breaks: Exception | None = None

    def connect(self) -> None:
        if self.down:
            raise DeliveryError("no way")

    def publish(self, message: Message) -> None:
        if self.breaks:
            raise self.breaks
        if message.message_id in self.refuses:
            raise DeliveryError("not this one", for_good=True)
        self.connect()
        self.got.append(message.message_id)

    def tell(self, health: dict[str, Any]) -> None:
        self.told.append(health)

    def close(self) -> None:
        pass


@contextmanager
def carrying(outbox: Outbox, publisher: Any) -> Iterator[tuple[Courier, list[dict[str, Any]]]]:
    said: list[dict[str, Any]] = []
    courier = Courier(publisher, outbox, said.append, lambda: {"ok": True}, backoff=QUICK)
    courier.start()
    try:
        yield courier, said
    finally:
        courier.stop()
        assert courier.join(5)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path / "o.db", ["board", "http://127.0.0.1/hook"])
    yield opened
    opened.close()


def test_everything_is_delivered_in_order_and_the_state_is_told(outbox: Outbox) -> None:
    board = Board()
    outbox.append(whole("e"))
    with carrying(outbox, board) as (courier, said):
        wait_until(lambda: courier.delivered == 3)
        outbox.append(whole("f"))
        wait_until(lambda: courier.delivered == 6)
        wait_until(lambda: len(board.told) >= 1)
    assert board.got == ["e/0", "e/1", "e/2", "f/0", "f/1", "f/2"]
    assert outbox.n_pending("board") == 0
    assert said == []


def test_an_outage_is_said_once_and_what_waited_is_delivered(outbox: Outbox) -> None:
    board = Board()
    board.down = True
    outbox.append(whole("e"))
    with carrying(outbox, board) as (courier, said):
        wait_until(lambda: courier.failures >= 5)
        assert not courier.up
        board.down = False
        wait_until(lambda: courier.delivered == 3)
        assert courier.up
    assert [status["event_type"] for status in said] == ["DELIVERY_FAILED", "DELIVERY_RECOVERED"]
    assert said[0]["source_id"] == "board"
    assert board.got == ["e/0", "e/1", "e/2"]


def test_a_message_that_is_refused_for_good_does_not_hold_up_the_rest(outbox: Outbox) -> None:
    board = Board()
    board.refuses = {"e/1"}
    outbox.append(whole("e"))
    with carrying(outbox, board) as (courier, said):
        wait_until(lambda: courier.delivered == 2)
    assert board.got == ["e/0", "e/2"]
    assert courier.refused == 1
    assert [status["event_type"] for status in said] == ["DELIVERY_REFUSED"]
    assert outbox.refused() == [("board", "e/1", "not this one")]


def test_a_bug_in_a_destination_does_not_end_its_courier(outbox: Outbox) -> None:
    board = Board()
    board.breaks = RuntimeError("a bug")
    outbox.append(whole("e"))
    with carrying(outbox, board) as (courier, _):
        wait_until(lambda: courier.failures >= 2)
        board.breaks = None
        wait_until(lambda: courier.delivered == 3)


def test_what_is_pending_at_the_end_is_still_tried(outbox: Outbox) -> None:
    board = Board()
    with carrying(outbox, board) as (courier, _):
        wait_until(lambda: courier.up)
        outbox.append(whole("e"))
    assert board.got == ["e/0", "e/1", "e/2"]


class Receiver:
    """A webhook's other end, on the loopback; answers in turn what it is given, then 204."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.requests.append((dict(self.headers.items()), body))
                code, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
                self.send_response(code)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def a_message() -> Message:
    return Message(7, "e/0", record("e", 0, "new"))


def test_a_webhook_posts_the_record_with_its_key(receiver: Receiver) -> None:
    Webhook(receiver.url, {"Authorization": "Bearer t0ken"}).publish(a_message())
    headers, body = receiver.requests[0]
    assert body == record("e", 0, "new")
    assert (headers["Idempotency-Key"], headers["Authorization"]) == ("e/0", "Bearer t0ken")
    assert headers["Content-Type"] == "application/json"


def test_user_and_password_of_the_url_go_as_basic_and_are_never_shown(receiver: Receiver) -> None:
    hook = Webhook(receiver.url.replace("http://", "http://me:secret@"))
    hook.publish(a_message())
    assert receiver.requests[0][0]["Authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in hook.name


@pytest.mark.parametrize(
    ("answer", "for_good", "pause_s"),
    [
        ((500, {}), False, None),
        ((503, {"Retry-After": "7"}), False, 7.0),
        ((429, {"Retry-After": "99999"}), False, 300.0),
        ((401, {}), False, None),
        ((400, {}), True, None),
        ((413, {}), True, None),
        ((302, {"Location": "http://127.0.0.1:9/"}), False, None),
    ],
    ids=str,
)
def test_what_an_answer_means(receiver: Receiver, answer: Any, for_good: bool, pause_s: float | None) -> None:
    receiver.answers = [answer]
    with pytest.raises(DeliveryError, match=f"answered {answer[0]}") as raised:
        Webhook(receiver.url).publish(a_message())
    assert (raised.value.for_good, raised.value.retry_after_s) == (for_good, pause_s)
    assert len(receiver.requests) == 1


def test_a_webhook_that_is_not_there_is_tried_again(outbox: Outbox, receiver: Receiver, tmp_path: Path) -> None:
    receiver.answers = [(500, {}), (503, {}), (500, {})]
    hook = Webhook(receiver.url)
    hook.name = "http://127.0.0.1/hook"
    outbox.append(whole("e"))
    with carrying(outbox, hook) as (courier, _):
        wait_until(lambda: courier.delivered == 3)
    assert [headers["Idempotency-Key"] for headers, _ in receiver.requests] == ["e/0"] * 4 + ["e/1", "e/2"]
    with pytest.raises(DeliveryError, match=r"http://127.0.0.1:9/ refuses connections; is its server running\?$"):
        Webhook("http://127.0.0.1:9/").publish(a_message())


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("mqtt://h:1 refuses connections; is the broker running?",
         "mqtt://h:1 refuses connections; is the broker running? Trying again"),
        ("mqtt://h:1/edge/d ended the connection", "mqtt://h:1/edge/d ended the connection; trying again"),
        ("certificates cannot be used: no", "mqtt://h:1/edge/d: certificates cannot be used: no; trying again"),
    ],
)  # fmt: skip
def test_a_failure_names_the_destination_once(
    outbox: Outbox, reason: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    board = Board()
    board.name = "mqtt://h:1/edge/d"
    Courier(board, outbox, lambda record: None, dict)._failed(DeliveryError(reason), 1)
    assert [record.getMessage() for record in caplog.records] == [said]


def test_why_a_destination_was_not_reached_is_said_without_numbers_of_the_system() -> None:
    for error, says in (
        (ConnectionRefusedError(111, "Connection refused"), "refuses connections; is its server running?"),
        (socket.gaierror(-2, "Name or service not known"), "cannot be reached: its host's name is not known here"),
        (OSError(113, "No route to host"), "cannot be reached: No route to host"),
        (ValueError("odd"), "cannot be reached: odd"),
    ):
        assert unreached("http://h/", error, "its server") == f"http://h/ {says}"


def test_a_webhook_that_gives_no_answer_is_given_up(outbox: Outbox) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2)
        with pytest.raises(DeliveryError, match=r"gave no whole answer within 0\.2 s"):
            hook.publish(a_message())


def test_it_is_given_up_with_the_same_words_where_its_own_socket_is_first_to_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edge_runtime.serving.deadline.Deadline._cut", lambda deadline: None)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hook = Webhook(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_s=0.2)
        with pytest.raises(DeliveryError, match=r"gave no whole answer within 0\.2 s"):
            hook.publish(a_message())


@pytest.mark.parametrize("url", ["ftp://host/", "host/hook", "http://"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--webhook"):
        Webhook(url)
