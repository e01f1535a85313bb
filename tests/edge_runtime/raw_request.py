"""A request as bytes, for servers on the loopback that have to take whatever comes."""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["answer_to"]


def answer_to(port: int, request: bytes) -> bytes:
    """All that is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        found = b""
        with suppress(ConnectionResetError):
            while content := connection.recv(65536):
                found += content
    return found
