"""A lock that one process has on an open file, and that ends with it, however it ends."""

from __future__ import annotations

import importlib
import os

__all__ = ["lock"]


def lock(descriptor: int, *, wait: bool = False) -> None:
    """Lock an open file for this process until the descriptor is closed; raises BlockingIOError where another has it.

    wait: until the other one has ended. On Windows it is the file's first byte that is locked, and waiting is for ten
    tries, one a second (msvcrt.locking).
    """
    try:
        import fcntl
    except ImportError:
        _lock_first_byte(descriptor, wait)
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _lock_first_byte(descriptor: int, wait: bool) -> None:
    msvcrt = importlib.import_module("msvcrt")  # by name: type checkers know it on Windows alone
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(error.errno, "another process has it") from error
