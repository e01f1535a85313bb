"""Why a network source does not open: one short conversation with the other side, after OpenCV said only "no"."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

__all__ = ["why_unreachable"]

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
AUTH_STATUS = (401, 403, 407)


def why_unreachable(url: str, *, timeout_s: float) -> tuple[str, str]:
    """An error code and a reason in words, without user or password, for a URL that could not be opened."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return "BAD_URL", "its port is no number; expected SCHEME://[USER:PASSWORD@]HOST[:PORT]/PATH"
    if not host or not port:
        return "BAD_URL", "it names no host; expected SCHEME://[USER:PASSWORD@]HOST[:PORT]/PATH"
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            return _asked(connection, parts.scheme, host, port, parts.path or "/", timeout_s)
    except socket.gaierror:
        return "DNS_FAILED", f"the name {host} is not known; check it, or use the address"
    except ConnectionRefusedError:
        return "REFUSED", f"{host} refuses connections at port {port}; is its server running?"
    except TimeoutError:
        return "TIMEOUT", f"{host} does not answer at port {port} within {timeout_s:g} s"
    except (OSError, ssl.SSLError) as error:
        return "UNREACHABLE", f"{host} cannot be reached at port {port}: {error.strerror or error}"


def _asked(
    connection: socket.socket, scheme: str, host: str, port: int, path: str, timeout_s: float
) -> tuple[str, str]:
    if scheme in ("https", "rtsps"):
        # Only the status is read, and no password is sent: whether the certificate is good is not asked here.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname=host)
    connection.settimeout(timeout_s)
    if scheme.startswith("rtsp"):
        request = f"DESCRIBE {scheme}://{host}:{port}{path} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n"
    else:
        request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    connection.sendall(request.encode("utf-8"))
    first = connection.recv(256).split(b"\r\n", 1)[0].decode("latin-1")
    words = first.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    if status in AUTH_STATUS:
        return "AUTH_FAILED", f"{host} answers {status}: user and password are missing or wrong"
    if status == 404:
        return "NOT_FOUND", f"{host} answers 404: it has nothing at {path}"
    if status >= 400:
        return "SERVER_ERROR", f"{host} answers {status}"
    return "UNSUPPORTED", f"{host} answers at port {port}, but OpenCV finds no video in what it sends"
