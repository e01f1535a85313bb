"""One file in the place of another, also where a reader that has it open is in the way."""

from __future__ import annotations

import os
import time
from pathlib import Path

__all__ = ["replace"]

PATIENCE_S = 2.0
"""How long a reader on Windows may have the older file open: virus scanners and viewers take tens of milliseconds"""
LOOK_S = 0.02


def replace(source: Path, target: Path) -> None:
    """Give source the name of target, whatever stands there; raises OSError, on Windows after PATIENCE_S of trying."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            source.replace(target)
        except PermissionError:
            # Elsewhere it is the folder's, and waiting changes nothing.
            if not _may_be_in_use() or time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return


def _may_be_in_use() -> bool:
    """Whether an open file keeps its name: on Windows alone, where os has no geteuid."""
    return not hasattr(os, "geteuid")
