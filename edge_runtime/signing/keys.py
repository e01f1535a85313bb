"""Ed25519 keys in PEM files: made, read, and named by an id. `cryptography` is imported where a key is used.

A private key signs where bundles are exported (PKCS #8, with a passphrase or without); a device has public ones alone
(SubjectPublicKeyInfo). Both are what `openssl genpkey` and `openssl pkey -pubout` write too.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.files import read_regular
from edge_runtime.signing.signatures import ALGORITHM, Signature
from edge_runtime.systems.users import others_may

__all__ = ["PublicKey", "SigningKey", "make_keys", "read_public_keys", "read_signing_key"]

ID_DIGITS = 32
"""Of the SHA-256 of the public key's 32 bytes: 128 bits, too many to find another key with the same"""

MOST_BYTES = 1 << 16
MOST_KEYS = 64
SUFFIX = ".pub"
PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----\r?\n[^-]*-----END PUBLIC KEY-----")
PRIVATE = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
LOCKED = re.compile(rb"-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED", re.MULTILINE)
MAKE = "`edge-aae keys make` makes a pair"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key whose signatures are believed, and where it stands."""

    key_id: str
    file: Path
    pem: bytes
    key: Any = field(repr=False)
    """An Ed25519PublicKey of `cryptography`"""

    def holds(self, signature: Signature, content: bytes) -> bool:
        """Whether this key made the signature, for these very bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.key.verify(signature.value, content)
        except InvalidSignature:
            return False
        return True

    def __str__(self) -> str:
        return f"{ALGORITHM}:{self.key_id} ({self.file.name})"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, opened."""

    public: PublicKey
    _key: Any = field(repr=False)

    def sign(self, content: bytes) -> Signature:
        """The signature for these bytes; the same key and bytes give the same one."""
        return Signature(self.public.key_id, self._key.sign(content))


def make_keys(stem: Path, passphrase: bytes | None) -> PublicKey:
    """Write a new pair: STEM.key, which its owner alone may read, and STEM.pub; gives the public one.

    passphrase: encrypts the private key; None leaves it open. Raises ConfigError where either file is there already,
    or cannot be written.
    """
    ed25519, serialization = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    lock = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    public = _public_key(key.public_key(), stem.with_name(f"{stem.name}{SUFFIX}"))
    written: list[Path] = []
    try:
        for file, content, mode in ((_key_file(stem), private, 0o600), (public.file, public.pem, 0o644)):
            _write_new(file, content, mode)
            written.append(file)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        what = (
            "is there already; another name, for no key is ever replaced"
            if isinstance(error, FileExistsError)
            else (f"cannot be written: {error.strerror or error}")
        )
        raise ConfigError(f"{error.filename} {what}") from error
    return public


def read_signing_key(file: Path, passphrase: Callable[[], str]) -> SigningKey:
    """The private key in a PEM file. passphrase: asked where the key has one.

    Raises ConfigError where others may read the file, where the passphrase is wrong, and for any other content.
    """
    ed25519, serialization = _cryptography()
    content, status = _read(file)
    if PRIVATE.search(content) is None:
        kind = "holds a public key" if PUBLIC.search(content) else "holds no key"
        raise ConfigError(f"{file} {kind}, expected the private key that signs, such as release.key; {MAKE}")
    if others_may(status, 0o077):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            f"{file} may be used by others (mode {mode:04o}), expected 0600; chmod 600 {file}, and make another key if "
            "somebody may have read it"
        )
    secret = passphrase().encode("utf-8") if LOCKED.search(content) else None
    try:
        key = serialization.load_pem_private_key(content, secret)
    except Exception as error:  # ValueError, TypeError, UnsupportedAlgorithm, and OpenSSL's own
        if secret is not None:
            raise ConfigError(f"the passphrase does not open {file}; or the file is damaged") from error
        raise ConfigError(f"{file} is no private key in PEM that can be read: {error}; {MAKE}") from error
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise ConfigError(f"{file} holds a key of another kind ({type(key).__name__}), expected Ed25519; {MAKE}")
    return SigningKey(_public_key(key.public_key(), file), key)


def read_public_keys(path: Path) -> tuple[PublicKey, ...]:
    """The keys in a PEM file, which may hold several, or in every *.pub of a folder; at least one, each once.

    Raises ConfigError where there is none, for keys of other kinds, and where everybody may write the file or folder.
    """
    files = [path]
    if path.is_dir():
        _refuse_open(path, path.stat())
        files = sorted(path.glob(f"*{SUFFIX}"))
        if not files:
            raise ConfigError(f"{path} holds no *{SUFFIX} file, expected public keys of who may sign bundles; {MAKE}")
    found: dict[str, PublicKey] = {}
    for file in files:
        for key in _keys_in(file):
            found.setdefault(key.key_id, key)
    if len(found) > MOST_KEYS:
        raise ConfigError(f"{path} holds {len(found)} keys, expected {MOST_KEYS} at most; take away what signs no more")
    return tuple(found.values())


def _keys_in(file: Path) -> list[PublicKey]:
    ed25519, serialization = _cryptography()
    content, status = _read(file)
    _refuse_open(file, status)
    if PRIVATE.search(content):
        raise ConfigError(f"{file} holds a private key, expected public ones; a device must not have what signs")
    blocks = PUBLIC.findall(content)
    # A block that is cut off, or another sort of it, must not go unnoticed between others.
    if not blocks or content.count(b"-----BEGIN ") != len(blocks):
        raise ConfigError(
            f"{file} holds no public keys in PEM, or something else too, expected such keys alone; {MAKE}"
        )
    found = []
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block)
        except Exception as error:  # likewise
            raise ConfigError(f"{file} holds a public key that cannot be read: {error}; {MAKE}") from error
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise ConfigError(f"{file} holds a key of another kind ({type(key).__name__}), expected Ed25519; {MAKE}")
        found.append(_public_key(key, file))
    return found


def _public_key(key: Any, file: Path) -> PublicKey:
    _, serialization = _cryptography()
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(raw).hexdigest()[:ID_DIGITS], file, pem, key)


def _key_file(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.key")


def _write_new(file: Path, content: bytes, mode: int) -> None:
    """Write a file that must not be there; it is never readable by more than mode says. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        file.chmod(mode)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


def _read(file: Path) -> tuple[bytes, os.stat_result]:
    try:
        return read_regular(file, MOST_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read the key {file}: {error.strerror or error}; {MAKE}") from error
    except ValueError as error:
        raise ConfigError(f"{file} {error}; a key is a PEM file; {MAKE}") from error


def _refuse_open(path: Path, status: os.stat_result) -> None:
    if others_may(status, stat.S_IWOTH):
        raise ConfigError(
            f"{path} may be written by everybody, who then decides whose bundles are taken; chmod o-w {path}"
        )


def _cryptography() -> tuple[Any, Any]:
    """Its modules of Ed25519 and of files. Raises MissingExtraError."""
    purpose = "signatures"
    require("cryptography", extra="sign", purpose=purpose)
    return (
        require("cryptography.hazmat.primitives.asymmetric.ed25519", extra="sign", purpose=purpose),
        require("cryptography.hazmat.primitives.serialization", extra="sign", purpose=purpose),
    )
