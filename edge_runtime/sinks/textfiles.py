"""Records as text: JSON Lines and CSV, in files that rotate and hold whole lines alone, or on standard output."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import DISK_FULL, OWN_ALONE, file_identity
from edge_runtime.redact import redact
from edge_runtime.sinks.contract import Emission, SinkBase
from edge_runtime.sinks.records import to_line

__all__ = ["CsvFile", "JsonLinesFile", "Rotation", "StandardOutput", "TextFile", "append_record"]

logger = logging.getLogger(__name__)

CSV_COLUMNS = (
    "source_id", "frame_id", "name", "t_capture", "t_emit", "age_ms", "score", "score_smoothed", "threshold",
    "is_anomaly", "state", "event_id", "model",
)  # fmt: skip


class Rotation:
    """When a file is put aside and how many of those are kept; the older one is, the smaller its number."""

    def __init__(self, max_bytes: int = 0, keep: int = 0) -> None:
        """max_bytes: 0 never rotates; keep: 0 keeps all."""
        if max_bytes < 0 or keep < 0:
            raise ConfigError(f"rotation at {max_bytes} bytes keeping {keep} files, expected 0 or more")
        self.max_bytes = max_bytes
        self.keep = keep

    def put_aside(self, path: Path) -> Path | None:
        """Give what stands at path the next number, and delete what is too old; None where nothing stood there."""
        if not path.is_file():
            return None
        if path.stat().st_size == 0:
            path.unlink()
            return None
        numbers = self._numbers(path)
        older = path.with_name(f"{path.name}.{max(numbers, default=0) + 1}")
        path.rename(older)
        for number in sorted([*numbers, max(numbers, default=0) + 1])[: -self.keep] if self.keep else ():
            path.with_name(f"{path.name}.{number}").unlink(missing_ok=True)
        return older

    @staticmethod
    def _numbers(path: Path) -> list[int]:
        pattern = re.compile(re.escape(path.name) + r"\.(\d+)")
        return [int(found[1]) for file in path.parent.iterdir() if (found := pattern.fullmatch(file.name))]


class StandardOutput(SinkBase):
    """JSON Lines on standard output, each record at once."""

    name = "stdout"

    def __init__(self, kinds: Sequence[str] = SinkBase.kinds) -> None:
        self.kinds = tuple(kinds)
        self._descriptor: int | None = None

    def open(self) -> None:
        """Find the descriptor: writes go past Python's buffer, whose lock would stay held where the reader hangs."""
        sys.stdout.flush()
        try:
            self._descriptor = sys.stdout.fileno()
        except (io.UnsupportedOperation, AttributeError):
            self._descriptor = None

    def write(self, emission: Emission) -> None:
        """Write one line; raises BrokenPipeError where the reader went away."""
        line = to_line(emission.record)
        if self._descriptor is None:
            sys.stdout.write(line)
            return
        content = memoryview(line.encode("utf-8"))
        while content:
            content = content[os.write(self._descriptor, content) :]


class TextFile(SinkBase):
    """Lines in a file. A line that does not fit on the disk is taken back, so that none is ever cut."""

    def __init__(self, path: Path, rotation: Rotation | None = None, kinds: Sequence[str] = SinkBase.kinds) -> None:
        """An existing file is kept, as the next number after its name. Missing folders are made."""
        self.path = path
        self.name = str(path)
        self.kinds = tuple(kinds)
        self._rotation = rotation or Rotation()
        self._stream: io.FileIO | None = None
        self._size = 0

    def open(self) -> None:
        """Create the file; raises DataError where that cannot be."""
        try:
            older = self._rotation.put_aside(self.path)
            self._begin()
        except OSError as error:
            if error.errno in DISK_FULL:  # for now: records are counted that find no room
                logger.error("%s takes nothing yet: %s", redact(self.name), error.strerror)
                return
            raise DataError(f"cannot write records to {self.path}: {error.strerror or error}") from error
        if older:
            logger.info("kept the older records as %s", older)

    def write(self, emission: Emission) -> None:
        """Add a record's line; raises OSError where the disk does not take it."""
        content = self.line(emission.record).encode("utf-8")
        self._follow()
        if self._rotation.max_bytes and self._size and self._size + len(content) > self._rotation.max_bytes:
            self.close()
            self._rotation.put_aside(self.path)
        if self._stream is None:
            self._begin()
        self._append(content)

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def tick(self) -> None:
        """See whether the file is still where it was."""
        self._follow()

    def reopen(self) -> None:
        """Go on in the file that stands at the path now."""
        self._follow()
        self.close()
        self._begin()

    def header(self) -> str:
        """What stands at the top of each file."""
        return ""

    def line(self, record: dict[str, Any]) -> str:
        """One record as text."""
        return to_line(record)

    def _follow(self) -> None:
        """Go on in another file where ours was renamed, replaced or removed: nobody would find what came into it."""
        if self._stream is None:
            return
        ours = os.fstat(self._stream.fileno())
        there = file_identity(self.path)
        if there == (ours.st_dev, ours.st_ino):
            if stat.S_ISREG(ours.st_mode):
                self._size = ours.st_size  # somebody may have emptied it
                self._head()
            return
        self.close()
        self._begin()
        how = "removed or renamed" if there is None else "replaced by another file"
        reason = f"{self.path} was {how} while it was written; a new file goes on there"
        logger.warning("%s", redact(reason))
        self.say("warning", "SINK_REOPENED", reason=reason)

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stream = io.FileIO(self.path, "a", opener=_own_alone)
        self._size = self._stream.tell() if self._stream.seekable() else 0
        self._head()

    def _head(self) -> None:
        header = self.header()
        if header and not self._size:
            try:
                self._append(header.encode("utf-8"))
            except OSError:
                self.close()  # begun again with the next record, header and all
                raise

    def _append(self, content: bytes) -> None:
        assert self._stream is not None
        left = memoryview(content)
        try:
            while left:
                left = left[self._stream.write(left) or 0 :]
        except OSError:
            if stat.S_ISREG(os.fstat(self._stream.fileno()).st_mode):
                os.ftruncate(self._stream.fileno(), self._size)
            raise
        self._size += len(content)


class JsonLinesFile(TextFile):
    """JSON Lines in a file."""


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a record's line to what stands in a JSON Lines file; missing folders are made. Raises DataError."""
    lines = JsonLinesFile(path)
    try:
        # Not opened before: that would put aside what stands there.
        lines.write(Emission(record))
    except OSError as error:
        raise DataError(f"cannot write a record to {path}: {error.strerror or error}") from error
    finally:
        lines.close()


class CsvFile(TextFile):
    """Frame records as a table: what a spreadsheet takes. Criteria and latencies are columns of their own."""

    def __init__(
        self, path: Path, criteria: Sequence[str], rotation: Rotation | None = None, *, too_small: bool = False
    ) -> None:
        """criteria: the bundle's, which name columns. too_small: whether there is a column for that, the last."""
        super().__init__(path, rotation, ("frame",))
        self._last = ("too_small",) if too_small else ()
        self._criteria = tuple(criteria)
        self._stages = ("capture", "preprocess", "infer", "post")

    def header(self) -> str:
        """The columns' names."""
        return self._row([*CSV_COLUMNS, *self._criteria, *(f"{stage}_ms" for stage in self._stages), *self._last])

    def line(self, record: dict[str, Any]) -> str:
        """A frame as a row; what is not known is empty, true and false are 1 and 0."""
        values = [record[column] for column in CSV_COLUMNS]
        values += [record["criteria"].get(name) for name in self._criteria]
        values += [record["latency_ms"][stage] for stage in self._stages]
        values += [record.get(name) for name in self._last]
        return self._row([int(value) if isinstance(value, bool) else value for value in values])

    @staticmethod
    def _row(values: Sequence[Any]) -> str:
        row = io.StringIO()
        csv.writer(row, lineterminator="\n").writerow(values)
        return row.getvalue()


def _own_alone(path: str, flags: int) -> int:
    """Opens a file that is made for its owner alone."""
    return os.open(path, flags, OWN_ALONE)
