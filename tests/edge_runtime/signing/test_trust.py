"""Bundles that have to be signed: which are taken, and that nothing of the others is looked at."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle import bundle as bundles
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.detector import Detector
from edge_runtime.signing.signatures import Signature, read_signatures, signature_path, write_signatures
from tests.signing import key_of, signed


@pytest.fixture
def path(bundle_file: Path, tmp_path: Path) -> Path:
    """A bundle that release.key signed; release.pub lies beside."""
    model = Path(shutil.copy(bundle_file, tmp_path / "model.aae"))
    signed(model, tmp_path / "release")
    return model


@pytest.fixture
def trusted(path: Path) -> Path:
    return path.with_name("release.pub")


@pytest.fixture
def unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails where an archive is looked into."""
    monkeypatch.setattr(bundles, "unpacked", lambda *_: pytest.fail("it was parsed"))


def another(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(decision=UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=0.5)}))


def test_a_signed_bundle_is_taken_and_knows_its_key(path: Path, trusted: Path, bundle: Bundle) -> None:
    opened = Bundle.open(path, require_signature=trusted)
    assert opened.digest == bundle.digest
    assert opened.signed_by == f"ed25519:{key_of(path.with_name('release')).public.key_id}"
    assert opened.signed is not None
    assert opened.signed.archive == path.read_bytes()
    assert Bundle.open(path, require_signature=str(trusted)).signed_by == opened.signed_by


def test_where_no_signature_is_required_bundles_open_as_before(path: Path, bundle: Bundle, tmp_path: Path) -> None:
    for change in (lambda: None, signature_path(path).unlink, lambda: signature_path(path).write_bytes(b"\x00")):
        change()
        opened = Bundle.open(path)
        assert (opened.digest, opened.signed, opened.signed_by) == (bundle.digest, None, None)
    bundle.write_folder(tmp_path / "folder")
    assert Bundle.open(tmp_path / "folder").digest == bundle.digest


@pytest.mark.usefixtures("unparsed")
def test_an_unsigned_bundle_is_refused_unparsed(path: Path, trusted: Path) -> None:
    signature_path(path).unlink()
    with pytest.raises(BundleError, match=r"model\.aae is not signed: there is no .*model\.aae\.sig"):
        Bundle.open(path, require_signature=trusted)


@pytest.mark.usefixtures("unparsed")
@pytest.mark.parametrize("where", [0, 1000, -1])
def test_one_changed_bit_is_noticed_before_anything_is_parsed(path: Path, trusted: Path, where: int) -> None:
    content = bytearray(path.read_bytes())
    content[where] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        BundleError, match=r"does not match its signature by ed25519:\w{32} \(release\.pub\): it was alt"
    ):
        Bundle.open(path, require_signature=trusted)


@pytest.mark.usefixtures("unparsed")
@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c + b"\0"], ids=range(4)
)
def test_a_bundle_that_is_cut_short_or_longer_is_refused(
    path: Path, trusted: Path, change: Callable[[bytes], bytes]
) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match="does not match its signature by"):
        Bundle.open(path, require_signature=trusted)


def test_signatures_cannot_be_exchanged(path: Path, trusted: Path, make_bundle: Callable[..., Bundle]) -> None:
    other = path.with_name("other.aae")
    another(make_bundle).write(other)
    signed(other, path.with_name("release"))
    mine, theirs = signature_path(path), signature_path(other)
    mine.rename(mine.with_suffix(".aside"))
    theirs.rename(mine)
    mine.with_suffix(".aside").rename(theirs)
    for one in (path, other):
        with pytest.raises(BundleError, match="does not match its signature by"):
            Bundle.open(one, require_signature=trusted)


def test_a_forged_signature_under_a_trusted_keys_name_is_refused(path: Path, trusted: Path, tmp_path: Path) -> None:
    forged = key_of(tmp_path / "forger").sign(path.read_bytes())
    named = Signature(read_signatures(path)[0].key_id, forged.value)
    for forgeries in ([named], [named, forged], [Signature(named.key_id, bytes(64))]):
        write_signatures(path, forgeries)
        with pytest.raises(BundleError, match="does not match its signature by"):
            Bundle.open(path, require_signature=trusted)


def test_a_key_that_is_not_trusted_is_named_and_those_that_are(path: Path, tmp_path: Path) -> None:
    theirs = key_of(tmp_path / "theirs").public.key_id
    ours = key_of(tmp_path / "release").public.key_id
    with pytest.raises(
        BundleError,
        match=rf"signed by ed25519:{ours}, which is not trusted here; .* has ed25519:{theirs} \(theirs\.pub\)",
    ):
        Bundle.open(path, require_signature=tmp_path / "theirs.pub")


def test_keys_are_rotated_one_after_the_other(path: Path, trusted: Path, tmp_path: Path) -> None:
    """Both keys trusted, then bundles by the new one, then the old one taken away; read anew at each bundle."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    shutil.copy(trusted, folder / "2025.pub")
    new = key_of(tmp_path / "new")
    old_bundle = Path(shutil.copy(path, tmp_path / "old.aae"))
    shutil.copy(signature_path(path), signature_path(old_bundle))
    signed(path, tmp_path / "new")
    with pytest.raises(BundleError, match="not trusted here"):
        Bundle.open(path, require_signature=folder)
    shutil.copy(tmp_path / "new.pub", folder / "2026.pub")
    assert Bundle.open(path, require_signature=folder).signed_by == f"ed25519:{new.public.key_id}"
    assert Bundle.open(old_bundle, require_signature=folder)
    (folder / "2025.pub").unlink()
    assert Bundle.open(path, require_signature=folder)
    with pytest.raises(BundleError, match="not trusted here"):
        Bundle.open(old_bundle, require_signature=folder)


def test_a_bundle_with_two_signatures_is_taken_by_devices_that_trust_either(path: Path, tmp_path: Path) -> None:
    both = [key_of(tmp_path / name).sign(path.read_bytes()) for name in ("release", "new")]
    write_signatures(path, both)
    for name, signature in zip(("release", "new"), both, strict=True):
        assert Bundle.open(path, require_signature=tmp_path / f"{name}.pub").signed_by == signature.name
    # One that no longer holds does not spoil one that does.
    write_signatures(path, [Signature(both[0].key_id, bytes(64)), both[1]])
    (tmp_path / "both.pub").write_bytes((tmp_path / "release.pub").read_bytes() + (tmp_path / "new.pub").read_bytes())
    assert Bundle.open(path, require_signature=tmp_path / "both.pub").signed_by == both[1].name


def test_what_was_checked_is_what_is_parsed(
    path: Path, trusted: Path, bundle: Bundle, make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is exchanged between the check and the parsing, by someone who was quick."""
    check = bundles.checked_signature

    def exchanged(*arguments: object) -> object:
        found = check(*arguments)  # type: ignore[arg-type]
        another(make_bundle).write(path)
        return found

    monkeypatch.setattr(bundles, "checked_signature", exchanged)
    assert Bundle.open(path, require_signature=trusted).digest == bundle.digest
    assert Bundle.open(path).digest != bundle.digest


def test_a_folder_cannot_be_signed(bundle: Bundle, trusted: Path, tmp_path: Path) -> None:
    bundle.write_folder(tmp_path / "folder")
    with pytest.raises(BundleError, match=r"folder is a folder, and only an \.aae file can be signed"):
        Bundle.open(tmp_path / "folder", require_signature=trusted)


def test_without_keys_nothing_is_taken(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no \*\.pub file"):
        Bundle.open(path, require_signature=tmp_path / "empty")
    with pytest.raises(ConfigError):
        Bundle.open(path, require_signature="")


def test_a_detector_is_loaded_of_a_signed_bundle_alone(path: Path, trusted: Path, tmp_path: Path) -> None:
    assert Detector.load(path, threads=1, require_signature=trusted).bundle.signed_by
    opened = Bundle.open(path, require_signature=trusted)
    assert Detector.load(opened, threads=1, require_signature=trusted).bundle is opened
    key_of(tmp_path / "theirs")
    with pytest.raises(BundleError, match="not trusted here"):
        Detector.load(opened, threads=1, require_signature=tmp_path / "theirs.pub")
    with pytest.raises(BundleError, match="was opened without a look at its signature, and one is required"):
        Detector.load(Bundle.open(path), threads=1, require_signature=trusted)
    signature_path(path).unlink()
    with pytest.raises(BundleError, match="is not signed"):
        Detector.load(path, threads=1, require_signature=trusted)
