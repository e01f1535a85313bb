"""The bundle: pinned manifest, round trips, and every way a stranger or a bad disk may alter one is refused."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.archive import pack, sha256
from edge_runtime.bundle.bundle import (
    MANIFEST,
    REQUIRED_FILES,
    REQUIRED_KEYS,
    Bundle,
    manifest_bytes,
)
from edge_runtime.errors import BundleError, DataError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import Limit, UnionRule


class MakesFolder:
    """Makes a folder when it is unpickled: what hostile code would do, made visible."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def small(bundle: Bundle) -> Bundle:
    """A bundle of 3 KB, because some tests open it once for every byte; its graphs are never loaded."""
    empty_graph = b"\x08\x0a\x3a\x00"  # ModelProto: ir_version 10, and a graph of nothing
    files = dict.fromkeys(REQUIRED_FILES, empty_graph) | {"prior.npz": StandardNormal(2).to_npz()}
    return Bundle.from_parts(bundle.manifest, files, Path("small.aae"))


def parts(bundle: Bundle) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Manifest and files of a bundle, free to be changed."""
    return json.loads(manifest_bytes(bundle.manifest)), dict(bundle.files)


def packed(manifest: dict[str, Any], files: dict[str, bytes]) -> bytes:
    """An archive of these parts with the hashes made right: what one who can compute SHA-256 would send."""
    manifest["files"] = {name: {"sha256": sha256(content)} for name, content in files.items()}
    return pack({MANIFEST: manifest_bytes(manifest), **files})


def outcome(path: Path) -> str:
    try:
        Bundle.open(path)
    except BundleError:
        return "refused"
    except Exception as error:  # noqa: BLE001  any other class is what the test looks for
        return type(error).__name__
    return "accepted"


@contextmanager
def disk_full_after(n_bytes: int) -> Iterator[None]:
    """No file can grow beyond n_bytes: the kernel refuses as a full disk does, with EFBIG for ENOSPC."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_bytes_of_a_manifest_are_pinned() -> None:
    manifest = {"schema_version": 1, "model": {"name": "Zähler", "latent_dim": 2}, "criteria": ["a", "b"], "n": 0.5}
    assert manifest_bytes(manifest) == (
        b"{\n"
        b'  "criteria": [\n'
        b'    "a",\n'
        b'    "b"\n'
        b"  ],\n"
        b'  "model": {\n'
        b'    "latent_dim": 2,\n'
        b'    "name": "Z\\u00e4hler"\n'
        b"  },\n"
        b'  "n": 0.5,\n'
        b'  "schema_version": 1\n'
        b"}\n"
    )


def test_a_manifest_with_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest_bytes({"auroc": float("nan")})


def test_the_manifest_lists_hash_and_size_of_every_file(small: Bundle) -> None:
    assert small.manifest["schema_version"] == 1
    assert sorted(small.manifest["files"]) == sorted(REQUIRED_FILES)
    assert small.manifest["files"]["encoder.onnx"] == {
        "sha256": "4bc2dcba5abef40ed8e0ced1e333c04f7334ad4929e79e857ef5f1862ac68f78",
        "bytes": 4,
    }


def test_a_bundle_survives_its_file(bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "out" / "x.aae"
    bundle.write(path)
    read = Bundle.open(str(path))
    assert read.path == path
    assert read.manifest == bundle.manifest
    assert read.files == bundle.files
    assert read.digest == bundle.digest == sha256(manifest_bytes(bundle.manifest))


def test_a_bundle_survives_its_folder(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write_folder(tmp_path / "x")
    assert sorted(file.name for file in (tmp_path / "x").iterdir()) == sorted([MANIFEST, *REQUIRED_FILES])
    read = Bundle.open(tmp_path / "x")
    assert (read.manifest, read.files, read.digest) == (bundle.manifest, bundle.files, bundle.digest)


def test_the_same_content_gives_the_same_bytes(bundle: Bundle, small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(bundle)
    backwards = Bundle.from_parts(
        dict(reversed(manifest.items())), dict(reversed(files.items())), tmp_path / "other-name.aae"
    )
    assert backwards.to_bytes() == bundle.to_bytes()
    assert backwards.to_bytes() != small.to_bytes()


def test_the_file_read_and_written_again_is_the_same(bundle: Bundle, bundle_file: Path, tmp_path: Path) -> None:
    bundle.write_folder(tmp_path / "x")
    assert Bundle.open(bundle_file).to_bytes() == bundle_file.read_bytes()
    assert Bundle.open(tmp_path / "x").to_bytes() == bundle_file.read_bytes()


def test_the_digest_names_the_thresholds(make_bundle: Callable[..., Bundle], bundle: Bundle) -> None:
    other = make_bundle(decision=UnionRule(limits=bundle.decision.limits, threshold=1.5))
    assert other.files == bundle.files
    assert other.digest != bundle.digest


def test_the_parts_come_back_as_they_were_given(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    preprocess = Preprocess(height=6, width=10, channels=3, fit="letterbox", roi=(1, 2, 30, 40))
    decision = UnionRule(limits={"reconstruction_error": Limit(threshold=3.5, center=1.25)}, threshold=1.5)
    make_bundle(preprocess, decision=decision).write(tmp_path / "x.aae")
    read = Bundle.open(tmp_path / "x.aae")
    assert read.preprocess == preprocess
    assert read.decision == decision
    assert read.prior == StandardNormal(2)
    assert read.criteria == ("reconstruction_error", "neg_log_prior")


def test_every_flipped_byte_of_a_file_is_refused(small: Bundle, tmp_path: Path) -> None:
    content = small.to_bytes()
    path = tmp_path / "x.aae"
    path.write_bytes(content)
    assert outcome(path) == "accepted"
    wrong = []
    # In place: a file that is written anew thousands of times is flushed to disk thousands of times.
    with path.open("r+b", buffering=0) as file:
        for offset, byte in enumerate(content):
            for mask in (0x01, 0xFF):
                os.pwrite(file.fileno(), bytes([byte ^ mask]), offset)
                if (came := outcome(path)) != "refused":
                    wrong.append((offset, mask, came))
            os.pwrite(file.fileno(), bytes([byte]), offset)
    assert wrong == []
    assert outcome(path) == "accepted"


def test_a_file_cut_at_any_length_is_refused(small: Bundle, tmp_path: Path) -> None:
    content = small.to_bytes()
    path = tmp_path / "x.aae"
    path.write_bytes(content)
    wrong = []
    for length in reversed(range(len(content))):
        os.truncate(path, length)
        if (came := outcome(path)) != "refused":
            wrong.append((length, came))
    assert wrong == []


@pytest.mark.parametrize(
    "garbage",
    [b"\0", b"\n", b"PK", b"PK\x05\x06" + bytes(18), bytes(70_000)],
    ids=["zero", "newline", "PK", "end record", "beyond zip's comment length"],
)
def test_bytes_after_the_end_are_refused(small: Bundle, tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "x.aae"
    path.write_bytes(small.to_bytes() + garbage)
    with pytest.raises(BundleError, match=r"x\.aae"):
        Bundle.open(path)


def test_a_path_to_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*gone\.aae; expected an \.aae file or folder from"):
        Bundle.open(tmp_path / "gone.aae")


def test_an_empty_folder_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a bundle: it has no manifest\.json; expected what"):
        Bundle.open(tmp_path)


def test_schema_version_99_is_refused_naming_both_versions(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    (tmp_path / "x.aae").write_bytes(packed({**manifest, "schema_version": 99}, files))
    with pytest.raises(BundleError, match="has schema version 99, this release reads version 1; update edge-aae, or"):
        Bundle.open(tmp_path / "x.aae")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b"{}", "has schema version None, this release reads version 1"),
    ],
)
def test_a_manifest_that_is_no_json_object_is_refused(small: Bundle, tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "x.aae").write_bytes(pack({MANIFEST: raw, **small.files}))
    with pytest.raises(BundleError, match=message):
        Bundle.open(tmp_path / "x.aae")


@pytest.mark.parametrize("key", sorted(set(REQUIRED_KEYS) - {"schema_version", "files"}))
def test_a_manifest_without_a_required_key_is_refused_naming_it(small: Bundle, tmp_path: Path, key: str) -> None:
    manifest, files = parts(small)
    del manifest[key]
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match=rf"manifest\.json has nothing under '{key}', expected (dict|list)"):
        Bundle.open(tmp_path / "x.aae")


def test_a_manifest_value_of_another_type_is_refused(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    (tmp_path / "x.aae").write_bytes(packed({**manifest, "decision": "union"}, files))
    with pytest.raises(BundleError, match=r"manifest\.json has str under 'decision', expected dict; export again"):
        Bundle.open(tmp_path / "x.aae")


def test_criteria_of_another_release_are_refused(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    (tmp_path / "x.aae").write_bytes(packed({**manifest, "criteria": ["gradient_error"]}, files))
    with pytest.raises(
        BundleError, match=r"has criteria \['gradient_error'\], expected \['reconstruction_error', 'neg_"
    ):
        Bundle.open(tmp_path / "x.aae")


@pytest.mark.parametrize(
    "damage",
    [{"height": 0}, {"height": "8"}, {"height": 7.5}, {"fit": "crop"}, {"roi": [0, 0, "8", "8"]}, {"gamma": 2.2}],
    ids=str,
)
def test_a_preprocess_that_cannot_be_used_is_refused_at_start(
    small: Bundle, tmp_path: Path, damage: dict[str, Any]
) -> None:
    manifest, files = parts(small)
    manifest["preprocess"] |= damage
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match="the manifest's preprocess"):
        Bundle.open(tmp_path / "x.aae")


def test_a_bundle_from_before_tiling_still_opens(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    for added in ("scale", "overlap", "self_reference"):
        del manifest["preprocess"][added]
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    assert Bundle.open(tmp_path / "x.aae").preprocess == small.preprocess


def test_a_decision_that_cannot_be_used_is_refused_at_start(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    manifest["decision"]["rule"] = "vote"
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match="decision rule is 'vote', this release knows 'union' and 'fused'"):
        Bundle.open(tmp_path / "x.aae")


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "..\\x"])
def test_an_entry_that_leaves_the_folder_is_refused_and_nothing_is_written(
    small: Bundle, tmp_path: Path, name: str
) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(MANIFEST, manifest_bytes(small.manifest))
        for entry, entry_content in {**small.files, name: b"escaped"}.items():
            archive.writestr(zipfile.ZipInfo(entry), entry_content)
    folder = tmp_path / "inner"
    folder.mkdir()
    (folder / "x.aae").write_bytes(content.getvalue())
    with pytest.raises(BundleError, match="is refused: expected a plain file name inside the bundle"):
        Bundle.open(folder / "x.aae")
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "x.aae"]
    assert not Path("/etc/x").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/b", "..\\x"])
def test_a_manifest_that_lists_a_path_outside_is_refused(small: Bundle, tmp_path: Path, name: str) -> None:
    manifest, _ = parts(small)
    small.write_folder(tmp_path / "inner")
    (tmp_path / "x").write_bytes(b"outside")
    manifest["files"][name] = {"sha256": sha256(b"outside"), "bytes": 7}
    (tmp_path / "inner" / MANIFEST).write_bytes(manifest_bytes(manifest))
    with pytest.raises(BundleError, match="is refused: expected a plain file name inside the bundle"):
        Bundle.open(tmp_path / "inner")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_entry_that_stands_there_twice_is_refused(small: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.aae", "w") as archive:
        archive.writestr(MANIFEST, manifest_bytes(small.manifest))
        for name, content in small.files.items():
            archive.writestr(name, content)
        archive.writestr("prior.npz", b"another prior")
    with pytest.raises(BundleError, match=r"holds prior\.npz twice; do not use this file"):
        Bundle.open(tmp_path / "x.aae")


def test_a_file_that_the_manifest_does_not_list_is_refused(small: Bundle, tmp_path: Path) -> None:
    content = pack({MANIFEST: manifest_bytes(small.manifest), **small.files, "extra.bin": b"?", "evil.so": b"?"})
    (tmp_path / "x.aae").write_bytes(content)
    with pytest.raises(BundleError, match=r"holds files its manifest does not list: evil\.so, extra\.bin; do not use"):
        Bundle.open(tmp_path / "x.aae")


def test_a_folder_may_hold_files_of_its_owner_but_does_not_read_them_as_its_own(small: Bundle, tmp_path: Path) -> None:
    small.write_folder(tmp_path)
    (tmp_path / "README.md").write_text("line 3, camera 2")
    assert sorted(Bundle.open(tmp_path).files) == sorted(REQUIRED_FILES)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_listed_file_that_is_missing_is_named(small: Bundle, tmp_path: Path, name: str) -> None:
    small.write_folder(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match=rf"lacks {name}, which its manifest lists; copy or export it again"):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_a_manifest_that_does_not_list_a_required_file_is_refused(small: Bundle, tmp_path: Path, name: str) -> None:
    manifest, files = parts(small)
    del files[name]
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match=rf"lacks {name}; export the bundle again"):
        Bundle.open(tmp_path / "x.aae")


@pytest.mark.parametrize("name", REQUIRED_FILES)
def test_an_altered_file_in_a_folder_is_named_with_both_hashes(small: Bundle, tmp_path: Path, name: str) -> None:
    small.write_folder(tmp_path)
    altered = bytearray(small.files[name])
    altered[-1] ^= 1
    (tmp_path / name).write_bytes(altered)
    listed, came = sha256(small.files[name])[:12], sha256(bytes(altered))[:12]
    with pytest.raises(
        BundleError,
        match=rf"{name} does not have the SHA-256 its manifest lists \({listed}\.\.\. expected, {came}\.\.\. came\)",
    ):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("facts", [None, {}, "", {"sha256": None}], ids=str)
def test_a_file_listed_without_a_hash_is_refused(small: Bundle, tmp_path: Path, facts: Any) -> None:
    manifest, _ = parts(small)
    small.write_folder(tmp_path)
    manifest["files"]["prior.npz"] = facts
    (tmp_path / MANIFEST).write_bytes(manifest_bytes(manifest))
    with pytest.raises(BundleError, match=r"prior\.npz does not have the SHA-256 its manifest lists \(None"):
        Bundle.open(tmp_path)


def test_a_pickle_named_prior_is_refused_though_its_hash_is_right(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    trap = tmp_path / "trap"
    files["prior.npz"] = pickle.dumps(MakesFolder(trap))
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match=r"prior\.npz is a Python pickle, which can run code and is not read"):
        Bundle.open(tmp_path / "x.aae")
    assert not trap.exists()


def test_an_array_of_objects_in_the_prior_is_refused_and_not_run(small: Bundle, tmp_path: Path) -> None:
    manifest, files = parts(small)
    trap = tmp_path / "trap"
    buffer = io.BytesIO()
    np.savez(buffer, kind=np.array([MakesFolder(trap)], dtype=object), dim=np.array(2))
    files["prior.npz"] = buffer.getvalue()
    (tmp_path / "x.aae").write_bytes(packed(manifest, files))
    with pytest.raises(BundleError, match=r"prior\.npz is not read: Object arrays cannot be loaded"):
        Bundle.open(tmp_path / "x.aae")
    assert not trap.exists()


def test_a_link_that_leaves_the_folder_is_refused_though_its_content_is_right(small: Bundle, tmp_path: Path) -> None:
    small.write_folder(tmp_path / "x")
    (tmp_path / "x" / "prior.npz").rename(tmp_path / "prior.npz")
    (tmp_path / "x" / "prior.npz").symlink_to(tmp_path / "prior.npz")
    with pytest.raises(BundleError, match=r"prior\.npz is a link that leaves the bundle's folder; copy the file"):
        Bundle.open(tmp_path / "x")


def test_a_bundle_zipped_again_by_another_tool_is_accepted(small: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.aae", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**small.files, MANIFEST: manifest_bytes(small.manifest)}.items():
            archive.writestr(name, content)
    read = Bundle.open(tmp_path / "x.aae")
    assert (read.files, read.digest) == (small.files, small.digest)


def test_a_bundle_zipped_again_after_a_change_is_refused(small: Bundle, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.aae", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**small.files, MANIFEST: manifest_bytes(small.manifest)}.items():
            archive.writestr(name, content + b"!" if name == "detector.onnx" else content)
    with pytest.raises(BundleError, match=r"detector\.onnx does not have the SHA-256 its manifest lists"):
        Bundle.open(tmp_path / "x.aae")


def test_parts_that_no_device_would_open_are_refused_when_bundled(small: Bundle) -> None:
    manifest, files = parts(small)
    del files["golden.npz"]
    with pytest.raises(BundleError, match=r"x\.aae lacks golden\.npz; export the bundle again"):
        Bundle.from_parts(manifest, files, Path("x.aae"))


def test_a_failed_write_leaves_the_old_bundle_and_no_temporary_file(
    small: Bundle, bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "x.aae"
    small.write(path)
    with disk_full_after(4096), pytest.raises(DataError, match=f"cannot write .*x.aae: {os.strerror(errno.EFBIG)}"):
        bundle.write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == small.to_bytes()
    assert Bundle.open(path).digest == small.digest


def test_a_failed_first_write_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    with disk_full_after(4096), pytest.raises(DataError, match=f"cannot write .*x.aae: {os.strerror(errno.EFBIG)}"):
        bundle.write(tmp_path / "x.aae")
    assert list(tmp_path.iterdir()) == []
