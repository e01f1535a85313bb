"""Writing files so that nothing is lost and every failure names the file."""

from __future__ import annotations

import csv
import errno
import io
import json
import math
import os
import re
import stat
import tempfile
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.errors import DataError
from edge_runtime.redact import redact
from edge_runtime.systems.replacing import replace

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "DISK_FULL",
    "OWN_ALONE",
    "check_file_place",
    "check_folder_place",
    "csv_bytes",
    "file_identity",
    "file_stem",
    "finite_or_none",
    "is_run_folder",
    "json_bytes",
    "make_tables",
    "read_regular",
    "set_damaged_aside",
    "unicode_name",
    "write_atomically",
    "write_file",
]


LONGEST_STEM = 40

OWN_ALONE = 0o600
"""Mode of files that hold secrets, or what a camera saw: their owner's alone."""
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a disk that takes nothing for now, which a person or time can mend while a run goes on."""
OF_A_RUN = ("weights.safetensors", "checkpoint.safetensors", "calibration.json")
"""What a run folder holds beside its config.json, one of them at least once a training has begun."""


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file whole or not at all: a temporary file beside it, flushed to disk, renamed over it.

    mode: as of chmod; the file never has another, so that OWN_ALONE keeps a secret from its first byte on.

    Raises DataError where that fails; an older file then stays as it was.
    """
    try:
        _write_and_rename(path, content, mode)
    except OSError as error:
        raise _cannot_write(path, error) from error


def write_file(path: Path, content: bytes) -> None:
    """Write a file in place, so that pipes and devices such as /dev/stdout serve too. Raises DataError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_file_place(path: Path) -> None:
    """Raise DataError where no file can be made at a path, before the work whose result is to lie there."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        _try_place(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_folder_place(path: Path, *, option: str = "--out") -> None:
    """Raise DataError where a folder can neither be made nor written into, before the work whose results it is for."""
    try:
        _try_place(path)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror or error}; name another {option}") from error


def read_regular(path: Path, most_bytes: int) -> tuple[bytes, os.stat_result]:
    """A file's bytes and status, opened once: both are of one file, whatever is moved to the path meanwhile.

    Raises OSError, and ValueError for what is no file or has more than most_bytes; its message goes on after the name.
    """
    # Without O_NONBLOCK, which Windows has not, a pipe would be waited for.
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is a device or pipe, expected a file")
        if status.st_size > most_bytes:
            raise ValueError(f"is larger than {most_bytes} bytes")
        return stream.read(status.st_size), status


def file_identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of what stands at the path; None where nothing does, or it cannot be told."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_run_folder(path: Path) -> bool:
    """Whether `edge-aae train` wrote this folder."""
    return (path / "config.json").is_file() and any((path / name).is_file() for name in OF_A_RUN)


def csv_bytes(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """The lines of a CSV file; file names that are no UTF-8 keep their bytes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", errors="surrogateescape")


def json_bytes(values: Any) -> bytes:
    """JSON as a person can read it, with a newline at its end. Raises ValueError for NaN and infinity."""
    return (json.dumps(values, indent=2, allow_nan=False) + "\n").encode("ascii")


def finite_or_none(value: Any) -> Any:
    """The value; None, JSON's null, for a float that is not finite: JSON has neither NaN nor infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def file_stem(name: str) -> str:
    """A name for files of something that is named, such as a source: letters, digits, . _ - alone, no password."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", redact(name)).strip("._") or "source"
    return plain if len(plain) <= LONGEST_STEM else f"{plain[:LONGEST_STEM]}-{zlib.crc32(redact(name).encode()):08x}"


def unicode_name(name: str) -> str:
    """The name with ? for each byte of a file name that is no UTF-8: not every JSON reader takes lone surrogates, and
    no terminal."""
    return name.encode("utf-8", errors="replace").decode("utf-8")


def _try_place(folder: Path) -> None:
    """Make something where a folder is or would be, which is gone again; raises OSError where that fails.

    Not by modes: root may write everywhere, and still makes nothing below /proc.
    """
    nearest = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    tempfile.TemporaryDirectory(dir=nearest, prefix=".edge-aae-").cleanup()


def _write_and_rename(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private; a bundle is read by services under other users.
        temporary.chmod(mode)
        replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {path}: {error.strerror or error}")


def make_tables(
    database: sqlite3.Connection, tables: str, *, schema: int, synchronous: str, called: str, remedy: str
) -> None:
    """Create the tables that are missing in a SQLite file, in write-ahead mode.

    synchronous: SQLite's FULL or NORMAL. called, remedy: beginning and end of the DataError that a file of another
    schema raises.
    """
    found = database.execute("PRAGMA user_version").fetchone()[0]
    if found not in (0, schema):
        raise DataError(f"{called} schema {found}, this release knows {schema}; update edge-aae{remedy}")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute(f"PRAGMA synchronous={synchronous}")
    database.executescript(tables)
    database.execute(f"PRAGMA user_version={schema}")


def set_damaged_aside(path: Path) -> Path:
    """Move a SQLite file that is none any more out of a new one's way, with what SQLite keeps beside it.

    Returns where it lies now. Raises OSError.
    """
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    for suffix in ("", "-wal", "-shm"):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    return aside
