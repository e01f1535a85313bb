"""Signed bundles by the commands: keys, signatures, and that nothing else is taken where one is required."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

pytest.importorskip("cryptography", reason="cryptography is not installed")

import edge_aae
from edge_aae.cli import cli as group
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BundleError, ConfigError, EdgeAaeError
from edge_runtime.signing.signatures import read_signatures, signature_path
from tests.edge_aae.conftest import ROOT, Cli
from tests.signing import key_of, signed

SOURCE = "test://pattern?fps=500&width=64&height=48&frames=5"
PASSPHRASE = "EDGE_AAE_KEY_PASSPHRASE"


@pytest.fixture
def place(bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that commands run in: a bundle, a photograph; no passphrase in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PASSPHRASE, raising=False)
    shutil.copy(bundle_file, "model.aae")
    return tmp_path


def invoke(*words: str | Path) -> Result:
    return CliRunner().invoke(group, [str(word) for word in words])


def done(*words: str | Path) -> str:
    """What a command that ends well says on standard output."""
    ended = invoke(*words)
    assert ended.exit_code == 0, (ended.output, ended.exception)
    return ended.stdout


def refused(*words: str | Path) -> EdgeAaeError:
    """The error that a command ends with."""
    ended = invoke(*words)
    assert isinstance(ended.exception, EdgeAaeError), (ended.output, ended.exception)
    assert "\n" not in str(ended.exception)
    return ended.exception


def test_keys_are_made_a_bundle_is_signed_and_every_command_says_by_whom(place: Path) -> None:
    told = done("keys", "make", "release")
    key_id = key_of(place / "release").public.key_id
    assert f"key ed25519:{key_id}\n" in told
    assert "without a passphrase: whoever reads it can sign" in told
    assert done("keys", "list", "release.pub") == f"ed25519:{key_id}  release.pub\n"
    assert f"signed by ed25519:{key_id}\n" in done("sign", "model.aae", "--key", "release.key")
    trusted = ("--require-signature", "release.pub")
    assert f"model.aae: signed by ed25519:{key_id}\n" in done("verify", *trusted)
    assert json.loads(done("verify", "--json", *trusted))["signed_by"] == f"ed25519:{key_id}"
    assert "signed_by" not in json.loads(done("verify", "--json"))
    assert f"signature   by ed25519:{key_id}, which is trusted\n" in done("info", *trusted)
    assert json.loads(done("info", "--json", *trusted))["signed_by"] == f"ed25519:{key_id}"
    assert f"signature   said to be by ed25519:{key_id}, not checked; " in done("info")
    assert f"model.aae, signed by ed25519:{key_id}" in done("doctor", "--model", "model.aae", *trusted)


def test_records_say_which_key_signed_where_a_signature_is_required(place: Path, cli: Cli) -> None:
    trusted = signed(place / "model.aae", place / "release")
    by = read_signatures(place / "model.aae")[0].name
    asked = ("run", "--source", SOURCE, "--alarm", "1/1", "--threshold", "-1e9")
    ran = cli(*asked, "--require-signature", trusted, cwd=place)
    assert ran.returncode == 0, ran.stderr
    records = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {record["type"] for record in records} == {"frame", "event"}
    assert {record["signed_by"] for record in records} == {by}
    assert f"bundles have to be signed by {by} (release.pub)" in ran.stderr
    assert f"signed by {by}, threshold" in ran.stderr
    plain = [json.loads(line) for line in cli(*asked, cwd=place).stdout.splitlines()]
    assert all("signed_by" not in record for record in plain)
    # How many frames and where an event ends is the clock's; what a record of a kind holds is not.
    of_kind = {record["type"]: [key for key in record if key != "signed_by"] for record in records}
    assert all(list(record) == of_kind[record["type"]] for record in plain)


COMMANDS = (
    ("run", "--source", SOURCE),
    ("run", "--source", SOURCE, "--last-good", "good.aae"),
    ("run", "--source", SOURCE, "--watch-model"),
    ("score", "part.png"),
    ("check", "parts"),
    ("calibrate", "--source", SOURCE),
    ("calibrate", "--threshold", "1.5"),
    ("compare", "model.aae", "model.aae", "--frames", "part.png"),
    ("bench", "--no-cold", "--frames", "50"),
    ("verify",),
    ("info",),
    ("build",),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_on_a_device_refuses_what_is_not_signed(
    place: Path, photos: Path, command: tuple[str, ...]
) -> None:
    (place / "parts/good").mkdir(parents=True)
    for name in ("part.png", "parts/good/0.png"):
        shutil.copy(photos / "test/good/0.png", name)
    key_of(place / "release")
    error = refused(*command, "--require-signature", "release.pub")
    assert isinstance(error, BundleError)
    assert error.exit_code == 1
    assert "model.aae is not signed: there is no model.aae.sig; copy it too, or sign the bundle" in str(error)
    signed(place / "model.aae", place / "theirs")
    assert "not trusted here" in str(refused(*command, "--require-signature", "release.pub"))
    assert "cannot read the key gone.pub" in str(refused(*command, "--require-signature", "gone.pub"))
    assert not list(place.glob("*.calibration.json"))


def test_a_shadow_has_to_be_signed_too(place: Path) -> None:
    trusted = signed(place / "model.aae", place / "release")
    shutil.copy("model.aae", "new.aae")
    error = refused("run", "--source", SOURCE, "--require-signature", trusted, "--shadow", "new.aae")
    assert "new.aae is not signed" in str(error)


def test_doctor_says_of_an_unsigned_bundle_that_it_cannot_run(place: Path) -> None:
    key_of(place / "release")
    ended = invoke("doctor", "--model", "model.aae", "--require-signature", "release.pub")
    assert ended.exit_code == 1
    assert "model.aae is not signed" in ended.output


def test_one_line_and_status_1_are_what_a_user_sees(place: Path, cli: Cli) -> None:
    trusted = signed(place / "model.aae", place / "release")
    content = (place / "model.aae").read_bytes()
    (place / "model.aae").write_bytes(content[:-100])
    for command in (("verify",), ("run", "--source", SOURCE)):
        ended = cli(*command, "--require-signature", trusted, cwd=place)
        assert ended.returncode == 1
        assert "error: model.aae does not match its signature by ed25519:" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr


def test_a_second_signature_stands_beside_the_first_or_replaces_it(place: Path) -> None:
    names = [f"ed25519:{key_of(place / name).public.key_id}" for name in ("old", "new")]
    done("sign", "--key", "old.key")
    assert f"beside {names[0]}\n" in done("sign", "--key", "new.key", "--keep")
    assert [one.name for one in read_signatures(place / "model.aae")] == names[::-1]
    for trusted in ("old.pub", "new.pub"):
        done("verify", "--require-signature", trusted)
    done("sign", "--key", "new.key", "--keep")
    assert [one.name for one in read_signatures(place / "model.aae")] == names[::-1]
    done("sign", "--key", "new.key")
    assert [one.name for one in read_signatures(place / "model.aae")] == names[1:]


def test_what_is_no_bundle_is_not_signed(place: Path, bundle: Bundle) -> None:
    key_of(place / "release")
    (place / "broken.aae").write_bytes((place / "model.aae").read_bytes()[:-1])
    bundle.write_folder(place / "folder")
    assert "truncated" in str(refused("sign", "broken.aae", "--key", "release.key"))
    assert "folder is a folder, and a signature is of an .aae file" in str(
        refused("sign", "folder", "--key", "release.key")
    )
    assert "cannot read bundle none.aae" in str(refused("sign", "none.aae", "--key", "release.key"))
    assert not list(place.glob("*.sig"))


def test_a_passphrase_comes_from_the_environment_and_is_never_left_out(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "set $EDGE_AAE_KEY_PASSPHRASE, or call this from a terminal"
    assert says in str(refused("keys", "make", "release", "--passphrase"))
    monkeypatch.setenv(PASSPHRASE, "")
    assert "is empty" in str(refused("keys", "make", "release", "--passphrase"))
    assert not list(place.glob("release.*"))
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert "with a passphrase)" in done("keys", "make", "release", "--passphrase")
    done("sign", "--key", "release.key")
    monkeypatch.setenv(PASSPHRASE, "open")
    assert "the passphrase does not open release.key" in str(refused("sign", "--key", "release.key"))
    monkeypatch.delenv(PASSPHRASE)
    assert says in str(refused("sign", "--key", "release.key"))


def test_a_passphrase_is_asked_for_at_a_terminal_twice_when_a_key_is_made(place: Path) -> None:
    for words, prompts in (
        (("keys", "make", "release", "--passphrase"), (b"passphrase for release.key: ", b"Repeat for confirmation: ")),
        (("sign", "--key", "release.key"), (b"passphrase of release.key: ",)),
    ):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_aae", *words], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            for prompt in prompts:
                said = b""
                while not said.endswith(prompt):
                    read = process.stderr.read(1)
                    assert read, said
                    said += read
                os.write(master, b"open sesame\n")
            output, rest = process.communicate(timeout=60)
            assert process.returncode == 0, rest
            assert b"sesame" not in said + output + rest
        finally:
            process.kill()
            process.wait()
            os.close(master)
            os.close(slave)
    assert b"ENCRYPTED" in (place / "release.key").read_bytes()
    assert signature_path(place / "model.aae").exists()


def test_a_key_that_others_may_read_signs_no_bundle(place: Path) -> None:
    key_of(place / "release")
    (place / "release.key").chmod(0o644)
    for command in ("sign", "export"):
        option = ("--key",) if command == "sign" else ("runs/none", "--sign")
        error = refused(command, *option, "release.key")
        assert isinstance(error, ConfigError)
        assert "release.key may be used by others (mode 0644), expected 0600" in str(error)


def test_a_missing_package_is_named_with_its_extra(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signed(place / "model.aae", place / "release")
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    for command in (
        ("keys", "make", "x"), ("keys", "list", "release.pub"), ("sign", "--key", "release.key"),
        ("verify", "--require-signature", "release.pub"), ("info", "--require-signature", "release.pub"),
        ("run", "--source", SOURCE, "--require-signature", "release.pub"),
        ("run", "--source", SOURCE, "--require-signature", "release.pub", "--last-good", "good.aae"),
    ):  # fmt: skip
        assert 'signatures need cryptography: pip install "edge-aae[sign]"' in str(refused(*command))
    assert "not checked" in done("info")
    done("verify")


def test_an_export_is_signed_and_a_signature_of_another_bundle_is_named(
    workplace: Path, cli: Cli, tmp_path: Path
) -> None:
    key = key_of(tmp_path / "release").public.key_id
    asked = ("export", workplace / "runs/latest", "--precision", "fp32")
    exported = cli(*asked, "--sign", "release.key", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert f"wrote model.aae.sig: signed by ed25519:{key}\n" in exported.stdout
    assert Bundle.open(tmp_path / "model.aae", require_signature=tmp_path / "release.pub").signed_by == f"ed25519:{key}"
    unsigned = cli(*asked, cwd=tmp_path)
    assert unsigned.returncode == 0, unsigned.stderr
    assert "model.aae.sig is of the bundle that was there before; sign this one with `edge-aae sign`" in unsigned.stderr


def test_python_exports_signed_bundles_too(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key_of(tmp_path / "release")
    monkeypatch.chdir(tmp_path)
    options = {"precisions": ("fp32",), "worst": None}
    edge_aae.export(workplace / "runs/latest", "a.aae", sign="release.key", **options)
    assert edge_aae.Detector.load("a.aae", require_signature="release.pub").bundle.signed_by
    (tmp_path / "release.key").chmod(0o644)
    with pytest.raises(ConfigError, match="may be used by others"):
        edge_aae.export(workplace / "runs/latest", "b.aae", sign="release.key", **options)
    assert not (tmp_path / "b.aae").exists()


def test_a_manifest_does_not_say_what_is_for_us_to_say(place: Path, bundle: Bundle) -> None:
    lies = {**bundle.manifest, "digest": "0" * 64, "signed_by": "ed25519:" + "0" * 32}
    Bundle.from_parts(lies, bundle.files, bundle.path).write(place / "model.aae")
    told = json.loads(done("info", "--json"))
    assert told["digest"] == Bundle.open("model.aae").digest
    assert told["signed_by"] is None
