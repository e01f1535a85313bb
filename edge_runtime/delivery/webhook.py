"""Events as HTTP POST requests, one a message, with a key by which a receiver knows one that comes twice."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message as Headers
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit, urlunsplit

from edge_runtime.delivery.courier import DeliveryError, unreached
from edge_runtime.delivery.outbox import Message
from edge_runtime.errors import ConfigError
from edge_runtime.redact import redact, remember
from edge_runtime.serving.deadline import Deadline

__all__ = ["Webhook"]

TIMEOUT_S = 10.0
"""From the connection to the whole of the answer's header, however its bytes come."""

MOST_INFORMATIONAL = 8
"""Answers of the 1xx class before the one that counts; the standard library reads on for ever."""

MOST_RETRY_AFTER_S = 300.0
TRY_AGAIN = frozenset({401, 403, 404, 408, 409, 421, 423, 425, 429})
"""Answers of the 4xx class that a person or time can mend: the message is kept. Others refuse it for good."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A message goes where it was meant to go, with its Authorization header, or nowhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class _Request(urllib.request.Request):
    """A request with a deadline for all of it."""

    deadline: Deadline


class _Answer(HTTPResponse):
    """One that comes to the point."""

    _informational = 0

    def _read_status(self) -> tuple[str, int, str]:
        status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        self._informational += 1
        if self._informational > MOST_INFORMATIONAL:
            raise HTTPException(f"more than {MOST_INFORMATIONAL} answers of the 1xx class came")
        return status


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: Any) -> Any:
        return self.do_open(_timely(HTTPConnection, request.deadline), request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: Any) -> Any:
        return self.do_open(_timely(HTTPSConnection, request.deadline), request, context=self._context)  # type: ignore[attr-defined]


def _timely(kind: Callable[..., HTTPConnection], deadline: Deadline) -> Any:
    """What makes connections of a kind that are cut at a deadline."""

    def connect(address: Any, timeout: Any = None, source_address: Any = None) -> socket.socket:
        return deadline.hold(socket.create_connection(address, deadline.left_s, source_address))

    def made(host: str, **arguments: Any) -> HTTPConnection:
        connection = kind(host, **arguments)
        connection._create_connection = connect  # type: ignore[attr-defined]
        connection.response_class = _Answer
        return connection

    return made


class Webhook:
    """A URL that takes event records."""

    def __init__(self, url: str, headers: Mapping[str, str] | None = None, *, timeout_s: float = TIMEOUT_S) -> None:
        """headers: sent with every request, such as Authorization. User and password in the URL go as Basic."""
        remember(url)
        if "://" not in url:
            raise ConfigError("--webhook (not shown, it may hold a secret) does not begin with http:// or https://")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(
                f"--webhook is {redact(url)!r}: {redact(str(error))}; "
                "write marks in user and password as %20, %2F, %3F, %23"
            ) from error
        if port == 0 or parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"--webhook is {redact(url)!r}, expected http://HOST/PATH or https://HOST/PATH")
        self.name = redact(url)
        self._timeout_s = timeout_s
        self._headers = {"Content-Type": "application/json", "User-Agent": "edge-aae", **(headers or {})}
        if parts.username is not None:
            import base64

            pair = f"{parts.username}:{parts.password or ''}".encode()
            self._headers["Authorization"] = "Basic " + base64.b64encode(pair).decode("ascii")
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
        self._opener = urllib.request.build_opener(_NoRedirect, _Http, _Https)

    def connect(self) -> None:
        """Every message has its own connection."""

    def publish(self, message: Message) -> None:
        """POST the record; any 2xx is the acknowledgement."""
        request = _Request(
            self._url,
            data=json.dumps(message.record, allow_nan=False).encode("utf-8"),
            headers={**self._headers, "Idempotency-Key": message.message_id},
            method="POST",
        )
        late = DeliveryError(f"{self.name} gave no whole answer within {self._timeout_s:g} s")
        with Deadline(self._timeout_s) as request.deadline:
            try:
                with self._opener.open(request, timeout=self._timeout_s) as answer:
                    answer.read(1)
            except urllib.error.HTTPError as error:
                with error:
                    raise (
                        late if request.deadline.passed else self._refusal(error.code, error.headers, error)
                    ) from error
            except (TimeoutError, OSError, HTTPException, ValueError) as error:
                if request.deadline.is_over:
                    raise late from error
                reason = getattr(error, "reason", None) or error
                raise DeliveryError(redact(unreached(self.name, reason, "its server"))) from error
            if request.deadline.passed:  # a header that was cut reads like one that ends there
                raise late

    def tell(self, health: dict[str, Any]) -> None:
        """A webhook keeps no state."""

    def close(self) -> None:
        """Nothing stays open."""

    def _refusal(self, code: int, headers: Headers, body: IO[bytes]) -> DeliveryError:
        reason = f"{self.name} answered {code}"
        if 300 <= code < 400:
            return DeliveryError(f"{reason}, a redirect, which is not followed; name the URL it leads to")
        if 400 <= code < 500 and code not in TRY_AGAIN:
            try:
                said = body.read(200).decode("utf-8", errors="replace").strip()
            except (OSError, HTTPException, ValueError):
                said = ""
            return DeliveryError(redact(f"{reason}: {said}") if said else reason, for_good=True)
        asked = headers.get("Retry-After", "")
        pause_s = min(MOST_RETRY_AFTER_S, float(asked[:9])) if asked.isascii() and asked.isdigit() else None
        return DeliveryError(reason, retry_after_s=pause_s)
