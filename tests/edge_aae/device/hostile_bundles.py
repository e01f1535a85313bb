"""Bundles as an attacker would make them, all hashes right: each a change of one that is good."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.archive import pack, sha256
from edge_runtime.bundle.bundle import Bundle, manifest_bytes

__all__ = ["HOSTILE", "Parts"]


@dataclass
class Parts:
    """A bundle that is taken apart, free to be changed."""

    manifest: dict[str, Any]
    files: dict[str, bytes]

    @classmethod
    def of(cls, bundle: Bundle) -> Parts:
        return cls(json.loads(manifest_bytes(bundle.manifest)), dict(bundle.files))

    def write(self, path: Path, manifest: bytes | None = None) -> None:
        """As an .aae file, sealed; manifest: raw bytes in the place of the manifest's."""
        self.manifest["files"] = {
            name: {"sha256": sha256(content), "bytes": len(content)} for name, content in self.files.items()
        }
        raw = json.dumps(self.manifest).encode() if manifest is None else manifest
        path.write_bytes(pack({"manifest.json": raw, **self.files}))


Make = Callable[[Parts, Path], None]
"""Writes a hostile bundle, made of a good one's parts, to a path"""

CALIBRATION = {
    "score_quantiles": [i / 200 for i in range(201)],
    "n_images": 100,
    "limit": {"target_fpr": 0.01, "extrapolated": False, "n": 100},
    "anomaly_map_peak": {"0.99": 0.5},
}

WRONG: dict[str, Any] = {
    "criteria": [[[]], {}, ["reconstruction_error", {}], ["reconstruction_error"] * 1000],
    "calibration": [[]],
    "calibration.anomaly_map_peak": [[], {"0.99": "high"}, {"0.99": 1e999}],
    "calibration.criteria": [7, {"reconstruction_error": {"quantiles": {"0.25": [], "0.75": 1.0}}}],
    "calibration.score_quantiles": [[0.0], ["a"] * 201, {"a": 1}],
    "calibration.n_images": ["many", 0, -1],
    "calibration.limit": [[], {"extrapolated": False}, {"extrapolated": False, "target_fpr": "low"}],
    "calibration.limit.realised_fpr": ["wide", [0.1], [0.1, "high"]],
    "calibration.limit.expected_fpr": ["few"],
    "calibration.synthetic": [7, {"n": 9}, {"n": 9, "found": 0.5, "auroc": 0.5, "interval": ["low", "high"]}],
    "calibration.folds": [[7], {"found": [0.1]}],
    "calibration.known_bad": [[7], {"defects": 4}],
    "calibration.contamination": [{"share": "some", "low": 0, "high": 0}],
    "decision": [{}, {"rule": ["union"]}],
    "decision.threshold": ["1e400", [1.0], None],
    "decision.limits": [[], {"reconstruction_error": 7}, {"reconstruction_error": {"threshold": "1", "center": 0}}],
    "preprocess.height": [10**9, -1, True],
    "preprocess.align": [7, {"mode": "turn"}, {"mode": "turn", "height": 1e300, "width": 1, "frame": [1, 1]}],
    "preprocess.roi": [7, [0, 0, 0, 0], [0, 0, 10**12, 10**12]],
    "model.parameters": ["many"],
    "defect_size": [7, {"mm_per_pixel": "wide"}, {"mm_per_pixel": -1.0}, {"min_area": 12}, {"min_area": "12"}],
    "training": [[]],
    "training.data": [[], {"classes": 7}, {"contaminate": [[0]]}],
    "parity": [[], {"fp32": []}, {"fp32": {"reports": 7}}, {"fp32": {"reports": [{}]}}],
    "files": [[], {"detector.onnx": 7}],
}


def _set(manifest: dict[str, Any], where: str, value: Any) -> None:
    *folders, last = where.split(".")
    for folder in folders:
        manifest = manifest.setdefault(folder, {})
    manifest[last] = value


def _wrong(where: str, value: Any) -> Make:
    def make(parts: Parts, path: Path) -> None:
        parts.manifest["calibration"] = deepcopy(CALIBRATION)
        _set(parts.manifest, where, deepcopy(value))
        raw = None
        if where == "files":
            parts.write(path)  # for the hashes of the others
            parts.manifest["files"] = value
            raw = json.dumps(parts.manifest).encode()
        parts.write(path, raw)

    return make


def _raw_manifest(change: Callable[[bytes], bytes]) -> Make:
    def make(parts: Parts, path: Path) -> None:
        parts.write(path)
        parts.write(path, change(manifest_bytes(parts.manifest)))

    return make


def _file(name: str, content: Callable[[], bytes]) -> Make:
    def make(parts: Parts, path: Path) -> None:
        parts.files[name] = content()
        parts.write(path)

    return make


def _bytes(content: Callable[[Parts], bytes]) -> Make:
    return lambda parts, path: path.write_bytes(content(parts)) and None


def _external(location: str, **facts: str) -> bytes:
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **facts}.items():
        tensor.external_data.add(key=key, value=value)
    graph = helper.make_graph([], "g", [], [helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])], [tensor])
    content: bytes = helper.make_model(graph, ir_version=10).SerializeToString()
    return content


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _npz_of_header(name: str, header: str) -> bytes:
    padded = header.encode() + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded)
    return buffer.getvalue()


def _zeros(n_bytes: int, name: str = "golden.npz") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w") as stream:
        for _ in range(n_bytes >> 20):
            stream.write(bytes(1 << 20))
    return buffer.getvalue()


def _tiles_without_end(parts: Parts, path: Path) -> None:
    """One pixel a tile, of a frame that is scaled up: the frame it is verified by gives millions of them."""
    parts.manifest["preprocess"] |= {"fit": "tile", "height": 1, "width": 1, "scale": 16.0}
    golden = dict(np.load(io.BytesIO(parts.files["golden.npz"])))
    frame = np.zeros((500, 500, 1), np.uint8)
    golden |= {"frame_0": frame, "frame_0_input": np.zeros((1, 1, 1), np.uint8)}
    golden["inputs"] = golden["inputs"][:, :1, :1]
    parts.files["golden.npz"] = _npz(**golden)
    parts.write(path)


def _whole_prior(parts: Parts, path: Path) -> None:
    side = 3000
    parts.files["prior.npz"] = _npz(
        kind=np.array("full_normal"), mean=np.zeros(side), whitening=np.zeros((side, side), np.float32)
    )
    parts.write(path)


EMPTY_GRAPH = b"\x08\x0a\x3a\x00"

HOSTILE: dict[str, Make] = {
    **{
        f"{where} is {json.dumps(value)[:40]}": _wrong(where, value)
        for where, values in WRONG.items()
        for value in values
    },
    "deep": _raw_manifest(lambda raw: b"[" * 100_000 + b"]" * 100_000),
    "deep within": _raw_manifest(
        lambda raw: raw.replace(b'"graphs": {}', b'"graphs": ' + b'{"a":' * 90 + b"7" + b"}" * 90)
    ),
    "many values": _raw_manifest(
        lambda raw: raw.replace(b'"graphs": {}', b'"graphs": {"a": [' + b"1," * 300_000 + b"1]}")
    ),
    "a long text": _raw_manifest(lambda raw: raw.replace(b"half_means", b"x" * 1_000_000)),
    "a long number": _raw_manifest(lambda raw: raw.replace(b'"dim": 2', b'"dim": ' + b"9" * 5000)),
    "a number of 70 bits": _raw_manifest(lambda raw: raw.replace(b'"dim": 2', b'"dim": 999999999999999999999')),
    "NaN": _raw_manifest(lambda raw: raw.replace(b'"threshold": 1.0', b'"threshold": NaN')),
    "a key twice": _raw_manifest(lambda raw: raw.replace(b'"criteria": [', b'"criteria": [], "criteria": [', 1)),
    "ten megabytes": _raw_manifest(lambda raw: raw + b" " * 10_000_000),
    "bytes that are no text": _raw_manifest(lambda raw: b"\xff\xfe" + raw),
    "empty manifest": _raw_manifest(lambda raw: b""),
    "external data at an address": _file(
        "detector.onnx", lambda: _external("*/_ORT_MEM_ADDR_/*", offset="4096", length="16")
    ),
    "external data above": _file("encoder.onnx", lambda: _external("../../etc/passwd")),
    "external data beside": _file("decoder.onnx", lambda: _external("weights.bin")),
    "external data in int8": _file("detector-int8.onnx", lambda: _external("weights.bin")),
    "a graph that is no graph": _file("detector.onnx", lambda: b"\xff" * 1000),
    "an empty graph": _file("detector.onnx", lambda: EMPTY_GRAPH),
    "onnxruntime's own format": _file("detector.onnx", lambda: b"\x20\x00\x00\x00ORTM" + bytes(100)),
    "millions of fields": _file("detector.onnx", lambda: b"\x08\x0a" * 1_500_000),
    "a prior that is a pickle": _file("prior.npz", lambda: b"\x80\x04\x95"),
    "a prior of a trillion values": _file(
        "prior.npz",
        lambda: _npz_of_header("mean", "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}"),
    ),
    "a prior of no values, a trillion times": _file(
        "prior.npz",
        lambda: _npz_of_header("mean", "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 0)}"),
    ),
    "a prior without variance": _whole_prior,
    "a prior of no dimension": _file("prior.npz", lambda: _npz(kind=np.array("standard_normal"), dim=np.array(-1))),
    "a prior's kind with escapes": _file("prior.npz", lambda: _npz(kind=np.array("\x1b[2J\x07"))),
    "golden samples that inflate": _file("golden.npz", lambda: _zeros(400 << 20, "inputs.npy")),
    "golden samples without values": _file("golden.npz", lambda: _npz(inputs=np.zeros((0, 8, 8, 1), np.uint8))),
    "golden samples of objects": _file("golden.npz", lambda: _npz(inputs=np.array([None], dtype=object))),
    "tiles without end": _tiles_without_end,
    "an archive that inflates": _bytes(lambda parts: _zeros(400 << 20)),
    "an archive of many entries": _bytes(lambda parts: pack({f"f{index}": b"" for index in range(2000)})),
    "an archive cut short": _bytes(lambda parts: pack(parts.files)[:-100]),
    "an archive of another kind": _bytes(lambda parts: b"PK\x03\x04" + bytes(100)),
    "nothing": _bytes(lambda parts: b""),
}
"""By what is wrong. Not one may be used, and none may do more than be refused."""
