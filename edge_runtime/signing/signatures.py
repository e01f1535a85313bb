"""The file beside a bundle that holds its signatures: `model.aae.sig`, specified in docs/bundle.md.

Lines of text, read before anything of the bundle is; what signs and what checks is in keys.py and trust.py.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.errors import BundleError
from edge_runtime.files import read_regular, write_atomically

__all__ = [
    "ALGORITHM",
    "Signature",
    "Signed",
    "read_signatures",
    "signature_bytes",
    "signature_path",
    "write_signatures",
    "write_signed",
]

ALGORITHM = "ed25519"
"""RFC 8032, over the bytes of the archive as they are: `openssl pkeyutl -verify -rawin` checks it too."""

HEADER = b"edge-aae signature 1\n"
SIGNATURE_BYTES = 64
LINE = re.compile(rf"{ALGORITHM} ([0-9a-f]{{32}}) ([A-Za-z0-9+/]{{86}}==)")
MOST_SIGNATURES = 16
MOST_BYTES = 4096
"""Sixteen lines take two thousand."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What one key said of an archive; whether it holds is for the key to say."""

    key_id: str
    """32 hexadecimal digits, see keys.py; only a hint until the key has checked it"""
    value: bytes
    """64 bytes"""

    @property
    def name(self) -> str:
        """ed25519:KEY_ID, as records and messages name the key."""
        return f"{ALGORITHM}:{self.key_id}"


@dataclass(frozen=True, slots=True)
class Signed:
    """An archive, and the signature by a trusted key that was found to hold for these bytes."""

    archive: bytes = field(repr=False)
    """Kept, so that a copy can be written to which the signature belongs"""
    signature: Signature


def signature_path(bundle: Path) -> Path:
    """Where a bundle's signatures lie: model.aae.sig beside model.aae."""
    return bundle.with_name(f"{bundle.name}.sig")


def read_signatures(bundle: Path) -> tuple[Signature, ...]:
    """The signatures beside a bundle, none of them checked; at least one.

    Raises BundleError where there is no such file, or something else in it.
    """
    file = signature_path(bundle)
    try:
        content, _ = read_regular(file, MOST_BYTES)
    except FileNotFoundError as error:
        raise BundleError(
            f"{bundle} is not signed: there is no {file}; copy it too, or sign the bundle with `edge-aae sign`"
        ) from error
    except OSError as error:
        raise BundleError(f"cannot read {file}: {error.strerror or error}") from error
    except ValueError as error:
        raise BundleError(f"{file} {error}; expected the signatures that `edge-aae sign` writes") from error
    try:
        header, lines = content[: len(HEADER)], content[len(HEADER) :].decode("ascii").splitlines()
        found = tuple(_signature_of(line) for line in lines)
        if header != HEADER or not 0 < len(found) <= MOST_SIGNATURES:
            raise ValueError(f"it begins with {content[:40]!r} and has {len(found)} signatures")
    except ValueError as error:
        raise BundleError(
            f"{file} is no signature file of version 1: {error}; copy it again, or sign with `edge-aae sign`"
        ) from error
    return found


def signature_bytes(signatures: Sequence[Signature]) -> bytes:
    """The content of a signature file, of the first sixteen."""
    lines = [
        f"{ALGORITHM} {signature.key_id} {base64.b64encode(signature.value).decode('ascii')}\n"
        for signature in signatures[:MOST_SIGNATURES]
    ]
    return HEADER + "".join(lines).encode("ascii")


def write_signatures(bundle: Path, signatures: Sequence[Signature]) -> Path:
    """Write the file beside a bundle; gives its path. Raises DataError."""
    file = signature_path(bundle)
    write_atomically(file, signature_bytes(signatures))
    return file


def write_signed(bundle: Path, archive: bytes, signature: Signature) -> None:
    """Write an archive and its signature, so that what lies there is a signed bundle at every moment in between.

    Until the archive is replaced, its signature and those that were there stand side by side. Raises DataError.
    """
    try:
        before = read_signatures(bundle)
    except BundleError:
        before = ()
    write_signatures(bundle, (signature, *before))
    write_atomically(bundle, archive)
    write_signatures(bundle, (signature,))


def _signature_of(line: str) -> Signature:
    found = LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"a line {line[:40]!r}")
    try:
        value = base64.b64decode(found[2], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    return Signature(found[1], value)
