"""`edge-aae export --format onnx` on the command line: of a run through the gate, of a bundle, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edge_aae
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.scoring.detector import Detector
from tests.edge_aae.conftest import Cli

LIMIT_S = 300
"""Against a hang."""


def lines_of(*words: str | Path) -> list[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def of_run(cli: Cli, workplace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run whose bundle is workplace/model.aae, in the precisions that pass; said.txt beside it."""
    place = tmp_path_factory.mktemp("onnx")
    done = cli("export", workplace / "runs/latest", "--format", "onnx", "--out", place / "out", cwd=workplace)
    assert done.returncode == 0, done.stderr
    (place / "said.txt").write_text(done.stdout)
    return place / "out"


def test_a_run_becomes_the_folder_after_the_same_gate_as_its_bundle(of_run: Path, workplace: Path) -> None:
    said = (of_run.parent / "said.txt").read_text()
    bundle = Bundle.open(workplace / "model.aae")
    gate = [line for line in (workplace / "export.txt").read_text().splitlines() if ": passed on " in line]
    assert gate
    assert [line for line in said.splitlines() if ": passed on " in line] == gate
    assert f"model sha256:{bundle.digest[:12]})" in said
    assert not list(of_run.parent.glob("*.aae"))
    graphs = {name for name in bundle.files if name.endswith(".onnx")}
    assert {path.name for path in of_run.glob("*.onnx")} == graphs
    engines = json.loads((of_run / "manifest.json").read_text())["graphs"]["detector.onnx"]["gate"]
    assert engines["onnxruntime-cpu"] == "passed"


def test_every_precision_gives_through_both_references_what_its_table_expects(
    of_run: Path, workplace: Path, reference_program: Path
) -> None:
    bundle = Bundle.open(workplace / "model.aae")
    assert len(bundle.precisions) > 1
    for table in sorted((of_run / "golden").glob("detector*.csv")):
        graph = f"{table.stem}.onnx"
        frames = [line for line in table.read_text().splitlines() if line.startswith("frame_")]
        assert frames
        assert all(",frame," in line for line in frames)
        assert len(lines_of(sys.executable, of_run / "reference.py", "--graph", graph)) >= 9
        engines = json.loads((of_run / "manifest.json").read_text())["graphs"][graph]["gate"]
        if engines.get("openvino") != "failed":
            assert len(lines_of(reference_program, of_run, "--graph", graph)) >= 9


def test_camera_frames_larger_than_the_input_get_the_score_of_edge_aae(
    of_run: Path, workplace: Path, reference_program: Path
) -> None:
    detector = Detector.load(workplace / "model.aae", on_site=False)
    for frame in sorted((of_run / "golden").glob("frame_*.npy")):
        pixels = np.load(frame)
        assert pixels.shape[:2] != detector.preprocess.input_shape[:2]
        expected = detector.score(pixels)
        for command in ((sys.executable, of_run / "reference.py"), (reference_program, of_run)):
            (line,) = lines_of(*command, frame)
            _, score, verdict, *_ = line.split()
            assert float(score) == pytest.approx(expected.score, rel=1e-3, abs=1e-3)
            assert verdict == ("anomalous" if expected.is_anomaly else "normal")


def test_a_bundle_becomes_the_same_folder_without_pytorch(
    cli: Cli, of_run: Path, workplace: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in ("torch", "onnx", "onnxscript"):
        (blocked / f"{name}.py").write_text("raise ImportError('not on a device')\n")
    shutil.copy(workplace / "model.aae", tmp_path)
    root = Path(__file__).parents[3]
    code = (
        f"import sys; sys.path[:0] = [{str(blocked)!r}, {str(root)!r}]\n"
        "from edge_aae.cli import main\n"
        "sys.argv = ['edge-aae', 'export', 'model.aae', '--format', 'onnx']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "wrote model-onnx/ (" in done.stdout
    assert "next: python model-onnx/reference.py" in done.stdout

    def content(folder: Path) -> dict[str, bytes]:
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(tmp_path / "model-onnx") == content(of_run)
    done = cli("export", "model.aae", "--format", "onnx", "--precision", "fp32", cwd=tmp_path)
    assert ", in place of what was there" in done.stdout, done.stderr
    detectors = {path.name for path in (tmp_path / "model-onnx").glob("detector*.onnx")}
    assert detectors == {"detector.onnx"}
    done = cli("info", "model-onnx", cwd=tmp_path)
    assert done.returncode == 1
    assert "writes for programs without edge-aae, no bundle" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("model.aae --format onnx --sign release.key", "--sign signs a bundle, one file; the folder of --format onnx"),
        ("--format onnx --sign release.key", "--sign signs a bundle, one file; the folder of --format onnx"),
        ("model.aae --format onnx --out other.aae", "--format onnx writes a folder, other.aae names a bundle"),
        ("model.aae --format onnx --batch 4", "--batch is of no use with a bundle"),
        ("model.aae --format onnx --min-area 9px", "--min-area is of no use with a bundle"),
        ("model.aae --format onnx --calibration photos", "--calibration is of no use with a bundle"),
        ("model.aae", "is a bundle already, made by export"),
        ("model.aae --format tflite", "'tflite', expected aae or onnx; graphs are always ONNX"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(
    words: str, said: str, cli: Cli, bundle_file: Path, tmp_path: Path
) -> None:
    shutil.copy(bundle_file, tmp_path / "model.aae")
    done = cli("export", *words.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["model.aae"]


def test_a_bundle_that_fails_the_gate_becomes_no_folder(
    cli: Cli, make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], tmp_path: Path
) -> None:
    make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=1.5)).write(tmp_path / "other.aae")
    done = cli("export", "other.aae", "--format", "onnx", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "other.aae failed the parity gate: fp32" in done.stderr
    assert not (tmp_path / "model-onnx").exists()
    assert (tmp_path / "parity-failure/fp32-onnxruntime-cpu.npz").is_file()


def test_a_bundle_that_ships_failing_is_taken_where_that_is_allowed_and_the_folder_says_so(
    cli: Cli, make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], tmp_path: Path
) -> None:
    marked = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=1.5))
    report = {"backend": "onnxruntime-cpu", "reference": "PyTorch", "passed": False, "failures": ["criteria differ"],
              "decision_flips": 0, "n_frames": 2}  # fmt: skip
    manifest = {**marked.manifest, "parity": {"fp32": {"passed": False, "reports": [report]}}}
    Bundle.from_parts(manifest, marked.files, tmp_path / "m.aae").write(tmp_path / "m.aae")
    done = cli("export", "m.aae", "--format", "onnx", cwd=tmp_path)
    assert done.returncode == 3
    assert "although it failed the gate; --allow-failing takes it all the same" in done.stderr
    assert not (tmp_path / "model-onnx").exists()
    done = cli("export", "m.aae", "--format", "onnx", "--allow-failing", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "fp32 FAILED the gate and is in the folder all the same" in done.stdout
    assert "parity gate at export: onnxruntime-cpu failed" in (tmp_path / "model-onnx/README.txt").read_text()


def test_python_names_the_command_for_folders(workplace: Path) -> None:
    with pytest.raises(ConfigError, match="edge-aae export --format onnx"):
        edge_aae.export(workplace / "runs/latest", format="onnx")
