"""Addresses to serve at: read from what a person writes, bound, and shown as a browser takes them."""

from __future__ import annotations

import errno
import socket

from edge_runtime.errors import ConfigError
from edge_runtime.serving.doorkeeper import BACKLOG
from edge_runtime.serving.interfaces import interface_addresses

__all__ = ["address_from", "addresses_of", "bound"]


EVERY_INTERFACE = ("0.0.0.0", "::")


LAST_PORT = 65535


def address_from(text: str, option: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT, :PORT or PORT; without a host it is the loopback. Raises ConfigError.

    option: that the text was given with.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > LAST_PORT:
        raise ConfigError(f"{option} is {text!r}, expected PORT, or HOST:PORT such as 0.0.0.0:9100 for every interface")
    return host.strip("[]") or "127.0.0.1", int(port)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError that says why there is none and what to do."""
    try:
        return _bound(host, port)
    except OSError as error:
        raise OSError(_refusal(error, host, port)) from error


def _refusal(error: OSError, host: str, port: int) -> str:
    everywhere = f"{'[::]' if ':' in host else '0.0.0.0'}:{port}"
    if isinstance(error, socket.gaierror):
        return f"{host} is no address and no name that is known here; {everywhere} takes all of this machine's"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{host} is no address of this machine; {everywhere} takes all of them"
    shown = "" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
    another = port + 1 if port < LAST_PORT else port - 1
    return f"{error.strerror or error}; choose another port, such as {shown}:{another}"


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # On Windows SO_REUSEADDR lets two programs have one port, and SO_EXCLUSIVEADDRUSE is what keeps it.
        once = getattr(socket, "SO_EXCLUSIVEADDRUSE", None)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR if once is None else once, 1)
        if host == "::":  # IPv4 too, whatever the system's default: it is what addresses_of says
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def addresses_of(host: str, port: int, token: str = "") -> list[str]:
    """Where a browser finds what listens at a host and port, token included; one at least, the likeliest first.

    Of every interface (0.0.0.0, ::) those by which other devices reach this machine, by its name where it has none.
    """
    hosts = [host]
    if host in EVERY_INTERFACE:
        hosts = interface_addresses(ipv6=host == "::") or [socket.gethostname()]
    query = f"?token={token}" if token else ""
    return [f"http://{f'[{one}]' if ':' in one else one}:{port}/{query}" for one in hosts]
