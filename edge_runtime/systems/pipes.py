"""Waiting for a pipe, with a limit: poll and select where they take pipes, and what Windows has instead."""

from __future__ import annotations

import importlib
import os
import select
import threading
import time

__all__ = ["polls", "readable", "unblocked", "write_within"]

LOOK_S = 0.005
"""Between two looks into a pipe that cannot be waited for"""


def polls() -> bool:
    """Whether pipes can be waited for: with poll, which Windows has not."""
    return hasattr(select, "poll")


def readable(descriptor: int, timeout_s: float) -> bool:
    """Whether a read would give bytes or the end, waited for as long as timeout_s."""
    if polls():
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    deadline = time.monotonic() + timeout_s
    while not _holds_bytes(descriptor):
        if time.monotonic() >= deadline:
            return False
        time.sleep(LOOK_S)
    return True


def unblocked(descriptor: int) -> None:
    """Make a pipe ready for write_within."""
    if polls():
        os.set_blocking(descriptor, False)


def write_within(descriptor: int, content: bytes, timeout_s: float) -> None:
    """Write all bytes to a pipe that was unblocked; raises TimeoutError where they are not taken by then, which leaves
    some of them behind, and OSError where the other side is gone."""
    if polls():
        _write_and_poll(descriptor, content, timeout_s)
    else:
        _write_beside(descriptor, content, timeout_s)


def _write_and_poll(descriptor: int, content: bytes, timeout_s: float) -> None:
    left, deadline = memoryview(content), time.monotonic() + timeout_s
    room = select.poll()
    room.register(descriptor, select.POLLOUT)
    while left:
        try:
            left = left[os.write(descriptor, left) :]
        except BlockingIOError:
            wait_s = deadline - time.monotonic()
            if wait_s <= 0 or not room.poll(1000.0 * wait_s):
                raise TimeoutError(f"it takes nothing, {timeout_s:g} s") from None


def _write_beside(descriptor: int, content: bytes, timeout_s: float) -> None:
    """In a thread, which stays with a reader that hangs until that one is ended: its write then fails."""
    failed: list[OSError] = []

    def write() -> None:
        left = memoryview(content)
        try:
            while left:
                left = left[os.write(descriptor, left) :]
        except OSError as error:
            failed.append(error)

    writer = threading.Thread(target=write, name="pipe-writer", daemon=True)
    writer.start()
    writer.join(timeout_s)
    if writer.is_alive():
        raise TimeoutError(f"it takes nothing, {timeout_s:g} s")
    if failed:
        raise failed[0]


def _holds_bytes(descriptor: int) -> bool:
    """Of a pipe on Windows; files and closed pipes count as such, a read does not wait there."""
    msvcrt, winapi = importlib.import_module("msvcrt"), importlib.import_module("_winapi")
    try:
        # As multiprocessing.connection looks into its pipes.
        available: int = winapi.PeekNamedPipe(msvcrt.get_osfhandle(descriptor), 0)[0]
    except OSError:
        return True
    return available > 0
