"""Whose a file is and who else may use it, where the system says so by owner and mode."""

from __future__ import annotations

import os

__all__ = ["has_users", "others_may", "own_user"]


def has_users() -> bool:
    """Whether files have an owner and a mode; on Windows access control lists stand in for both, and are not read."""
    return hasattr(os, "geteuid")


def own_user() -> int:
    """This process's user; 0 where there are none, which is what os.stat then says of every file."""
    return os.geteuid() if has_users() else 0


def others_may(status: os.stat_result, bits: int) -> int:
    """Those of the mode's bits that a file has; 0 on Windows, where its mode says nothing of others."""
    return status.st_mode & bits if has_users() else 0
