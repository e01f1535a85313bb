"""Key files: what is made, what is read, and what is refused in one sentence."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cryptography", reason="cryptography is not installed")

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from edge_runtime.errors import ConfigError, MissingExtraError
from edge_runtime.signing.keys import make_keys, read_public_keys, read_signing_key
from tests.signing import key_of

RFC_8032 = {
    "secret": "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    "public": "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "message": "af82",
    "signature": "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
}
"""Section 7.1, test 3"""

KEY_ID = "dac073e0123bdea59dd9b3bda9cf6037"
PEM = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=
-----END PUBLIC KEY-----
"""

PRIVATE_PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
PUBLIC_PEM = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo


def never() -> str:
    pytest.fail("a passphrase is asked for")


def private_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    file = folder / "x.key"
    file.write_bytes(content)
    file.chmod(mode)
    return file


def test_a_signature_is_that_of_the_rfc_and_a_key_is_named_by_the_hash_of_its_bytes(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(RFC_8032["secret"]))
    opened = read_signing_key(private_file(tmp_path, key.private_bytes(*PRIVATE_PEM)), never)
    signature = opened.sign(bytes.fromhex(RFC_8032["message"]))
    assert signature.value.hex() == RFC_8032["signature"]
    assert (signature.key_id, signature.name) == (KEY_ID, f"ed25519:{KEY_ID}")
    assert opened.public.pem == PEM
    (tmp_path / "x.pub").write_bytes(PEM)
    (public,) = read_public_keys(tmp_path / "x.pub")
    assert public.holds(signature, b"\xaf\x82")
    assert not public.holds(signature, b"\xaf\x83")


def test_a_pair_is_made_which_its_owner_alone_may_read_and_never_replaced(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public = make_keys(tmp_path / "keys/release", None)
    finally:
        os.umask(before)
    key, pub = tmp_path / "keys/release.key", tmp_path / "keys/release.pub"
    assert (key.stat().st_mode & 0o7777, pub.stat().st_mode & 0o7777) == (0o600, 0o644)
    assert [one.key_id for one in read_public_keys(pub)] == [public.key_id]
    assert read_signing_key(key, never).public.key_id == public.key_id
    contents = key.read_bytes(), pub.read_bytes()
    with pytest.raises(ConfigError, match=r"release\.key is there already; another name, for no key is ever replaced"):
        make_keys(tmp_path / "keys/release", None)
    assert (key.read_bytes(), pub.read_bytes()) == contents
    key.unlink()
    with pytest.raises(ConfigError, match=r"release\.pub is there already"):
        make_keys(tmp_path / "keys/release", None)
    assert not key.exists()


def test_a_passphrase_is_asked_for_where_the_key_has_one_and_has_to_be_right(tmp_path: Path) -> None:
    public = make_keys(tmp_path / "release", "Käse".encode())
    assert b"ENCRYPTED PRIVATE KEY" in (tmp_path / "release.key").read_bytes()
    assert read_signing_key(tmp_path / "release.key", lambda: "Käse").public.key_id == public.key_id
    for wrong in ("Kase", "", "Käse "):
        with pytest.raises(ConfigError, match=r"the passphrase does not open .*release\.key"):
            read_signing_key(tmp_path / "release.key", lambda wrong=wrong: wrong)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610, 0o644])
def test_a_private_key_that_others_may_use_signs_nothing(tmp_path: Path, mode: int) -> None:
    make_keys(tmp_path / "release", None)
    (tmp_path / "release.key").chmod(mode)
    with pytest.raises(ConfigError, match=rf"may be used by others \(mode {mode:04o}\), expected 0600; chmod 600 "):
        read_signing_key(tmp_path / "release.key", never)


def rsa_private() -> bytes:
    return rsa.generate_private_key(65537, 2048).private_bytes(*PRIVATE_PEM)


def rsa_public() -> bytes:
    return rsa.generate_private_key(65537, 2048).public_key().public_bytes(*PUBLIC_PEM)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "holds no key, expected the private key that signs"),
        (lambda: PEM, "holds a public key, expected the private key that signs"),
        (rsa_private, r"holds a key of another kind \(RSAPrivateKey\), expected Ed25519"),
        (lambda: b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "is no private key in PEM"),
        (lambda: bytes(1 << 17), "is larger than 65536 bytes"),
    ],
    ids=["empty", "public", "rsa", "damaged", "large"],
)
def test_what_is_no_private_key_is_named(tmp_path: Path, content: Callable[[], bytes], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        read_signing_key(private_file(tmp_path, content()), never)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "holds no public keys in PEM"),
        (lambda: PEM[:-30], "holds no public keys in PEM"),
        (lambda: PEM + PEM[:60], "or something else too"),
        (lambda: PEM.replace(b"Mo", b"mo").replace(b"MCow", b"AAAA"), "holds a public key that cannot be read"),
        (rsa_public, r"holds a key of another kind \(RSAPublicKey\), expected Ed25519"),
        (lambda: PEM + rsa_private(), "holds a private key, expected public ones; a device must not have what signs"),
    ],
    ids=["empty", "cut", "half of a second", "damaged", "rsa", "private"],
)
def test_what_is_no_public_key_is_named(tmp_path: Path, content: Callable[[], bytes], says: str) -> None:
    (tmp_path / "x.pub").write_bytes(content())
    with pytest.raises(ConfigError, match=says) as caught:
        read_public_keys(tmp_path / "x.pub")
    assert "\n" not in str(caught.value)


def test_missing_files_pipes_and_folders_without_keys_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "none.pub", "cannot read the key .*No such file"),
        (tmp_path / "pipe", "is a device or pipe, expected a file"),
        (tmp_path, r"holds no \*\.pub file"),
    ):
        with pytest.raises(ConfigError, match=says):
            read_public_keys(path)
    with pytest.raises(ConfigError, match="cannot read the key"):
        read_signing_key(tmp_path / "none.key", never)


def test_a_file_or_a_folder_gives_several_keys_each_once(tmp_path: Path) -> None:
    keys = [key_of(tmp_path / name).public for name in ("new", "old")]
    (tmp_path / "both.pub").write_bytes(b"# the year's\n" + b"".join(key.pem for key in keys))
    expected = sorted(key.key_id for key in keys)
    assert sorted(key.key_id for key in read_public_keys(tmp_path / "both.pub")) == expected
    (tmp_path / "old.pub.1").write_bytes(PEM)
    assert sorted(key.key_id for key in read_public_keys(tmp_path)) == expected
    (tmp_path / "both.pub").write_bytes(PEM * 65)
    assert len(read_public_keys(tmp_path / "both.pub")) == 1


def test_more_keys_than_anyone_trusts_are_refused(tmp_path: Path) -> None:
    keys = [ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*PUBLIC_PEM) for _ in range(65)]
    (tmp_path / "x.pub").write_bytes(b"".join(keys))
    with pytest.raises(ConfigError, match=r"holds 65 keys, expected 64 at most"):
        read_public_keys(tmp_path / "x.pub")


def test_keys_that_everybody_may_write_are_not_believed(tmp_path: Path) -> None:
    folder = tmp_path / "trusted"
    folder.mkdir()
    key_of(folder / "release")
    (folder / "release.pub").chmod(0o666)
    with pytest.raises(ConfigError, match=r"release\.pub may be written by everybody.*chmod o-w"):
        read_public_keys(folder / "release.pub")
    (folder / "release.pub").chmod(0o664)
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="trusted may be written by everybody"):
        read_public_keys(folder)
    folder.chmod(0o775)
    assert len(read_public_keys(folder)) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_makes_keys_that_are_read_and_checks_signatures_that_are_made(tmp_path: Path) -> None:
    def openssl(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["openssl", *words], cwd=tmp_path, capture_output=True, text=True, check=False)

    if openssl("genpkey", "-algorithm", "ed25519", "-out", "x.key").returncode:
        pytest.skip("this openssl has no Ed25519")
    openssl("pkey", "-in", "x.key", "-pubout", "-out", "x.pub")
    (tmp_path / "x.key").chmod(0o600)
    (public,) = read_public_keys(tmp_path / "x.pub")
    signature = read_signing_key(tmp_path / "x.key", never).sign(b"an archive")
    assert signature.key_id == public.key_id
    (tmp_path / "raw").write_bytes(signature.value)
    for content, holds in ((b"an archive", True), (b"another", False)):
        (tmp_path / "content").write_bytes(content)
        asked = ("pkeyutl", "-verify", "-pubin", "-inkey", "x.pub", "-rawin", "-in", "content", "-sigfile", "raw")
        assert (openssl(*asked).returncode == 0) == holds


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if re.match(r"cryptography(\.|$)", name):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    (tmp_path / "x.pub").write_bytes(PEM)
    for asks in (
        lambda: make_keys(tmp_path / "release", None),
        lambda: read_signing_key(private_file(tmp_path, b""), never),
        lambda: read_public_keys(tmp_path / "x.pub"),
    ):
        with pytest.raises(MissingExtraError, match=r'signatures need cryptography: pip install "edge-aae\[sign\]"'):
            asks()
    assert not (tmp_path / "release.key").exists()
