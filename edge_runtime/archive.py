"""The container of a bundle: a folder of files, or the same as one stored zip file with a seal.

Nothing is extracted to disk: entries are read into memory, after their names and sizes were checked. The format is
specified in docs/bundle.md.
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

__all__ = ["pack", "read_entries", "sha256"]

MAX_BYTES = 2 * 1024**3
"""A bundle holds megabytes; anything that unpacks to more than 2 GiB is a mistake or an attack."""

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every entry carries the same time, so that the same content gives the same bytes."""

SEAL = b"edge-aae sha256:"
"""The archive comment is this and the SHA-256 of every byte before the comment's length field."""
END_RECORD_BYTES = 22
END_RECORD_MAGIC = b"PK\x05\x06"

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


def read_entries(path: Path) -> dict[str, bytes]:
    """The files of a bundle by name, from a folder or an .aae file; their hashes are the caller's to check.

    Raises BundleError for a missing, truncated or altered archive, and for entry names that could leave the folder.
    """
    if path.is_dir():
        return _read_folder(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read bundle {path}: {error.strerror or error}") from error
    _check_seal(path, content)
    return _read_zip(path, content)


def check_entry_name(name: str) -> str:
    """The name, if it is a plain file name; raises BundleError for paths, `..` and anything exotic."""
    if not ENTRY_NAME.fullmatch(name):
        raise BundleError(
            f"bundle entry {name!r} is refused: expected a plain file name inside the bundle, "
            "without folders or '..'; do not use this file"
        )
    return name


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
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            for entry in entries:
                if check_entry_name(entry.orig_filename) in files:
                    raise BundleError(f"{path} holds {entry.filename} twice; do not use this file")
                files[entry.filename] = b""
            if sum(entry.file_size for entry in entries) > MAX_BYTES:
                raise BundleError(f"{path} unpacks to more than {MAX_BYTES} bytes; do not use this file")
            for entry in entries:
                with archive.open(entry) as stream:
                    files[entry.filename] = stream.read(MAX_BYTES)
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


def _read_folder(path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for file in sorted(path.iterdir()):
        if file.name.startswith("."):
            continue
        if file.is_symlink() and not file.is_file():
            raise BundleError(f"{file} is a link that leads to no file; copy the file itself")
        if file.is_symlink() and file.resolve().parent != path.resolve():
            raise BundleError(f"{file} is a link that leaves the bundle's folder; copy the file itself")
        if not file.is_file():
            continue
        if file.stat().st_size > MAX_BYTES:
            raise BundleError(f"{file} is larger than {MAX_BYTES} bytes; do not use this bundle")
        if ENTRY_NAME.fullmatch(file.name):
            files[file.name] = file.read_bytes()
    return files
