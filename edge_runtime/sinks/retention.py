"""How much of what a run writes for people is kept: by days and by bytes, the oldest goes first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import ConfigError

__all__ = ["Retention"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retention:
    """What may stay in a folder."""

    days: float = 30.0
    """Files older than this are deleted; 0 keeps them. Of what a run makes: days of the run."""
    max_bytes: int = 1_000_000_000
    """The oldest files are deleted until the rest fits; 0 sets no limit."""

    def __post_init__(self) -> None:
        if self.days < 0 or self.max_bytes < 0:
            raise ConfigError(f"keeps {self.days} days and {self.max_bytes} bytes, expected 0 or more of both")


class KeptFolder:
    """A folder that its retention is applied to, by ages that no step of the clock changes.

    What was there at the first cleaning is as old as its file says, and not from the future; what came since is as old
    as it has been seen, by the monotonic clock.
    """

    def __init__(
        self,
        folder: Path,
        suffixes: Sequence[str],
        retention: Retention,
        *,
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        """suffixes: of the files that are ours. clock: seconds, never falls. time_of_day: seconds since the epoch, read
        at the first cleaning alone."""
        self._folder, self._suffixes, self._retention = folder, tuple(suffixes), retention
        self._clock, self._time_of_day = clock, time_of_day
        self._began: tuple[float, float] | None = None
        self._born_s: dict[Path, float] = {}

    def clean(self) -> int:
        """Delete what must go among the files of these suffixes, at most one folder deep; returns how many.

        Other files in the folder are none of ours and stay. Folders that have become empty go.
        """
        retention, now_s, found = self._retention, self._clock(), self._found()
        if self._began is None:
            self._began = now_s, self._time_of_day()
        began_s, day_s = self._began
        known, self._born_s = self._born_s, {}
        for file, status in found.items():
            at_start_s = began_s + min(0.0, status.st_mtime - day_s)
            self._born_s[file] = known.get(file, at_start_s if now_s == began_s else now_s)
        total = sum(status.st_size for status in found.values())
        deleted = 0
        for file in sorted(found, key=lambda file: (self._born_s[file], found[file].st_mtime)):
            too_old = retention.days and now_s - self._born_s[file] > 86_400.0 * retention.days
            if not (too_old or (retention.max_bytes and total > retention.max_bytes)):
                break
            file.unlink(missing_ok=True)
            total -= found[file].st_size
            deleted += 1
            if file.parent != self._folder and not any(file.parent.iterdir()):
                file.parent.rmdir()
        return deleted

    def _found(self) -> dict[Path, os.stat_result]:
        return {
            file: file.stat()
            for file in [*self._folder.glob("*"), *self._folder.glob("*/*")]
            if file.suffix in self._suffixes and file.is_file() and not file.is_symlink()
        }
