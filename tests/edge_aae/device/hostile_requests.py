"""Requests that mean it no good, as bytes, and a way to send them: to the live page, to /metrics, to the review."""

from __future__ import annotations

import json
import socket
from collections import Counter
from contextlib import suppress

__all__ = ["REQUESTS", "Sent", "send_all"]

PATHS = (
    "/",
    "/metrics",
    "/healthz",
    "/api/stream?",
    "/api/doctor/",
    "/api/preview",
    "/api/groups",
    "/api/images/0.png",
    "/api/images/-1",
    "/api/images/\u00b2".encode("utf-8").decode("latin-1"),
    "/api/images/" + "9" * 400,
    "/api/images/../../etc/passwd.png",
    "/api/photographs/" + "9" * 5000,
    "/api/events/.jpg",
    "/api/events/%00.jpg",
    "/api/events/" + "x" * 4000 + ".jpg",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "/live.js/..",
    "/live.js%00.css",
    "/%",
    "/%zz",
    "/%ff%fe",
    "/%c0%ae%c0%ae/",
    "/\\..\\..\\x",
    "/;x=1",
    "/?" + "a=b&" * 2000,
    "/?token=",
    "/?token=%00",
    "/?token=%ff",
    "/?token=" + "x" * 8000,
    "/" + "a/" * 3000,
    "*",
    "http://other.example/metrics",
    "metrics",
    "?",
    "#",
    "/\t",
    "/ /x",
    "/api/preview?threshold=nan",
    "/api/preview?threshold=inf",
    "/api/preview?threshold=1e400",
    "/api/preview?threshold=" + "9" * 5000,
    "/api/preview?target_fpr=-1",
    "/api/preview?target_fpr=x",
    "/api/preview?target_fpr=nan&threshold=1",
    "/api/preview?threshold=1&threshold=2",
)

METHODS = (
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "G ET",
    "",
    "\0",
    "GET\t",
    "A" * 300,
)

HOSTS = (
    "[::1",
    "::1]",
    "[",
    "]",
    "[]",
    "[::1]x",
    "[::1]:x",
    "[v1.x]",
    "[fe80::1%25eth0]",
    "[::ffff:127.0.0.1]",
    "",
    " ",
    "127.0.0.1:99999",
    "127.0.0.1:-1",
    "127.0.0.1:8\xb2",
    "127.0.0.1:80:80",
    "a@127.0.0.1",
    "127.0.0.1/x",
    "127.0.0.1?x",
    "127.0.0.1#x",
    "127.0.0.1\\x",
    "127.0.0.1.example",
    "0x7f.1",
    "2130706433",
    "localhost.",
    "evil.example",
    "\xff\xfe",
    "x" * 5000,
    "localhost, evil.example",
    "localhost\r\nHost: evil.example",
)

HEADERS = (
    *(
        f"Origin: {origin}"
        for origin in (
            "http://[x",
            "http://[::1",
            "null",
            "http://evil.example",
            "://",
            "http://]",
            "\xff",
            "x" * 5000,
            "http://localhost\r\nOrigin: http://evil.example",
        )
    ),
    *(
        f"Content-Length: {length}"
        for length in (
            "-1",
            "x",
            "1e9",
            "+1",
            "0x10",
            "\xb2",
            "9" * 30,
            "99999999999",
            "1\r\nContent-Length: 2",
            " ",
            "1, 1",
        )
    ),
    *(
        f"Transfer-Encoding: {coding}"
        for coding in (
            "chunked\r\nContent-Length: 5",
            "gzip",
            "chunked, chunked",
            "xchunked",
            " chunked",
            "chunked\r\nTE: x",
            "\x0bchunked",
        )
    ),
    *(
        f"Cookie: {cookie}"
        for cookie in (
            "edge_aae_token",
            "edge_aae_token=",
            "edge_aae_token=\xff",
            'edge_aae_token="\\777"',
            ";;;;===",
            "a=b;" * 1500,
            "edge_aae_token=" + "x" * 7000,
            '="',
            "edge_aae_token=a; edge_aae_token=b",
        )
    ),
    *(
        f"Authorization: {given}"
        for given in (
            "",
            "Bearer",
            "Bearer ",
            "Bearer \xff",
            "Basic " + "A" * 5000,
            "Bearer a\r\nAuthorization: Bearer b",
            "Digest x",
        )
    ),
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: \xff",
    "Range: bytes=0-,0-,0-",
    "Range: bytes=" + "0-," * 1000,
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==",
    "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x",
    "Connection: close, keep-alive, x",
    "Content-Type: multipart/form-data; boundary=" + "x" * 3000,
    "Accept-Encoding: " + "gzip," * 1000,
    "X-Forwarded-For: 8.8.8.8",
    "X-Forwarded-For: " + "1," * 2000,
    'Forwarded: for="["',
    "X: a\r\n folded",
    ": nameless",
    "no colon",
    "X\0Y: z",
    "X : y",
    "X: \0",
    "X: \x7f\x1b[31m",
    "X" * 9000 + ": y",
    "X: " + "y" * 20000,
    "\r\n".join(f"X{number}: y" for number in range(1500)),
    "If-Modified-Since: never",
    "Proxy: http://evil.example",
)

BODIES = (
    "",
    "[]",
    "null",
    "{",
    "nonsense",
    "[" * 8000,
    '{"threshold": NaN}',
    '{"threshold": Infinity}',
    '{"threshold": 1e400}',
    '{"threshold": {}}',
    '{"threshold": []}',
    '{"threshold": true, "target_fpr": "x"}',
    '{"target_fpr": 1e-400}',
    '{"threshold": ' + "1" * 6000 + "}",
    '{"threshold": "\\ud800"}',
    '{"event_id": "\\u0000", "answer": "right"}',
    '{"event_id": "../../x", "answer": "right"}',
    '{"event_id": [], "answer": {}}',
    '{"indices": [true], "verdict": "keep"}',
    '{"indices": [1e99], "verdict": "keep"}',
    '{"indices": [-1], "verdict": "keep"}',
    '{"indices": {"0": 0}}',
    json.dumps({"indices": list(range(2000)), "verdict": "keep"}),
    '{"indices": [0], "verdict": "\\u202e"}',
    "\xff\xfe\0",
    '{"a": ' * 2000,
)

RAW = (
    b"\r\n\r\n",
    b"\n\n",
    b"\0" * 64,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1.1\r\n\r\n",
    b"GET / HTTP/-1\r\n\r\n",
    b"GET / XTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\r\n\r\n",
    b"GET /\r\n\r\n",
    b"GET  /  HTTP/1.1\r\n\r\n",
    bytes(range(256)) * 40,
    b"\xff" * 20_000,
    b"GET / HTTP/1.1\nHost: localhost\n\n",
    b"GET / HTTP/" + b"1" * 5000 + b"\r\n\r\n",
    b"HELO x\r\nQUIT\r\n\r\n",
    b"POST /api/threshold HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /api/threshold HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"f" * 18
    + b"\r\nx",
    b"POST /api/threshold HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\nTransfer-Encoding: chunked\r\n\r\n1;"
    + b"x" * 20_000,
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300,
)


def _request(method: str = "GET", path: str = "/", host: str = "localhost", header: str = "", body: str = "") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *([header] if header else []), "Connection: close", "", body]
    return "\r\n".join(lines).encode("latin-1", errors="replace")


def _posted(path: str, body: str) -> bytes:
    length = len(body.encode("latin-1", errors="replace"))
    return _request("POST", path, header=f"Authorization: x\r\nContent-Length: {length}", body=body)


REQUESTS: tuple[bytes, ...] = (
    *(_request(path=path) for path in PATHS),
    *(_request(method, path) for method in METHODS for path in ("/", "/metrics", "/api/threshold", "/api/verdicts")),
    *(_request(host=host, path=path) for host in HOSTS for path in ("/", "/metrics")),
    *(_request(header=header, path=path) for header in HEADERS for path in ("/", "/healthz")),
    *(_posted(path, body) for path in ("/api/threshold", "/api/feedback", "/api/verdicts") for body in BODIES),
    *RAW,
)


class Sent:
    """What came of them."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        """The first answer of each, `none` where the connection was ended without one"""
        self.failed: list[bytes] = []
        """Requests that were answered with 500, or with a traceback"""


def send_all(port: int, requests: tuple[bytes, ...] = REQUESTS) -> Sent:
    """Each on a connection of its own, to this port of the loopback."""
    sent = Sent()
    for request in requests:
        found = b""
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=20.0) as connection:
            connection.sendall(request)
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            while len(found) < 1 << 20 and (content := connection.recv(65536)):
                found += content
        status = found[9:12].decode("latin-1") if found.startswith(b"HTTP/1.1 ") else "none"
        sent.statuses[status] += 1
        if status == "500" or b"Traceback" in found or b"Internal Server Error" in found:
            sent.failed.append(request[:200])
    return sent
