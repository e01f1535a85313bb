"""The folder of `--format onnx` appears whole, tried, and in place of nothing that somebody wants to keep."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.archive import sha256
from edge_runtime.bundle.budgets import BUDGETS
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.comparison import allowed
from edge_runtime.errors import BundleError, DataError, GateError
from export.standalone import folder as folder_module
from export.standalone.folder import write_folder
from export.standalone.samples import Sample, expectations, samples_of

FILES = {
    "detector.onnx", "encoder.onnx", "decoder.onnx", "manifest.json", "model.txt", "README.txt", "reference.py",
    "reference.cpp", "CMakeLists.txt", "golden",
}  # fmt: skip


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def test_graphs_are_those_of_the_bundle_and_the_manifest_names_their_hashes(bundle: Bundle, tmp_path: Path) -> None:
    sizes = write_folder(bundle, tmp_path / "deep/out")
    out = tmp_path / "deep/out"
    assert names_in(out) == FILES
    assert names_in(tmp_path / "deep") == {"out"}
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["bundle_sha256"] == bundle.digest
    assert set(manifest["graphs"]) == {name for name in FILES if name.endswith(".onnx")}
    for name, facts in manifest["graphs"].items():
        assert (out / name).read_bytes() == bundle.files[name]
        assert facts["sha256"] == sha256(bundle.files[name])
    assert sizes == {path.relative_to(out).as_posix(): path.stat().st_size for path in out.rglob("*") if path.is_file()}
    with pytest.raises(BundleError, match=r"is what `edge-aae export --format onnx` writes .* no bundle"):
        Bundle.open(out)


def test_a_place_that_holds_something_else_is_left_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DataError, match="is a file, expected the name of a folder"):
        write_folder(bundle, tmp_path / "file")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(DataError, match="holds what --format onnx did not write"):
        write_folder(bundle, tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    write_folder(bundle, tmp_path / "empty")
    (tmp_path / "empty/golden/old.npy").write_text("of before")
    write_folder(bundle, tmp_path / "empty")
    assert not (tmp_path / "empty/golden/old.npy").exists()
    (tmp_path / "empty/build").mkdir()
    with pytest.raises(DataError, match="holds build beside an export, which would be lost"):
        write_folder(bundle, tmp_path / "empty")
    assert names_in(tmp_path) == {"file", "mine", "empty"}
    assert names_in(tmp_path / "mine") == {"notes.txt"}


def test_nothing_is_written_where_the_reference_gives_something_else(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(bundle, tmp_path / "out")
    before = (tmp_path / "out/golden/detector.csv").read_bytes()

    def other_samples(opened: Bundle) -> list[Sample]:
        return [replace(sample, array=255 - sample.array // 2) for sample in samples_of(opened)]

    monkeypatch.setattr(folder_module, "samples_of", other_samples)
    with pytest.raises(GateError, match=r"reference\.py on detector\.onnx did not give .* differs: expected"):
        write_folder(bundle, tmp_path / "out")
    assert (tmp_path / "out/golden/detector.csv").read_bytes() == before
    assert names_in(tmp_path) == {"out"}


def test_a_folder_that_cannot_be_written_is_said_in_a_line(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*file/out: .*; choose another place"):
        write_folder(bundle, tmp_path / "file/out")


def test_a_table_allows_what_the_gate_allows_the_precision(bundle: Bundle) -> None:
    samples = samples_of(bundle)
    threshold = bundle.decision.threshold
    near = replace(samples[0], criteria=np.array([1.0 + 0.5 * 0.02, 1.9]))  # a score of 1.02
    frame = replace(near, kind="frame", one_level=0.03)
    for precision, decisions in (
        ("fp32", ["anomalous", "either"]),
        ("fp16", ["anomalous", "either"]),
        ("int8", ["either", "either"]),
    ):
        rows = list(csv.DictReader(expectations(bundle, [near, frame], precision).decode().splitlines()))
        assert [row["decision"] for row in rows] == decisions
        assert [float(row["score"]) for row in rows] == pytest.approx([1.02, 1.02])
        gate = allowed(np.array([1.02]), BUDGETS[precision].of_score(threshold))[0]
        assert [float(row["tolerance"]) for row in rows] == pytest.approx([gate, gate + 0.03])


def test_a_precision_that_the_bundle_lacks_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no detector-int8\.onnx"):
        write_folder(bundle, tmp_path / "out", ("int8",))
    assert names_in(tmp_path) == set()
