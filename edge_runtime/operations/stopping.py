"""SIGINT and SIGTERM as a polite request that a loop sees between two pieces of work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["reload_requests", "stop_requests"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests(on_request: Callable[[], None] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Within the block, the first SIGINT or SIGTERM makes the given function true; a second one acts as usual.

    on_request runs once, in the signal handler. Outside the main thread, where Python takes no signals, the function
    stays false.
    """
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request(number: int, frame: FrameType | None) -> None:
        requested.set()
        restore()
        on_request()

    try:
        for number in SIGNALS:
            signal.signal(number, request)
        yield requested.is_set
    finally:
        restore()


@contextmanager
def reload_requests() -> Iterator[Callable[[], bool]]:
    """Within the block, the function tells once after a SIGHUP that it came; outside the main thread it never does."""
    requested = threading.Event()

    def asked() -> bool:
        came = requested.is_set()
        requested.clear()
        return came

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    previous = signal.signal(signal.SIGHUP, lambda *_: requested.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGHUP, previous)
