"""The process that serves /healthz and /metrics: one GET a connection, of the standard library alone.

`python -m edge_runtime.operations.health_process` is started by health_server.py and by nobody else; it ends when its
standard input does. What it tells it asks of the run, when somebody asks and what it was told last is too old.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from typing import IO, Any

from edge_runtime.serving.access import Access, Refusal, check_named_once
from edge_runtime.serving.child import greeted
from edge_runtime.serving.doorkeeper import BACKLOG, Doorkeeper, Limits
from edge_runtime.serving.framing import receive, send
from edge_runtime.serving.listening import bound

__all__ = ["main"]

logger = logging.getLogger(__name__)

LARGEST_HEAD = 8 * 1024
"""Bytes of a request line and its headers; Prometheus' takes three hundred."""

ASKED_EVERY_S = 0.2
ANSWERS_WITHIN_S = 2.0
"""A run that does not answer by then does not score either: its threads share one interpreter."""

LIMITS = Limits(answer_s=10.0)


class Told:
    """What the run says of itself, asked for when it is wanted."""

    def __init__(self, out: IO[bytes]) -> None:
        """out: where the run listens."""
        self._out = out
        self._told: tuple[dict[str, Any], bytes] | None = None
        self._told_s = float("-inf")
        self._coming: asyncio.Future[None] | None = None

    async def now(self) -> tuple[dict[str, Any], bytes] | None:
        """(health, metrics), ASKED_EVERY_S old at most; None where the run does not answer."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._told_s < ASKED_EVERY_S:
            return self._told
        if self._coming is None or self._coming.done():
            self._coming = loop.create_future()
            send(self._out, {"kind": "ask"})
        try:
            await asyncio.wait_for(asyncio.shield(self._coming), ANSWERS_WITHIN_S)
        except (TimeoutError, asyncio.TimeoutError):
            return None
        return self._told

    def take(self, health: dict[str, Any], metrics: bytes) -> None:
        """The run's answer."""
        self._told, self._told_s = (health, metrics), asyncio.get_running_loop().time()
        if self._coming is not None and not self._coming.done():
            self._coming.set_result(None)


class Exchange(asyncio.Protocol):
    """One connection: a request, an answer, the end."""

    def __init__(self, door: Doorkeeper, access: Access, told: Told) -> None:
        self._door, self._access, self._told = door, access, told
        self._head = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._address = str((transport.get_extra_info("peername") or ("",))[0])
        self._door.arrived(self, self._address, transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._door.left(self)

    def data_received(self, content: bytes) -> None:
        """See asyncio.Protocol."""
        if self._task is not None:
            return  # one request a connection
        self._head += content
        whole = b"\r\n\r\n" in self._head or b"\n\n" in self._head
        if whole or len(self._head) > LARGEST_HEAD:
            self._door.has_header(self)
            self._task = asyncio.ensure_future(self._answer())

    async def _answer(self) -> None:
        retry_after_s = None
        try:
            status, kind, content = await self._asked()
        except Refusal as refusal:
            status, kind, content = refusal.status, "text/plain", f"{refusal}\n".encode()
            retry_after_s = refusal.retry_after_s
        except Exception as error:  # noqa: BLE001 - whatever a request does, it is answered, and the process goes on
            logger.error("a request failed: %r", error)
            status, kind, content = 500, "text/plain", b"this request cannot be answered\n"
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}"]
        lines += [f"Content-Length: {len(content)}", "Connection: close", "X-Content-Type-Options: nosniff"]
        lines += [] if retry_after_s is None else [f"Retry-After: {retry_after_s}"]
        body = b"" if self._head.startswith(b"HEAD ") else content
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1", errors="replace") + body)
        self._transport.close()
        self._door.answered(self)

    async def _asked(self) -> tuple[int, str, bytes]:
        method, path, headers = parsed(self._head)
        self._access.check(method, headers, "", "", self._address)
        if method not in ("GET", "HEAD"):
            raise Refusal(405, "expected GET")
        if path not in ("/healthz", "/metrics"):
            raise Refusal(404, "expected /healthz or /metrics")
        if not self._door.let_in(self):
            raise Refusal(503, f"{LIMITS.answering} requests are being answered already")
        told = await self._told.now()
        if told is None:
            raise Refusal(503, f"the run has not answered for {ANSWERS_WITHIN_S:.0f} s")
        health, metrics = told
        if path == "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", metrics
        return 200 if health["ok"] else 503, "application/json", json.dumps(health).encode() + b"\n"


class _Parsed(BaseHTTPRequestHandler):
    """The standard library's reader of a request's head, over bytes that are all there."""

    def __init__(self, head: bytes) -> None:
        self.rfile = BytesIO(head)
        self.raw_requestline = self.rfile.readline(LARGEST_HEAD)
        self.reason: tuple[int, str] | None = None
        self.is_one = self.parse_request()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.reason = (int(code), message or HTTPStatus(code).phrase)

    def handle_expect_100(self) -> bool:
        return True


def parsed(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    """Method, path and headers (names in lower case) of a request; raises Refusal for what is none."""
    if len(head) > LARGEST_HEAD:
        raise Refusal(431, f"expected {LARGEST_HEAD} bytes at most before the empty line")
    try:
        request = _Parsed(head)
    except (ValueError, AttributeError) as error:
        raise Refusal(400, f"expected a request of HTTP: {error}") from error
    if not request.is_one or request.reason is not None or not hasattr(request, "headers"):
        status, reason = request.reason or (400, "expected a request of HTTP")
        raise Refusal(status, reason[:200])
    headers = {name.lower(): value.strip() for name, value in request.headers.items()}
    check_named_once([name.lower() for name in request.headers])
    return request.command, request.path.split("?", 1)[0], headers


async def _serve(stdin: IO[bytes], stdout: IO[bytes], hello: dict[str, Any]) -> int:
    loop = asyncio.get_running_loop()
    try:
        listener = bound(hello["host"], hello["port"])
    except OSError as error:
        send(stdout, {"kind": "failed", "reason": str(error)})
        return 1
    door, access, told = Doorkeeper(LIMITS), Access(hello["host"]), Told(stdout)
    server = await loop.create_server(lambda: Exchange(door, access, told), sock=listener, backlog=BACKLOG)
    ended = asyncio.Event()

    def read() -> None:
        try:
            while (message := receive(stdin)) is not None:
                loop.call_soon_threadsafe(told.take, message[0]["health"], message[1])
        finally:
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, name="from the run", daemon=True).start()
    send(stdout, {"kind": "serving", "port": listener.getsockname()[1]})
    await ended.wait()
    server.close()
    return 0


def main() -> int:
    """Serve until standard input ends."""
    found = greeted()
    if found is None:
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # a service manager's, to all of the unit: the run ends this one
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it tells of every client that goes away
    status = asyncio.run(_serve(*found))
    os._exit(status)  # whatever is still being sent must not keep a process without a run


if __name__ == "__main__":
    sys.exit(main())
