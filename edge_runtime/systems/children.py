"""Processes that a run begins and that must neither hear its Ctrl-C nor take its time."""

from __future__ import annotations

import os
import subprocess
from typing import Any

__all__ = ["apart", "yield_time"]


def apart() -> dict[str, Any]:
    """Arguments of subprocess.Popen, with which Ctrl-C at the terminal is the parent's alone to answer."""
    if hasattr(os, "setsid"):
        return {"start_new_session": True}
    # What yield_time does elsewhere is asked for here.
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.BELOW_NORMAL_PRIORITY_CLASS}  # type: ignore[attr-defined, unused-ignore]


def yield_time(by: int) -> None:
    """Let others go first, by as much as nice says; on Windows `apart` has done it."""
    if hasattr(os, "nice"):
        os.nice(by)
