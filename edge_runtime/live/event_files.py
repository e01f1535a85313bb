"""Snapshots and clips that a run makes of its events, as files that the live page may show.

A file is found by the name that the event's own record gives it, in the folder that the run was given; nothing that is
asked for in a request becomes part of a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.live.board import Event

__all__ = ["EventFiles"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFiles:
    """The folders of --snapshots and --clips; None where the run makes none."""

    snapshots: Path | None = None
    clips: Path | None = None

    def snapshot(self, event: Event) -> Path | None:
        """The event's snapshot; None where there is none."""
        return _file(self.snapshots, event.record.get("snapshot"), ".jpg")

    def clip(self, event: Event) -> Path | None:
        """The event's clip; None where there is none, or it is still being recorded."""
        return _file(self.clips, event.record.get("clip"), ".avi")


def _file(folder: Path | None, named: object, suffix: str) -> Path | None:
    if folder is None or not isinstance(named, str):
        return None
    file = folder / Path(named).name
    return file if file.suffix == suffix and file.is_file() and not file.is_symlink() else None
