"""SIGINT and SIGTERM as a polite request that a loop sees between two pieces of work."""

from __future__ import annotations

import os
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
    """Within the block, the function tells once after a SIGHUP that it came; outside the main thread it never does.

    A SIGHUP because the terminal was closed is a SIGTERM: nobody is left to end what holds a camera. Not where it was
    ignored before, as nohup(1) has it. Windows has no SIGHUP.
    """
    requested = threading.Event()

    def asked() -> bool:
        came = requested.is_set()
        requested.clear()
        return came

    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        yield asked
        return
    terminals = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else _terminals()

    def came(number: int, frame: FrameType | None) -> None:
        if terminals and not _terminals():
            signal.raise_signal(signal.SIGTERM)
        requested.set()

    previous = signal.signal(signal.SIGHUP, came)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGHUP, previous)


def _terminals() -> tuple[int, ...]:
    """Which of standard input, output and error are terminals that are there."""
    return tuple(descriptor for descriptor in range(3) if os.isatty(descriptor))
