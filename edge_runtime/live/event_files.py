"""Snapshots and clips that a run makes of its events, as files that the live page may show.

A file is found by the name that sinks/pictures.py gives it of the event's record, in the folder that the run was given;
nothing that is asked for in a request becomes part of a path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.live.board import Event
from edge_runtime.sinks.pictures import clip_name, snapshot_name

__all__ = ["EventFiles"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EventFiles:
    """The folders of --snapshots and --clips; None where the run makes none."""

    snapshots: Path | None = None
    clips: Path | None = None

    def snapshot(self, event: Event) -> Path | None:
        """The event's snapshot; None where there is none."""
        return _file(self.snapshots, event, "snapshot", snapshot_name)

    def clip(self, event: Event) -> Path | None:
        """The event's clip; None where there is none, or it is still being recorded."""
        return _file(self.clips, event, "clip", clip_name)


def _file(folder: Path | None, event: Event, key: str, name: Callable[[dict[str, Any]], str]) -> Path | None:
    if folder is None or not event.record.get(key):
        return None
    file = (folder / name(event.record)).resolve()
    return file if file.is_relative_to(folder.resolve()) and file.is_file() else None
