"""The folder of `edge-aae export --format onnx`: from a bundle that passed the gate, tried before it appears."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import sha256
from edge_runtime.bundle.budgets import DETECTOR_FILES, detector_file
from edge_runtime.bundle.bundle import MANIFEST, ONNX_FOLDER, Bundle
from edge_runtime.bundle.manifest_shape import parse_json
from edge_runtime.errors import BundleError, DataError, GateError
from edge_runtime.files import json_bytes
from edge_runtime.model.score import FusedRule, UnionRule
from export.standalone.readme import before_the_references, left_out, readme
from export.standalone.samples import expectations, samples_of, takes_frames

__all__ = ["check_place", "chosen_of", "folder_files", "write_folder"]

FORMAT_VERSION = 1
GOLDEN = "golden"
README = "README.txt"
LINES = "model.txt"
TEMPLATES = ("reference.py", "reference.cpp", "CMakeLists.txt")
WRITTEN = {MANIFEST, README, LINES, GOLDEN, *TEMPLATES, "encoder.onnx", "decoder.onnx", "detector-batch.onnx"}
WRITTEN |= set(DETECTOR_FILES.values())
"""What may lie in a folder that is written again."""

NAME = re.compile(r"[A-Za-z0-9_.-]+")
TRIAL_TIMEOUT_S = 1800
"""Guards against a hang: a few dozen frames take seconds."""

PURPOSES = {
    "detector-batch.onnx": "the detector for several inputs at once, not compared with golden/",
    "encoder.onnx": "x (batch, C, H, W) float32 in [0, 1] to the code",
    "decoder.onnx": "code to x_hat (batch, C, H, W) in [0, 1]",
}
"""Of graphs that are no detector of one input."""
COLOURS = {1: "grey", 3: "BGR", 4: "grey and three channels made of it, see preprocess.self_reference"}


def check_place(out: Path) -> None:
    """Raise DataError unless a folder may be written there: nothing there, an empty folder, or one of ours."""
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"{out} is a file, expected the name of a folder; --format onnx writes one")
    there = {entry.name for entry in out.iterdir()}
    if not there:
        return
    try:
        manifest = parse_json((out / MANIFEST).read_bytes())
    except (OSError, ValueError):
        manifest = None
    if not (isinstance(manifest, dict) and manifest.get("format") == ONNX_FOLDER):
        raise DataError(f"{out} holds what --format onnx did not write; name an empty folder, or none that is there")
    if there - WRITTEN:
        raise DataError(
            f"{out} holds {', '.join(sorted(there - WRITTEN)[:3])} beside an export, which would be lost; name another "
            "folder, or move that away"
        )


def write_folder(bundle: Bundle, out: Path, precisions: Sequence[str] | None = None) -> dict[str, int]:
    """Write the folder, whole or not at all, after its Python reference gave what golden/ expects; sizes by name.

    precisions: those whose detectors go in, beside FP32; None: all that the bundle has. Raises DataError where the
    place is taken, BundleError, GateError where the reference gives something else.
    """
    check_place(out)
    # As it will be read: sums over terms in another order have another last digit.
    bundle = Bundle.from_archive(bundle.to_bytes(), bundle.path)
    chosen = chosen_of(bundle, precisions)
    files = folder_files(bundle, chosen)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as place:
            staged = Path(place) / "new"
            (staged / GOLDEN).mkdir(parents=True)
            for name, content in files.items():
                (staged / name).write_bytes(content)
            for precision in chosen:
                if not bundle.ships_failing(precision):
                    _try_reference(staged, detector_file(precision))
            if out.exists():
                os.rename(out, Path(place) / "old")
            os.rename(staged, out)
    except OSError as error:
        raise DataError(f"cannot write {out}: {error.strerror or error}; choose another place with --out") from error
    return {name: len(content) for name, content in files.items()}


def chosen_of(bundle: Bundle, precisions: Sequence[str] | None) -> tuple[str, ...]:
    """Precisions of a folder: FP32, which the references take by default, and those asked for; None: the bundle's."""
    return tuple(bundle.precisions if precisions is None else dict.fromkeys(("fp32", *precisions)))


def _try_reference(folder: Path, graph: str) -> None:
    """Run reference.py as its user will; raises GateError with the first line that tells."""
    try:
        ended = subprocess.run(
            [sys.executable, str(folder / "reference.py"), "--graph", graph],
            capture_output=True, text=True, timeout=TRIAL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise GateError(
            f"reference.py on {graph} did not end within {TRIAL_TIMEOUT_S} s; nothing was written"
        ) from error
    if ended.returncode:
        lines = [line.strip() for line in ended.stdout.splitlines() if "differs" in line]
        said = lines or ended.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise GateError(f"reference.py on {graph} did not give what golden/ expects: {said[0]}; nothing was written")


def folder_files(bundle: Bundle, precisions: Sequence[str]) -> dict[str, bytes]:
    """Content by path within the folder. Raises BundleError for a precision that the bundle lacks."""
    unfit = [name for name in bundle.criteria if not NAME.fullmatch(name)]
    if unfit:
        raise BundleError(f"{bundle.path} has a criterion {unfit[0]!r}, expected letters, digits, _ - and . alone")
    detectors = {detector_file(precision): precision for precision in precisions}
    graphs = {name: bundle.detector(precision) for name, precision in detectors.items()}
    others = ("detector-batch.onnx", "encoder.onnx", "decoder.onnx")
    graphs |= {name: bundle.files[name] for name in others if name in bundle.files}
    facts = {name: _graph_facts(bundle, name, content, detectors.get(name)) for name, content in graphs.items()}
    samples = samples_of(bundle)
    return {
        **graphs,
        MANIFEST: json_bytes(_manifest(bundle, facts)),
        LINES: _lines(bundle).encode("ascii"),
        README: readme(bundle, facts).encode("utf-8", errors="replace"),
        **{name: (Path(__file__).parent / name).read_bytes() for name in TEMPLATES},
        **{f"{GOLDEN}/{sample.file}": _npy_bytes(sample.array) for sample in samples},
        **{
            f"{GOLDEN}/{Path(name).stem}.csv": expectations(bundle, samples, precision)
            for name, precision in detectors.items()
        },
    }


def _npy_bytes(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _graph_facts(bundle: Bundle, name: str, content: bytes, precision: str | None) -> dict[str, Any]:
    facts: Mapping[str, Any] = bundle.manifest["graphs"].get(name) or {}
    reports = bundle.manifest["parity"].get(precision, {}).get("reports", [])
    verdicts: dict[str, str] = {}
    for report in reports:
        if verdicts.get(report["backend"]) != "failed":
            verdicts[report["backend"]] = "passed" if report.get("passed") else "failed"
    known = {"precision": precision or "fp32", "purpose": PURPOSES.get(name, "the detector"), **facts}
    return {**known, "sha256": sha256(content), "gate": verdicts}


def _manifest(bundle: Bundle, graphs: Mapping[str, Any]) -> dict[str, Any]:
    manifest, how = bundle.manifest, bundle.preprocess
    model, training = manifest["model"], manifest["training"]
    return {
        "format": ONNX_FOLDER,
        "format_version": FORMAT_VERSION,
        "bundle_sha256": bundle.digest,
        "created_by": manifest["created_by"],
        "model": {key: model.get(key) for key in ("id", "network", "method", "refine")},
        "backbone": model.get("backbone"),
        "training": {"data": training.get("data", {}).get("path"), "n_images": training.get("n_images")},
        "input": {
            "name": "frame",
            "shape": list(how.input_shape),
            "layout": "(1, height, width, channels)",
            "dtype": "uint8",
            "range": "0 to 255; the graph scales it itself",
            "colour": COLOURS[how.input_shape[2]],
        },
        "preprocess": how.to_json(),
        "reference_takes_frames": takes_frames(how),
        "before_the_references": before_the_references(bundle),
        "left_out": left_out(bundle),
        "graphs": graphs,
        "criteria": list(bundle.criteria),
        "decision": bundle.decision.to_json(),
        "score": "higher is more anomalous: 0 the median training image, 1 the limit; README.txt, Score",
        "defect_size": bundle.defect_size.to_json() if bundle.defect_size else None,
    }


def _lines(bundle: Bundle) -> str:
    """model.txt; a union rule is the largest of linear terms, a fused one their sum."""
    how, decision = bundle.preprocess, bundle.decision
    if isinstance(decision, UnionRule):
        rule, center, limit = "union", 0.0, 1.0
        terms = [
            (name, "linear", 1.0 / (item.threshold - item.center), item.center)
            for name, item in decision.limits.items()
        ]
    else:
        assert isinstance(decision, FusedRule), "there are two rules"
        rule, center, limit = "fused", decision.limit.center, decision.limit.threshold
        terms = [(name, term.transform, term.weight, term.floor) for name, term in decision.terms.items()]
    lines = [
        "# manifest.json in lines, for reference.cpp",
        "input {} {} {}".format(*how.input_shape),
        f"reference_takes_frames {int(takes_frames(how))}",
        f"frame_channels {how.channels}",
        "roi {} {} {} {}".format(*(how.roi or (0, 0, 0, 0))),
        f"fit {how.fit}",
        f"interpolation {how.interpolation}",
        f"criteria {' '.join(bundle.criteria)}",
        "# rule, threshold on the score, center and limit of what the terms give",
        f"rule {rule} {decision.threshold!r} {center!r} {limit!r}",
        "# column, transform, weight, floor",
        *(
            f"term {bundle.criteria.index(name)} {transform} {weight!r} {floor!r}"
            for name, transform, weight, floor in terms
        ),
    ]
    return "\n".join(lines) + "\n"
