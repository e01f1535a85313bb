"""Addresses to serve at: read from what a person writes, bound, and shown as a browser takes them."""

from __future__ import annotations

import socket

from edge_runtime.errors import ConfigError
from edge_runtime.serving.access import is_loopback
from edge_runtime.serving.doorkeeper import BACKLOG

__all__ = ["address_from", "address_of", "bound"]


def address_from(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT, :PORT or PORT; without a host it is the loopback. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"address is {text!r}, expected PORT, or HOST:PORT such as 0.0.0.0:9100 for every interface")
    return host.strip("[]") or "127.0.0.1", int(port)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # On Windows SO_REUSEADDR lets two programs have one port, and SO_EXCLUSIVEADDRUSE is what keeps it.
        once = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if once is None else once, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def address_of(host: str, listener: socket.socket, token: str) -> str:
    """Where a browser finds it, token included."""
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if not is_loopback(host) and host in ("0.0.0.0", "::"):  # every interface: some name has to stand for it
        shown = socket.gethostname()
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
