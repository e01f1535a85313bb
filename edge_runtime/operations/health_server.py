"""What a run tells who asks over HTTP: /healthz, and /metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.operations.exposition import metrics_of
from edge_runtime.stream.pipeline import Pipeline

__all__ = ["address_from", "observed"]

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
"""A client that sends nothing is let go after this."""


def address_from(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT, :PORT or PORT; without a host it is the loopback. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"address is {text!r}, expected PORT, or HOST:PORT such as 0.0.0.0:9100 for every interface")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def observed(pipeline: Pipeline, address: tuple[str, int]) -> Iterator[int]:
    """Serve /healthz and /metrics of a pipeline within the block; gives the port, which port 0 leaves to the system.

    /healthz answers 200 while every source gives good frames and the scorer moves, else 503. Raises ConfigError where
    the address cannot be bound, MissingExtraError without prometheus-client.
    """
    metrics = metrics_of(pipeline)

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            path = self.path.split("?", 1)[0]
            if path == "/healthz":
                health = pipeline.health()
                self._send(200 if health["ok"] else 503, "application/json", json.dumps(health).encode() + b"\n")
            elif path == "/metrics":
                self._send(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
            else:
                self._send(404, "text/plain", b"expected /healthz or /metrics\n")

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            logger.debug(format, *arguments)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            logger.debug("a client of /healthz or /metrics went away", exc_info=True)

    try:
        server = Server(address, Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot serve at {address[0]}:{address[1]}: {error.strerror or error}; choose another port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="observe", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
