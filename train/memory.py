"""What the process keeps of the memory that it frees."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30
MOST_BYTES = 1 << 28
"""Of one allocation that is kept; a larger one goes back to the system."""


def keep_freed_memory() -> None:
    """Have glibc reuse what tensors free instead of handing it back: mallopt(3). Elsewhere nothing happens.

    By default it hands every block of 32 MB and more back to the system, and each new page costs a fault: a third of
    the time that training on 41 photographs took.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
