"""The bundle: everything a device needs to score frames, in one file, read without trusting it.

Format and rules: docs/bundle.md. Written by export, read by the runtime; numpy only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_runtime.archive import check_entry_name, pack, read_archive, read_folder, sha256, unpacked
from edge_runtime.bundle.budgets import DETECTOR_FILES, PRECISIONS, detector_file
from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.bundle.manifest_shape import check_manifest, parse_json
from edge_runtime.bundle.spread import criterion_spreads
from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.files import write_atomically
from edge_runtime.model.defect_size import DefectSize
from edge_runtime.model.image_quality import QualityLimits
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.prior import Prior, prior_from_npz
from edge_runtime.model.score import CRITERIA, Decision, decision_from_json
from edge_runtime.onnx_file import check_onnx
from edge_runtime.signing.signatures import Signed
from edge_runtime.signing.trust import check_key, checked_signature

__all__ = ["Bundle", "MANIFEST", "ONNX_FOLDER", "SCHEMA_VERSION", "manifest_bytes"]

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
ONNX_FOLDER = "edge-aae onnx folder"
"""Under `format` in the manifest of what `edge-aae export --format onnx` writes, which is no bundle."""
REQUIRED_FILES = ("detector.onnx", "encoder.onnx", "decoder.onnx", "prior.npz", "golden.npz")
REQUIRED_KEYS = {
    "schema_version": int,
    "created_by": dict,
    "model": dict,
    "preprocess": dict,
    "graphs": dict,
    "criteria": list,
    "prior": dict,
    "calibration": dict,
    "decision": dict,
    "training": dict,
    "parity": dict,
    "files": dict,
}


@dataclass(frozen=True, repr=False)
class Bundle:
    """A bundle whose every byte was checked against its manifest."""

    path: Path
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    """Content by name, without the manifest."""
    digest: str
    """SHA-256 of the manifest, which holds the hash of every other file: it names network, prior and thresholds."""
    altered_graphs: tuple[str, ...] = ()
    """Graphs whose hash is not the manifest's; always empty unless opened with tolerate_altered_graphs."""
    signed: Signed | None = None
    """The archive and its signature, where one was asked for when the bundle was opened"""

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        tolerate_altered_graphs: bool = False,
        require_signature: str | os.PathLike[str] | None = None,
    ) -> Bundle:
        """Read and check a bundle: an .aae file or a folder.

        tolerate_altered_graphs: name .onnx files with a wrong hash in altered_graphs instead of refusing the bundle,
        for `verify`, which then says what they do differently; never to be used for scoring.
        require_signature: a file of public keys, or a folder of such: only an .aae file that one of them signed is
        taken, and nothing of its bytes is looked at before. None asks for no signature.
        Raises BundleError where it is missing, unsigned, damaged, altered, unsafe, or of another schema version,
        ConfigError where keys cannot be read.
        """
        path = Path(path)
        if not path.exists():
            raise BundleError(f"no bundle at {path}; expected an .aae file or folder from `edge-aae export`")
        if path.is_dir():
            if require_signature is not None:
                raise BundleError(f"{path} is a folder, and only an .aae file can be signed, as is required; take that")
            return cls._of_entries(path, read_folder(path), tolerate_altered_graphs)
        # Read once: what was checked is what is parsed, whatever is moved to the path meanwhile.
        archive = read_archive(path)
        signed = None if require_signature is None else checked_signature(path, archive, require_signature)
        return cls.from_archive(archive, path, tolerate_altered_graphs=tolerate_altered_graphs, signed=signed)

    @classmethod
    def from_archive(
        cls, archive: bytes, path: Path, *, tolerate_altered_graphs: bool = False, signed: Signed | None = None
    ) -> Bundle:
        """Check a bundle of which the bytes of its .aae file were read: as open does, but for the signature.

        path: what it is called; signed: what was found of its signature.
        """
        entries = unpacked(path, archive)
        return cls._of_entries(path, entries, tolerate_altered_graphs, signed=signed, unlisted_is_refused=True)

    @classmethod
    def _of_entries(
        cls,
        path: Path,
        entries: dict[str, bytes],
        tolerate_altered_graphs: bool,
        *,
        signed: Signed | None = None,
        unlisted_is_refused: bool = False,
    ) -> Bundle:
        if MANIFEST not in entries:
            raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}; expected what `edge-aae export` writes")
        raw_manifest = entries.pop(MANIFEST)
        manifest = _parse_manifest(path, raw_manifest)
        listed = manifest["files"]
        if unlisted_is_refused and set(entries) - set(listed):
            extra = ", ".join(sorted(set(entries) - set(listed)))
            raise BundleError(f"{path} holds files its manifest does not list: {extra}; do not use this file")
        files = {name: entries[name] for name in listed if name in entries}
        altered = []
        for name, facts in listed.items():
            try:
                _check_file(path, name, facts, files.get(name))
            except AlteredFileError:
                if not (tolerate_altered_graphs and name.endswith(".onnx")):
                    raise
                altered.append(name)
        bundle = cls(path, manifest, files, sha256(raw_manifest), tuple(altered), signed)
        bundle._check_parts()
        return bundle

    @classmethod
    def from_parts(cls, manifest: Mapping[str, Any], files: Mapping[str, bytes], path: Path) -> Bundle:
        """A bundle in memory; fills the manifest's schema version and file hashes. Nothing is written."""
        complete = {
            **manifest,
            "schema_version": SCHEMA_VERSION,
            "files": {
                check_entry_name(name): {"sha256": sha256(content), "bytes": len(content)}
                for name, content in sorted(files.items())
            },
        }
        _check_keys(path, complete)
        bundle = cls(path, complete, dict(files), sha256(manifest_bytes(complete)))
        bundle._check_parts()
        return bundle

    def __repr__(self) -> str:
        """Where it lies, which one it is and what it holds, without the bytes."""
        network = self.manifest["model"].get("network")
        return f"<Bundle {self.path} sha256:{self.digest[:12]}, network {network}, {', '.join(self.precisions)}>"

    @property
    def signed_by(self) -> str | None:
        """ed25519:KEY_ID of the trusted key that signed it; None where no signature was asked for."""
        return None if self.signed is None else self.signed.signature.name

    def check_signed(self, trusted: str | os.PathLike[str]) -> None:
        """Raise BundleError where this bundle was not opened with the signature of a key in trusted."""
        if self.signed is None:
            raise BundleError(
                f"{self.path} was opened without a look at its signature, and one is required; open it with "
                "Bundle.open(..., require_signature=...)"
            )
        check_key(self.path, self.signed.signature, trusted)

    @cached_property
    def preprocess(self) -> Preprocess:
        """How frames become the network's input."""
        try:
            return Preprocess.from_json(self.manifest["preprocess"])
        except (ConfigError, TypeError) as error:
            raise BundleError(f"{self.path}: the manifest's preprocess cannot be used: {error}") from error

    @cached_property
    def decision(self) -> Decision:
        """How criteria become one score and a verdict."""
        return decision_from_json(self.manifest["decision"], self.criteria)

    @cached_property
    def defect_size(self) -> DefectSize:
        """How large a pixel is and from which area on a region counts; open in bundles that do not say."""
        try:
            return DefectSize.from_json(self.manifest.get("defect_size"))
        except ConfigError as error:
            raise BundleError(f"{self.path}: the manifest's defect_size cannot be used: {error}") from error

    @cached_property
    def quality_limits(self) -> QualityLimits | None:
        """What picture quality was usual in training; None in bundles that do not say."""
        try:
            return QualityLimits.from_json(self.manifest["calibration"].get("image_quality"))
        except ConfigError as error:
            raise BundleError(f"{self.path}: the manifest's image_quality cannot be used: {error}") from error

    @cached_property
    def prior(self) -> Prior:
        """The latent prior."""
        return prior_from_npz(self.files["prior.npz"])

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those whose detector the bundle holds."""
        return tuple(precision for precision in PRECISIONS if DETECTOR_FILES[precision] in self.files)

    def detector(self, precision: str) -> bytes:
        """The detector graph of a precision; raises BundleError where the bundle has none."""
        name = detector_file(precision)
        if name not in self.files:
            raise BundleError(
                f"{self.path} has no {name}; it holds {', '.join(self.precisions)}: use one of these, or export again "
                f"with --precision {precision}"
            )
        return self.files[name]

    def failed_gate(self, precision: str, backend: str) -> list[str]:
        """How a precision failed the gate through a backend at export; empty where it passed or was not tried."""
        reports = self.manifest["parity"].get(precision, {}).get("reports", [])
        return [line for report in reports if report["backend"] == backend for line in report.get("failures", [])]

    def ships_failing(self, precision: str) -> bool:
        """Whether a precision is in the bundle although it failed the gate (--allow-failing)."""
        return not self.manifest["parity"].get(precision, {}).get("passed", True)

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the detector's criteria, in the order of its output's columns."""
        return tuple(self.manifest["criteria"])

    def to_bytes(self) -> bytes:
        """The bundle as the bytes of an .aae file; the same bundle gives the same bytes."""
        ordered = {name: self.files[name] for name in sorted(self.files)}
        return pack({MANIFEST: manifest_bytes(self.manifest), **ordered})

    def write(self, path: Path) -> None:
        """Write the .aae file: complete or not at all, an older file stays until the new one is whole."""
        write_atomically(path, self.to_bytes())

    def write_folder(self, folder: Path) -> None:
        """Write the bundle as a folder of files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in {MANIFEST: manifest_bytes(self.manifest), **self.files}.items():
            write_atomically(folder / name, content)

    def _check_parts(self) -> None:
        missing = [name for name in REQUIRED_FILES if name not in self.files]
        if missing:
            raise BundleError(f"{self.path} lacks {', '.join(missing)}; export the bundle again")
        if self.criteria[: len(CRITERIA)] != CRITERIA or len(set(self.criteria)) < len(self.criteria):
            raise BundleError(
                f"{self.path} has criteria {list(self.criteria)}, expected {list(CRITERIA)} and after them others, "
                "each once; update edge-aae"
            )
        for name, content in self.files.items():
            if name.endswith(".onnx") and name not in self.altered_graphs:
                check_onnx(content, f"{self.path}: {name}")
        # Read now, so that a bad part is refused at start, before a camera opens.
        _ = self.preprocess, self.decision, self.defect_size, self.quality_limits, self.prior
        _ = KeptScores.of_manifest(self.manifest["calibration"]), criterion_spreads(self.manifest["calibration"])


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as it is stored: JSON, keys sorted, two spaces, ASCII, no NaN, one newline at the end."""
    return (json.dumps(manifest, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


class AlteredFileError(BundleError):
    """A file of a bundle does not have the hash that the manifest lists."""


def _parse_manifest(path: Path, raw: bytes) -> dict[str, Any]:
    try:
        manifest = parse_json(raw)
    except ValueError as error:
        raise BundleError(f"{path}: {MANIFEST} is not JSON: {error}; export the bundle again") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{path}: {MANIFEST} is not a JSON object; export the bundle again")
    if manifest.get("format") == ONNX_FOLDER:
        raise BundleError(
            f"{path} is what `edge-aae export --format onnx` writes for programs without edge-aae, no bundle; use the "
            ".aae file that it was made of, or export that again"
        )
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{path} has schema version {version!r}, this release reads version {SCHEMA_VERSION}; "
            "update edge-aae, or export the bundle again with this release"
        )
    _check_keys(path, manifest)
    try:
        check_manifest(manifest)
    except ValueError as error:
        raise BundleError(f"{path}: the manifest's {error}; export the bundle again") from error
    return manifest


def _check_keys(path: Path, manifest: Mapping[str, Any]) -> None:
    for key, kind in REQUIRED_KEYS.items():
        if not isinstance(manifest.get(key), kind):
            came = type(manifest[key]).__name__ if key in manifest else "nothing"
            raise BundleError(f"{path}: {MANIFEST} has {came} under {key!r}, expected {kind.__name__}; export again")


def _check_file(path: Path, name: str, facts: Any, content: bytes | None) -> None:
    check_entry_name(name)
    if content is None:
        raise BundleError(f"{path} lacks {name}, which its manifest lists; copy or export it again")
    expected = facts.get("sha256") if isinstance(facts, dict) else None
    if sha256(content) != expected:
        raise AlteredFileError(
            f"{path}: {name} does not have the SHA-256 its manifest lists "
            f"({str(expected)[:12]}... expected, {sha256(content)[:12]}... came); copy or export the bundle again"
        )
