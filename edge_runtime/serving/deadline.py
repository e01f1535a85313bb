"""An end for exchanges with another machine that no drip puts off: a socket's timeout begins anew at each byte."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

__all__ = ["Deadline"]


class Deadline:
    """Within the block, connections that it holds are cut when the time is over, whatever they are at; TLS too."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        """Whether connections were cut."""
        self._end_s = time.monotonic() + seconds
        self._held: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    @property
    def is_over(self) -> bool:
        """Whether the time is, by the clock: a socket that was given what was left may say so before it is cut."""
        return self.passed or time.monotonic() >= self._end_s

    @property
    def left_s(self) -> float:
        """Seconds until then, more than 0, as sockets take them."""
        return max(0.001, self._end_s - time.monotonic())

    def hold(self, connection: socket.socket) -> socket.socket:
        """The connection, as given."""
        with self._lock:
            # Of its own: TLS takes the given one's descriptor away, and whoever reads may close it meanwhile. Not by
            # os.dup, which on Windows takes no sockets, nor by connection.dup, which TLS refuses.
            self._held.append(socket.fromfd(connection.fileno(), connection.family, connection.type))
        if self.passed:
            self._cut()
        return connection

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for held in self._held:
                held.close()
            self._held.clear()

    def _cut(self) -> None:
        with self._lock:
            self.passed = True
            for held in self._held:
                with suppress(OSError):
                    held.shutdown(socket.SHUT_RDWR)
