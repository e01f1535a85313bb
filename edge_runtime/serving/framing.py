"""Messages between the run and the page's process: JSON and, after it, bytes; over a pair of pipes."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from edge_runtime.systems.pipes import write_within

__all__ = ["LARGEST", "pack", "receive", "send", "send_within"]

LARGEST = 64 * 2**20
"""Bytes of a message: a picture of 5000 x 4000 pixels; more is a broken pipe, not a message."""

_LENGTHS = struct.Struct("<II")


def pack(header: dict[str, Any], body: bytes = b"") -> bytes:
    """Lengths of both, the header as JSON, the body."""
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return _LENGTHS.pack(len(text), len(body)) + text + body


def send(stream: IO[bytes], header: dict[str, Any], body: bytes = b"") -> None:
    """Write a message whole; raises OSError or ValueError where the other side is gone."""
    stream.write(pack(header, body))
    stream.flush()


def send_within(descriptor: int, header: dict[str, Any], body: bytes = b"", *, timeout_s: float) -> None:
    """Write a message whole to a pipe that was unblocked; raises TimeoutError where the other side has not taken it by
    then, which leaves half a message behind, and OSError where it is gone."""
    write_within(descriptor, pack(header, body), timeout_s)


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """The next message; None at the end of the stream. Raises ValueError for what is none."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    n_header, n_body = _LENGTHS.unpack(lengths)
    if n_header + n_body > LARGEST:
        raise ValueError(f"a message of {n_header + n_body} bytes came, expected {LARGEST} at most")
    content = stream.read(n_header + n_body)
    if len(content) < n_header + n_body:
        return None
    header = json.loads(content[:n_header])
    if not isinstance(header, dict):
        raise ValueError("a message's header is no JSON object")
    return header, content[n_header:]
