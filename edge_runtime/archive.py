"""The container of a bundle: a folder of files, or the same as one stored zip file with a seal.

Nothing is extracted to disk: entries are read into memory, after their names and sizes were checked, and what they
inflate to is bounded by the directory before any is inflated. The format is specified in docs/bundle.md.
"""

from __future__ import annotations

import hashlib
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from edge_runtime.errors import BundleError
from edge_runtime.files import read_regular

__all__ = [
    "TooMuchError",
    "check_entry_name",
    "most_inflated",
    "open_zip",
    "pack",
    "read_archive",
    "read_folder",
    "sha256",
    "unpacked",
]

MAX_BYTES = 2 * 1024**3
"""A bundle holds megabytes; anything that unpacks to more than 2 GiB is a mistake or an attack."""

FREE_BYTES = 64 << 20
MOST_RATIO = 8
"""What an archive may inflate to: 64 MiB, and eight times its size. Weights deflate to half their size at best."""

MOST_ENTRIES = 1000
MOST_DIRECTORY_BYTES = 1 << 20
"""Of a zip file's list of entries: ten take a thousand bytes, and one of 20 MB takes half a gigabyte to read."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every entry carries the same time, so that the same content gives the same bytes."""

SEAL = b"edge-aae sha256:"
"""The archive comment is this and the SHA-256 of every byte before the comment's length field."""
END_RECORD_BYTES = 22
END_RECORD_MAGIC = b"PK\x05\x06"
LOCATOR_BYTES = 20
LOCATOR_MAGIC = b"PK\x06\x07"
"""Before the end record of a zip file beyond 4 GiB: it says otherwise than the end record where the list lies."""
DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
CHUNK_BYTES = 1 << 16

LARGE_BYTES = 1_000_000
WORTH_DEFLATING = 0.75

ENTRY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def sha256(content: bytes) -> str:
    """SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def pack(files: Mapping[str, bytes]) -> bytes:
    """The bytes of an .aae archive: entries in the given order, sealed; the same files give the same bytes.

    An entry is stored as it is, unless it is large and deflating it saves a quarter: then the same zlib gives the same
    bytes.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(check_entry_name(name), date_time=ZIP_EPOCH)
            entry.create_system = 3  # Unix on every platform, for identical bytes
            entry.external_attr = 0o644 << 16
            if len(content) >= LARGE_BYTES and len(zlib.compress(content)) <= WORTH_DEFLATING * len(content):
                entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    body = buffer.getvalue()[:-2]  # without the comment length, which is zero and ends the file
    seal = SEAL + sha256(body).encode("ascii")
    return body + struct.pack("<H", len(seal)) + seal


def read_archive(path: Path) -> bytes:
    """The bytes of an .aae file, of which nothing was looked at. Raises BundleError where it cannot be read."""
    try:
        content, _ = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise BundleError(f"cannot read bundle {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{path} {error}; a bundle is an .aae file or a folder: do not use this") from error
    return content


def unpacked(path: Path, archive: bytes) -> dict[str, bytes]:
    """The files of a bundle by name, from the bytes of its .aae file; their hashes are the caller's to check.

    path: what the file is called. Raises BundleError for a truncated or altered archive, and for entry names that could
    leave the folder.
    """
    _check_seal(path, archive)
    return _read_zip(path, archive)


def read_folder(path: Path) -> dict[str, bytes]:
    """The same of a folder. Raises BundleError for links that leave it, and where it holds too much."""
    files: dict[str, bytes] = {}
    n_bytes = 0
    for file in sorted(path.iterdir()):
        if file.name.startswith("."):
            continue
        if file.is_symlink() and not file.is_file():
            raise BundleError(f"{file} is a link that leads to no file; copy the file itself")
        if file.is_symlink() and file.resolve().parent != path.resolve():
            raise BundleError(f"{file} is a link that leaves the bundle's folder; copy the file itself")
        if not file.is_file():
            continue
        if not ENTRY_NAME.fullmatch(file.name):
            continue
        n_bytes += file.stat().st_size
        if n_bytes > MAX_BYTES or len(files) == MOST_ENTRIES:
            raise BundleError(
                f"{path} holds more than {MAX_BYTES} bytes or {MOST_ENTRIES} files; do not use this bundle, or move "
                "what is none of it elsewhere"
            )
        files[file.name] = file.read_bytes()
    return files


def check_entry_name(name: str) -> str:
    """The name, if it is a plain file name; raises BundleError for paths, `..` and anything exotic."""
    if not ENTRY_NAME.fullmatch(name):
        raise BundleError(
            f"bundle entry {name!r} is refused: expected a plain file name inside the bundle, "
            "without folders or '..'; do not use this file"
        )
    return name


class TooMuchError(ValueError):
    """An archive that would take more memory than its size can explain; the message goes on after its name."""


def most_inflated(n_bytes: int, free_bytes: int = FREE_BYTES) -> int:
    """Bytes that an archive of so many may inflate to."""
    return min(MAX_BYTES, free_bytes + MOST_RATIO * n_bytes)


def open_zip(content: bytes, most_bytes: int) -> zipfile.ZipFile:
    """The zip archive, of which the list of entries alone was read; for one of those read no more than it lists.

    Raises TooMuchError where it lists more than a thousand entries or most_bytes, and BadZipFile.
    """
    end = content.rfind(END_RECORD_MAGIC)
    if end < 0 or end + END_RECORD_BYTES > len(content):
        raise zipfile.BadZipFile("it has no end record")
    (directory_bytes,) = struct.unpack_from("<I", content, end + 12)
    if directory_bytes > MOST_DIRECTORY_BYTES or content[max(0, end - LOCATOR_BYTES) : end].startswith(LOCATOR_MAGIC):
        raise TooMuchError(f"has a list of entries of more than {MOST_DIRECTORY_BYTES} bytes")
    archive = zipfile.ZipFile(io.BytesIO(content))
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise TooMuchError(f"has more than {MOST_ENTRIES} entries")
    if sum(entry.file_size for entry in entries) > most_bytes:
        raise TooMuchError(f"unpacks to more than {most_bytes} bytes")
    return archive


def _check_seal(path: Path, content: bytes) -> None:
    """Refuse what is no complete zip file, and an archive whose bytes are not those that were sealed.

    An archive without a comment (zipped by another tool) has no seal; its entries' hashes still protect it.
    """
    if content[:4] != b"PK\x03\x04":
        kind = "a Python pickle" if content[:1] == b"\x80" else "empty" if not content else "no zip archive"
        raise BundleError(f"{path} is not a bundle: it is {kind}; expected an .aae file from `edge-aae export`")
    end = content.rfind(END_RECORD_MAGIC)
    if end < 0 or end + END_RECORD_BYTES > len(content):
        raise BundleError(f"{path} is truncated: the archive has no end record; copy it again")
    comment = content[end + END_RECORD_BYTES :]
    (comment_length,) = struct.unpack_from("<H", content, end + END_RECORD_BYTES - 2)
    if comment_length != len(comment):
        raise BundleError(f"{path} is truncated or altered: bytes are missing or added at its end; copy it again")
    if comment and comment != SEAL + sha256(content[: end + END_RECORD_BYTES - 2]).encode("ascii"):
        raise BundleError(
            f"{path} was altered: its bytes do not match the SHA-256 it was sealed with; "
            "copy it again or export it again"
        )


def _read_zip(path: Path, content: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with open_zip(content, most_inflated(len(content))) as archive:
            entries = archive.infolist()
            for entry in entries:
                if check_entry_name(entry.orig_filename) in files:
                    raise BundleError(f"{path} holds {entry.filename} twice; do not use this file")
                files[entry.filename] = b""
            for entry in entries:
                files[entry.filename] = _inflated(archive, entry)
    except TooMuchError as error:
        raise BundleError(f"{path} {error}; do not use this file") from error
    except (
        zipfile.BadZipFile,
        lzma.LZMAError,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
        struct.error,
    ) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{path} is damaged: {error}; copy it again or export it again") from error
    return files


def _inflated(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    with archive.open(entry) as stream:
        if entry.compress_type in DEFLATED:
            return stream.read(entry.file_size + 1)
        # Other methods inflate whatever is given to them at once, whatever the entry lists.
        content = bytearray()
        while chunk := stream.read(CHUNK_BYTES):
            content += chunk
        return bytes(content)
