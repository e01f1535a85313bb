"""How much of what a run writes for people is kept: by days and by bytes, the oldest goes first."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError

__all__ = ["Retention"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """What may stay in a folder."""

    days: float = 30.0
    """Files older than this are deleted; 0 keeps them."""
    max_bytes: int = 1_000_000_000
    """The oldest files are deleted until the rest fits; 0 sets no limit."""

    def __post_init__(self) -> None:
        if self.days < 0 or self.max_bytes < 0:
            raise ConfigError(f"keeps {self.days} days and {self.max_bytes} bytes, expected 0 or more of both")

    def apply(self, folder: Path, suffixes: Sequence[str], *, now_s: float | None = None) -> int:
        """Delete what must go among the files of these suffixes, at most one folder deep; returns how many.

        Other files in the folder are none of ours and stay. Folders that have become empty go.
        """
        found = []
        for file in [*folder.glob("*"), *folder.glob("*/*")]:
            if file.suffix in suffixes and file.is_file() and not file.is_symlink():
                status = file.stat()
                found.append((status.st_mtime, status.st_size, file))
        found.sort(key=lambda entry: entry[0])
        total = sum(size for _, size, _ in found)
        oldest_s = (time.time() if now_s is None else now_s) - 86_400.0 * self.days
        deleted = 0
        for modified_s, size, file in found:
            if not ((self.days and modified_s < oldest_s) or (self.max_bytes and total > self.max_bytes)):
                break
            file.unlink(missing_ok=True)
            total -= size
            deleted += 1
            if file.parent != folder and not any(file.parent.iterdir()):
                file.parent.rmdir()
        return deleted
