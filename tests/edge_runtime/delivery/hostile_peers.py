"""Brokers and webhooks that mean it no good, on the loopback: by name, what each does with a connection."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

__all__ = ["ACKNOWLEDGES", "BROKERS", "WEBHOOKS", "Behaviour", "peer"]

Behaviour = Callable[[socket.socket], None]

LONGEST_S = 20.0
"""No behaviour goes on for longer, whatever the other side does."""

CONNACK = b"\x20\x02\x00\x00"
OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1 << 20


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def silent(connection: socket.socket) -> None:
    """Takes everything and says nothing, until the other side goes."""
    until = time.monotonic() + LONGEST_S
    connection.settimeout(0.5)
    while time.monotonic() < until:
        with suppress(TimeoutError):
            if not connection.recv(65536):
                return


def says(content: bytes, connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(content)
    silent(connection)


def says_and_goes(content: bytes, connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(content)


def repeats(first: bytes, again: bytes, connection: socket.socket, *, pause_s: float = 0.0) -> None:
    """Endlessly, and reads nothing."""
    connection.recv(65536)
    connection.sendall(first)
    until = time.monotonic() + LONGEST_S
    while time.monotonic() < until:
        connection.sendall(again)
        time.sleep(pause_s)


def takes_nothing(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    connection.recv(64)
    connection.sendall(CONNACK)
    time.sleep(3.0)


drips = partial(repeats, pause_s=0.05)


def length(n: int) -> bytes:
    """MQTT 3.1.1, 2.2.3."""
    found = b""
    while True:
        n, digit = divmod(n, 128)
        found += bytes([digit | (128 if n else 0)])
        if not n:
            return found


def publish(topic: bytes, payload: bytes, qos: int) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (b"\0\1" if qos else b"") + payload
    return bytes([0x30 | qos << 1]) + length(len(body)) + body


BROKERS: dict[str, Behaviour] = {
    "silent": silent,
    "closes at once": lambda connection: None,
    "resets": reset,
    **{f"refuses with {code}": partial(says, b"\x20\x02\x00" + bytes([code])) for code in (1, 2, 3, 4, 5, 6, 200)},
    "half a CONNACK": partial(says, CONNACK[:2]),
    "CONNACK byte by byte": partial(drips, b"\x20\xff\xff\xff\x01", b"\0"),
    "CONNACK of nothing": partial(says, b"\x20\x00"),
    "CONNACK of one byte": partial(says, b"\x20\x01\x00"),
    "CONNACK of 200 MiB": partial(repeats, b"\x20" + length(200 * MIB), bytes(MIB)),
    "CONNACK twice": partial(says, CONNACK * 2),
    "CONNACK of a session": partial(says, b"\x20\x02\x01\x00"),
    "length of five bytes": partial(says, b"\x20\xff\xff\xff\xff\xff\x7f"),
    "PUBLISH of 200 MiB": partial(repeats, CONNACK + b"\x30" + length(200 * MIB), bytes(MIB)),
    "PUBLISH in small pieces, kept for QoS 2": partial(repeats, CONNACK, publish(b"t", bytes(2000), 2)),
    "PUBLISH of QoS 0": partial(repeats, CONNACK, publish(b"t", b"x", 0)),
    "PUBLISH of QoS 3": partial(says, CONNACK + publish(b"t", b"x", 3)),
    "PUBLISH without a topic": partial(says, CONNACK + b"\x30\x00"),
    "PUBLISH whose topic is longer than it": partial(says, CONNACK + b"\x30\x03\xff\xffx"),
    "PINGRESP without end": partial(repeats, CONNACK, b"\xd0\x00" * 1000),
    "PINGREQ without end": partial(repeats, CONNACK, b"\xc0\x00" * 1000),
    "PUBACK of another message without end": partial(repeats, CONNACK, b"\x40\x02\xff\xff" * 1000),
    "PUBACK of one byte": partial(says, CONNACK + b"\x40\x01\x00"),
    "PUBACK of nothing": partial(says, CONNACK + b"\x40\x00"),
    "PUBREC": partial(says, CONNACK + b"\x50\x02\x00\x01"),
    "PUBREL": partial(says, CONNACK + b"\x62\x02\x00\x01"),
    "SUBACK of nothing": partial(says, CONNACK + b"\x90\x00"),
    "UNSUBACK of nothing": partial(says, CONNACK + b"\xb0\x00"),
    "DISCONNECT": partial(says, CONNACK + b"\xe0\x00"),
    "CONNECT of its own": partial(says, CONNACK + b"\x10\x00"),
    "type 0": partial(says, CONNACK + b"\x00\x00"),
    "type 15": partial(says, CONNACK + b"\xf0\x00"),
    "never acknowledges": partial(says, CONNACK),
    "goes after CONNACK": partial(says_and_goes, CONNACK),
    "takes nothing": takes_nothing,
    "speaks HTTP": partial(says, b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "speaks TLS": partial(says, b"\x15\x03\x01\x00\x02\x02\x0a"),
    "noise": partial(repeats, b"", bytes(range(256)) * 64),
}

WEBHOOKS: dict[str, Behaviour] = {
    "silent": silent,
    "closes at once": lambda connection: None,
    "resets": reset,
    "status byte by byte": partial(drips, b"HTTP/1.1 200 ", b"O"),
    "header byte by byte": partial(drips, OK + b"X: ", b"x"),
    "headers line by line": partial(drips, OK, b"X: x\r\n"),
    "body byte by byte": partial(drips, b"HTTP/1.1 400 No\r\nContent-Length: 9999999\r\n\r\n", b"x"),
    "answers of 100 without end": partial(repeats, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "status of a MiB": partial(repeats, b"HTTP/1.1 200 ", bytes(MIB)),
    "header of a MiB": partial(repeats, OK + b"X: ", b"x" * MIB),
    "a thousand headers": partial(says, OK + b"X: x\r\n" * 1000 + b"\r\n"),
    "body without end": partial(repeats, OK + b"\r\n", bytes(MIB)),
    "refusal without end": partial(repeats, b"HTTP/1.1 400 No\r\n\r\n", b"\xff" * MIB),
    "redirect to itself": partial(says, b"HTTP/1.1 307 Go\r\nLocation: /\r\n\r\n"),
    "redirect to a file": partial(says, b"HTTP/1.1 302 Go\r\nLocation: file:///etc/passwd\r\n\r\n"),
    "Retry-After without bound": partial(says, b"HTTP/1.1 503 No\r\nRetry-After: " + b"9" * 400 + b"\r\n\r\n"),
    "Retry-After of another script": partial(says, b"HTTP/1.1 503 No\r\nRetry-After: \xb2\r\n\r\n"),
    "chunks that are none": partial(says_and_goes, OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "chunk of 2^70 bytes": partial(says_and_goes, OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"4" * 18 + b"\r\nx"),
    "negative length": partial(says_and_goes, OK + b"Content-Length: -5\r\n\r\n"),
    "status 999": partial(says_and_goes, b"HTTP/1.1 999 What\r\n\r\n"),
    "status that is none": partial(says_and_goes, b"HTTP/1.1 abc\r\n\r\n"),
    "status of minus one": partial(says_and_goes, b"HTTP/1.1 -1 No\r\n\r\n"),
    "another protocol": partial(says_and_goes, b"\x15\x03\x01\x00\x02\x02\x0a"),
    "login asked for": partial(says_and_goes, b"HTTP/1.1 401 No\r\nWWW-Authenticate: Negotiate\r\n\r\n"),
    "switching protocols": partial(says_and_goes, b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\n\r\n"),
}

ACKNOWLEDGES = {"body without end", "negative length", "chunk of 2^70 bytes"}
"""Webhooks whose status of 2xx and whole header are an acknowledgement, whatever follows."""


@contextmanager
def peer(behaviours: list[Behaviour]) -> Iterator[int]:
    """A server whose connections get one behaviour after the other, round and round; gives the port."""
    ending = threading.Event()
    taken: list[tuple[socket.socket, threading.Thread]] = []

    def serve(connection: socket.socket, behaviour: Behaviour) -> None:
        connection.settimeout(LONGEST_S)
        with connection, suppress(OSError):
            behaviour(connection)

    def accept() -> None:
        while not ending.is_set():
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            behaviour = behaviours[len(taken) % len(behaviours)]
            thread = threading.Thread(target=serve, args=(connection, behaviour), daemon=True)
            taken.append((connection, thread))
            thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ending.set()
            accepting.join()
            for connection, thread in taken:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                thread.join(LONGEST_S)
