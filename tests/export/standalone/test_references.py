"""The references in numpy and C++ of `--format onnx`: they need no edge-aae, and give what edge-aae gives."""

from __future__ import annotations

import ast
import json
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle.budgets import detector_file
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import BundleError
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.score import Decision, FusedRule, Limit, Term
from edge_runtime.scoring.detector import Detector
from export.standalone import folder as folder_module
from export.standalone.folder import folder_files, write_folder

FRAME = (60, 80, 3)
LIMIT_S = 300
"""Against a hang."""

FUSED = FusedRule(
    terms={
        "reconstruction_error": Term(weight=1.5, transform="log", floor=0.01),
        "neg_log_prior": Term(weight=0.25, transform="linear", floor=1.5),
    },
    limit=Limit(threshold=0.9, center=-0.4),
)

HOW: dict[str, tuple[Preprocess, Decision | None]] = {
    "area": (Preprocess(height=16, width=24), None),
    "halved": (Preprocess(height=30, width=40, channels=3), FUSED),
    "region": (Preprocess(height=16, width=24, roi=(3, 5, 40, 30)), FUSED),
    "enlarged": (Preprocess(height=70, width=96, channels=3), FUSED),
    "letterbox": (Preprocess(height=32, width=32, channels=3, fit="letterbox", interpolation="linear"), None),
    "letterbox of a region": (Preprocess(height=33, width=20, fit="letterbox", roi=(1, 2, 50, 31)), FUSED),
    "nearest": (Preprocess(height=17, width=23, interpolation="nearest"), None),
    "16 bits": (Preprocess(height=16, width=24, levels=(0, 4095)), FUSED),
}
"""Preprocessing that the references do themselves, and the rule; None is the union."""

BEFORE = {
    "tile": Preprocess(height=16, width=24, fit="tile", overlap=4, scale=0.5),
    "self-referenced": Preprocess(height=16, width=24, fit="tile", self_reference="row_column"),
    "aligned": Preprocess(height=16, width=24, align=Alignment(mode="turn", height=40, width=60, frame=(60, 80))),
}
"""That somebody else has to do before"""


@pytest.fixture(scope="module")
def make_framed(make_bundle: Callable[..., Bundle]) -> Callable[..., Bundle]:
    """A bundle whose golden samples hold frames as well, grey and colour, of one size."""

    def make(preprocess: Preprocess, decision: Decision | None = None, **changed: Any) -> Bundle:
        bundle = make_bundle(preprocess, decision=decision)
        frames = tuple(made_frame(number, FRAME if number else FRAME[:2]) for number in range(2))
        inputs = tuple(preprocess.tiles(frame)[0] for frame in frames)
        inputs = inputs if preprocess.fit == "tile" else tuple(stack[0] for stack in inputs)
        golden = replace(Golden.from_npz(bundle.files["golden.npz"]), raw_frames=frames, raw_inputs=inputs)
        manifest = {**bundle.manifest, **changed}
        return Bundle.from_parts(manifest, {**bundle.files, "golden.npz": golden.to_npz()}, Path("test.aae"))

    return make


def made_frame(seed: int, shape: tuple[int, ...]) -> Frame:
    """Grain on a gradient: no two neighbours, rows or channels are alike."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(20, 200, shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
    frame: Frame = (slope + rng.normal(0, 30, shape)).clip(0, 255).astype(np.uint8)
    return frame


def said_by(*words: str | Path, cwd: Path | None = None) -> tuple[int, list[str]]:
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines()


def numbers(line: str) -> list[float]:
    """Score and criteria of a line."""
    words = line.split()
    return [float(words[1]), *(float(word.split("=")[1]) for word in words[3:])]


@pytest.mark.parametrize("name", HOW)
def test_both_references_score_camera_frames_as_edge_aae(
    name: str, make_framed: Callable[..., Bundle], reference_program: Path, tmp_path: Path
) -> None:
    preprocess, decision = HOW[name]
    bundle = make_framed(preprocess, decision)
    write_folder(bundle, tmp_path / "written")
    shutil.move(tmp_path / "written", tmp_path / "elsewhere")
    status, in_python = said_by(sys.executable, "-I", "elsewhere/reference.py", cwd=tmp_path)
    assert (status, len(in_python)) == (0, 4), in_python
    assert [line.split()[0] for line in in_python] == ["input_0.npy", "input_1.npy", "frame_0.npy", "frame_1.npy"]
    status, in_cpp = said_by(reference_program, tmp_path / "elsewhere")
    assert status == 0, in_cpp
    for ours, theirs in zip(in_python, in_cpp, strict=True):
        assert ours.split()[2] == theirs.split()[2]
        np.testing.assert_allclose(numbers(ours), numbers(theirs), rtol=2e-4, atol=1e-4)

    # And frames that are in no table: 37 rows more of them are cut off, or scaled otherwise.
    detector = Detector.load(bundle, on_site=False)
    other = made_frame(7, (97, 131, 3))
    np.save(tmp_path / "other.npy", other)
    expected = detector.score(other)
    for command in ((sys.executable, tmp_path / "elsewhere/reference.py"), (reference_program, tmp_path / "elsewhere")):
        status, (line,) = said_by(*command, tmp_path / "other.npy")
        assert status == 0
        assert numbers(line) == pytest.approx([expected.score, *expected.criteria.values()], rel=5e-3, abs=5e-3)
        assert line.split()[2] == ("anomalous" if expected.is_anomaly else "normal")


SIZES = [(480, 640), (96, 128), (61, 47), (33, 200), (20, 30), (224, 224), (32, 48)]


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("interpolation", ["area", "linear", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_numpy_reference_prepares_frames_as_the_runtime_but_for_single_grey_levels(
    fit: Any, interpolation: Any, channels: Any, make_framed: Callable[..., Bundle], tmp_path: Path
) -> None:
    preprocess = Preprocess(height=32, width=48, channels=channels, fit=fit, interpolation=interpolation)
    write_folder(make_framed(preprocess), tmp_path / "out")
    prepared = runpy.run_path(str(tmp_path / "out/reference.py"), run_name="reference")["prepared"]
    n_apart = n_pixels = 0
    for seed, size in enumerate(SIZES):
        for shape in (size, (*size, 3)):
            frame = made_frame(seed, shape)
            apart = np.abs(prepared(frame).astype(int) - preprocess(frame).astype(int))
            assert apart.max() <= 1, shape
            n_apart, n_pixels = n_apart + np.count_nonzero(apart), n_pixels + apart.size
    # Ties, and where OpenCV's vector paths cut their sums: on x86-64 0.0053 of the pixels at most, elsewhere an eighth.
    assert n_apart <= (0.0 if interpolation == "nearest" else 0.15) * n_pixels


@pytest.mark.parametrize("name", BEFORE)
def test_where_a_frame_needs_more_the_references_take_network_inputs_and_say_what_comes_before(
    name: str, make_framed: Callable[..., Bundle], reference_program: Path, tmp_path: Path
) -> None:
    bundle = make_framed(BEFORE[name], FUSED)
    write_folder(bundle, tmp_path / "out")
    frame = Golden.from_npz(bundle.files["golden.npz"]).raw_frames[1]
    expected = Detector.load(bundle, on_site=False).score(frame)
    for command in ((sys.executable, tmp_path / "out/reference.py"), (reference_program, tmp_path / "out")):
        status, lines = said_by(*command)
        assert status == 0, lines
        assert lines[-1].startswith("frame_1_inputs.npy ")
        assert numbers(lines[-1])[0] == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
        np.save(tmp_path / "frame.npy", frame)
        refused = subprocess.run(
            [*command, tmp_path / "frame.npy"], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert refused.returncode not in (0, -11), refused.stdout
        assert "network input is" in refused.stderr
        assert "Traceback" not in refused.stderr
    text = " ".join((tmp_path / "out/README.txt").read_text().split())
    assert "NETWORK INPUTS, (16, 24, " in text
    words = {"tile": "cut tiles of 16x24", "self-referenced": "derive 4 channels", "aligned": "warp the view"}
    assert words[name] in text
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["reference_takes_frames"] is False
    assert any(words[name] in step for step in manifest["before_the_references"])


def test_another_score_or_decision_is_told_by_both(
    make_framed: Callable[..., Bundle], reference_program: Path, tmp_path: Path
) -> None:
    write_folder(make_framed(HOW["area"][0]), tmp_path / "out")
    table = tmp_path / "out/golden/detector.csv"
    as_written = table.read_text()
    head, first, *others = as_written.splitlines()
    assert head.startswith("file,kind,score,decision,tolerance,reference,reconstruction_error,neg_log_prior")
    cells = first.split(",")
    moved = [cells[0], cells[1], str(float(cells[2]) + 2 * float(cells[4])), *cells[3:]]
    turned = [*cells[:3], "normal" if cells[3] == "anomalous" else "anomalous", *cells[4:]]
    for wrong in (moved, turned):
        table.write_text("\n".join([head, ",".join(wrong), *others]) + "\n")
        for command in ((sys.executable, tmp_path / "out/reference.py"), (reference_program, tmp_path / "out")):
            status, lines = said_by(*command)
            assert status == 1
            assert [number for number, line in enumerate(lines) if "differs: expected" in line] == [1]
    table.write_text(as_written)
    frame = tmp_path / "out/golden/frame_1.npy"
    np.save(frame, np.load(frame) // 2)  # not what was scored
    for command in ((sys.executable, tmp_path / "out/reference.py"), (reference_program, tmp_path / "out")):
        assert said_by(*command)[0] == 1


def test_the_references_import_nothing_of_ours() -> None:
    source = Path(folder_module.__file__).parent
    tree = ast.parse((source / "reference.py").read_text())
    found = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    found |= {str(node.module).split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert found == {"argparse", "csv", "json", "sys", "pathlib", "typing", "numpy", "onnxruntime"}
    assert re.findall(r'#include [<"]([^>"]+\.h[^>"]*)[>"]', (source / "reference.cpp").read_text()) == [
        "openvino/openvino.hpp"
    ]


def test_bad_arrays_are_refused_in_a_line_by_both(
    make_framed: Callable[..., Bundle], reference_program: Path, tmp_path: Path
) -> None:
    write_folder(make_framed(HOW["region"][0]), tmp_path / "out")
    np.save(tmp_path / "small.npy", np.zeros((10, 10), dtype=np.uint8))  # the region leaves it
    np.save(tmp_path / "float.npy", np.zeros(FRAME, dtype=np.float32))
    np.save(tmp_path / "alpha.npy", np.zeros((60, 80, 4), dtype=np.uint8))
    for name in ("small", "float", "alpha"):
        for command in ((sys.executable, tmp_path / "out/reference.py"), (reference_program, tmp_path / "out")):
            done = subprocess.run(
                [*command, tmp_path / f"{name}.npy"], capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            assert done.returncode in (1, 2), (name, command)
            assert len(done.stderr.splitlines()) == 1, done.stderr
    (tmp_path / "cut.npy").write_bytes((tmp_path / "small.npy").read_bytes()[:40])
    assert subprocess.run([reference_program, tmp_path / "out", tmp_path / "cut.npy"], check=False).returncode == 2


def test_what_edge_aae_would_also_do_stands_in_the_readme(make_framed: Callable[..., Bundle]) -> None:
    size = DefectSize(min_area=Area.parse("12px")).to_json()
    backbone = {"name": "trunk", "architecture": "resnet18", "licence": "BSD-3-Clause", "origin": "a shop"}
    bundle = make_framed(
        HOW["16 bits"][0], defect_size=size, model={"network": "features", "latent_dim": 2, "backbone": backbone}
    )
    files = folder_files(bundle, ("fp32",))
    text = " ".join(files["README.txt"].decode().split())
    assert "level x becomes floor(255 (x - 0) / 4095)" in text
    assert "the smallest area, 12px" in text
    assert "weights of trunk (resnet18). Licence: BSD-3-Clause. Origin: a shop." in text
    manifest = json.loads(files["manifest.json"])
    assert manifest["backbone"] == backbone
    assert manifest["defect_size"]["min_area"] == "12px"
    assert manifest["preprocess"] == bundle.preprocess.to_json()
    assert manifest["decision"] == bundle.decision.to_json()
    assert manifest["input"]["shape"] == [16, 24, 1]


def test_both_score_a_pretrained_network_and_its_licence_travels_along(
    features_bundle: Bundle, reference_program: Path, tmp_path: Path
) -> None:
    write_folder(features_bundle, tmp_path / "out")
    for precision in features_bundle.precisions:
        graph = detector_file(precision)
        assert said_by(sys.executable, tmp_path / "out/reference.py", "--graph", graph)[0] == 0
        if not features_bundle.failed_gate(precision, "openvino"):
            assert said_by(reference_program, tmp_path / "out", "--graph", graph)[0] == 0
    facts = features_bundle.manifest["model"]["backbone"]
    assert f"Licence: {facts['licence']}." in " ".join((tmp_path / "out/README.txt").read_text().split())


def test_criteria_that_would_break_the_lines_are_refused(make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    manifest = {**bundle.manifest, "criteria": [*bundle.criteria, "a\nthreshold 9"]}
    odd = Bundle.from_parts(manifest, bundle.files, Path("odd.aae"))
    with pytest.raises(BundleError, match="expected letters, digits"):
        folder_files(odd, ("fp32",))
