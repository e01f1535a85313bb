"""The file of signatures: its bytes, what is no such file, and that a bundle is never without one while it changes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import BundleError, DataError
from edge_runtime.signing import signatures
from edge_runtime.signing.signatures import (
    Signature,
    read_signatures,
    signature_path,
    write_signatures,
    write_signed,
)
from edge_runtime.signing.trust import checked_signature
from tests.signing import key_of, signed

ONE = Signature("0123456789abcdef0123456789abcdef", bytes(range(64)))
LINE = f"ed25519 {ONE.key_id} {base64.b64encode(ONE.value).decode()}\n".encode()
CONTENT = b"edge-aae signature 1\n" + LINE


def test_the_bytes_of_the_file_are_as_specified(tmp_path: Path) -> None:
    file = write_signatures(tmp_path / "model.aae", [ONE])
    assert file == signature_path(tmp_path / "model.aae") == tmp_path / "model.aae.sig"
    assert file.read_bytes() == CONTENT
    assert LINE.startswith(b"ed25519 0123456789abcdef0123456789abcdef AAECAwQFBgcICQoLDA0ODxAREhMUFRYX")
    assert read_signatures(tmp_path / "model.aae") == (ONE,)
    write_signatures(tmp_path / "model.aae", [ONE, Signature("f" * 32, bytes(64))])
    assert [one.key_id for one in read_signatures(tmp_path / "model.aae")] == [ONE.key_id, "f" * 32]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"edge-aae signature 1\n",
        b"edge-aae signature 2\n" + LINE,
        LINE,
        CONTENT + b"\n",
        CONTENT[:-10],
        CONTENT.replace(b"ed25519", b"ed448"),
        CONTENT.replace(b"0123456789a", b"0123456789A"),
        CONTENT.replace(b"ed25519 ", b"ed25519  "),
        CONTENT.replace(b"AAEC", b"AA\xc3\xa9"),
        CONTENT.replace(b"AAEC", b"AA-_"),
        b"edge-aae signature 1\n" + 17 * LINE,
        CONTENT + bytes(5000),
        b'{"signatures": []}',
    ],
    ids=range(14),
)
def test_any_other_content_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.aae.sig").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.aae\.sig .*(signature|`edge-aae sign`)") as caught:
        read_signatures(tmp_path / "model.aae")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_missing_file_and_a_folder_in_its_place_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match=r"model\.aae is not signed: there is no .*model\.aae\.sig; copy it too, or sign"
    ):
        read_signatures(tmp_path / "model.aae")
    (tmp_path / "model.aae.sig").mkdir()
    with pytest.raises(BundleError, match=r"model\.aae\.sig"):
        read_signatures(tmp_path / "model.aae")


@pytest.mark.parametrize("fails_at", [1, 2, 3, None])
def test_a_signed_bundle_is_replaced_so_that_one_lies_there_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int | None
) -> None:
    """Whichever of the three writes fails, as with a full disk or at a power cut, and by the same key or another."""
    path = tmp_path / "model.aae"
    path.write_bytes(b"the old archive")
    trusted = signed(path, tmp_path / "release")
    writes: list[Path] = []
    whole = signatures.write_atomically

    def write(file: Path, content: bytes) -> None:
        writes.append(file)
        if len(writes) == fails_at:
            raise DataError("no room")
        whole(file, content)
        checked_signature(path, path.read_bytes(), trusted)

    monkeypatch.setattr(signatures, "write_atomically", write)
    new = b"the new archive"
    arguments: Any = (path, new, key_of(tmp_path / "release").sign(new))
    if fails_at is None:
        write_signed(*arguments)
        assert len(read_signatures(path)) == 1
    else:
        with pytest.raises(DataError, match="no room"):
            write_signed(*arguments)
    checked_signature(path, path.read_bytes(), trusted)
    assert path.read_bytes() == (new if fails_at in (3, None) else b"the old archive")
