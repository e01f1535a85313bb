"""The whole road through the command line, at a tiny size: train, export, verify, info, score, run."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.model.images import list_images
from edge_runtime.scoring.detector import Detector
from edge_runtime.sinks.records import to_line

Cli = Callable[..., "subprocess.CompletedProcess[str]"]
FRAME_KEYS = [
    "v", "type", "source_id", "frame_id", "name", "t_capture", "t_emit", "age_ms", "score", "score_smoothed",
    "threshold", "is_anomaly", "state", "event_id", "boxes", "criteria", "latency_ms", "model",
]  # fmt: skip


@pytest.fixture(scope="module")
def video(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames of Motion JPEG: the good test images twice, then the scratched ones."""
    path = tmp_path_factory.mktemp("video") / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (48, 40))
    good, scratched = list_images(photos / "test/good"), list_images(photos / "test/scratch")
    for file in [*good, *good, *scratched]:
        writer.write(cv2.imread(str(file)))
    writer.release()
    return path


def test_training_leaves_a_run_folder_and_says_what_comes_next(cli: Cli, photos: Path, tmp_path: Path) -> None:
    done = cli("train", photos / "train", "--imgsz", "16", "--epochs", "2", "--out", "my-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    # Three folds screen for 11 epochs and judge for 2, and 2 for the network that is kept.
    assert "trained: 41 of 41 epochs" in done.stdout
    assert "verdict: nothing is known yet about what it finds: try it on some defects" in done.stdout
    assert "threshold: set for about 5.0% false alarms (--target-fpr asks for another rate)" in done.stdout
    assert "only 40 images" in done.stdout
    assert "next: edge-aae export" in done.stdout
    assert "network hog: the images show one thing in one place" in done.stderr
    assert "final epoch 41/41" in done.stderr
    assert {file.name for file in (tmp_path / "my-run").iterdir()} == {
        "config.json", "weights.safetensors", "training.csv", "refinement.csv", "calibration.json", "samples.npz",
        "report.html", "command.txt", "groups.csv",
        "prior.npz", "rejected.png", "losses.png", "scores.png",
    }  # fmt: skip
    assert (tmp_path / "runs/latest").resolve() == tmp_path / "my-run"
    with (tmp_path / "my-run/refinement.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 40


def test_export_prints_the_gate(workplace: Path) -> None:
    said = (workplace / "export.txt").read_text()
    # 30 samples, 8 hostile frames, 20 training images with and without a patch, and blends astride the threshold.
    assert "fp32 onnxruntime-cpu against PyTorch float64: passed on " in said
    assert "0 flips, score error " in said
    assert "fp16 onnxruntime-cpu against PyTorch float32: passed on " in said
    assert "int8" in said
    assert ", separation kept " in said
    assert "AUROC" not in said.split("verdict:")[0]


@pytest.mark.slow
def test_an_export_made_again_has_the_same_bytes(cli: Cli, workplace: Path, tmp_path: Path) -> None:
    done = cli("export", workplace / "runs/latest", "--out", tmp_path / "deep/m.aae", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert (workplace / "export.txt").read_text().splitlines()[:-2] == done.stdout.splitlines()[:-2]
    assert (tmp_path / "deep/m.aae").read_bytes() == (workplace / "model.aae").read_bytes()


def test_verify_passes_without_and_against_the_run(cli: Cli, workplace: Path) -> None:
    own = cli("verify", cwd=workplace)
    assert own.returncode == 0, own.stderr
    assert "model.aae: passed" in own.stdout
    against = cli(
        "verify", "model.aae", "--against", "runs/latest", "--precision", "fp32", "--backend", "onnxruntime-cpu",
        "--json", cwd=workplace,
    )  # fmt: skip
    assert against.returncode == 0, against.stderr
    reports = json.loads(against.stdout)["reports"]
    assert [report["reference"] for report in reports] == ["golden samples", "PyTorch float32", "PyTorch float64"]
    assert all(report["passed"] for report in reports)


@pytest.mark.parametrize("rehash", [True, False], ids=["hash made right", "hash left wrong"])
def test_one_perturbed_decoder_weight_ends_verify_with_3_and_names_the_output(
    cli: Cli, workplace: Path, tmp_path: Path, rehash: bool
) -> None:
    bundle = Bundle.open(workplace / "model.aae")
    model = onnx.load_from_string(bundle.files["decoder.onnx"])
    weight = next(item for item in model.graph.initializer if item.name.endswith("weight"))
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    files = {**bundle.files, "decoder.onnx": model.SerializeToString()}
    if rehash:
        Bundle.from_parts(bundle.manifest, files, tmp_path).write(tmp_path / "bad.aae")
    else:
        bundle.write_folder(tmp_path / "bad.aae")
        (tmp_path / "bad.aae/decoder.onnx").write_bytes(files["decoder.onnx"])
    done = cli("verify", tmp_path / "bad.aae", cwd=tmp_path)
    assert done.returncode == 3
    assert "decoder.onnx: x_hat differs from golden samples" in done.stderr
    assert "decoder.onnx is not what was exported" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_numpy_lines_of_the_bundle_page_give_the_detectors_score(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs/bundle.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    exec(code, names)
    expected = Detector.load("model.aae", threads=1).score_input(np.zeros((32, 32, 1), dtype=np.uint8))
    assert names["score"] == pytest.approx(expected.score, rel=1e-6)


def test_precision_and_backend_are_chosen_and_said(cli: Cli, workplace: Path, photos: Path) -> None:
    full, half = (
        cli("run", "--source", photos / "test", "--precision", precision, cwd=workplace)
        for precision in ("fp32", "fp16")
    )
    assert " on onnxruntime-cpu fp16, model " in half.stderr
    scores = [[json.loads(line)["score"] for line in done.stdout.splitlines()] for done in (full, half)]
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3, rtol=5e-3)
    unknown = cli("run", "--source", photos / "test", "--precision", "fp8", cwd=workplace)
    assert unknown.returncode == 2
    assert "'fp8', expected one of fp32, fp16, int8" in unknown.stderr
    other = cli("score", photos / "test", "--backend", "tpu", cwd=workplace)
    assert other.returncode == 2
    assert "'tpu', expected one of onnxruntime-cpu" in other.stderr


@pytest.mark.slow
def test_int8_is_left_out_where_the_training_images_are_gone(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    config = json.loads((workplace / "runs/latest/config.json").read_text())
    shutil.copytree(workplace / "runs/latest", tmp_path / "run")
    config["data"]["path"] = str(tmp_path / "gone")
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    done = cli("export", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "int8 left out: INT8 needs the training images to calibrate on: no data at" in done.stdout
    assert Bundle.open(tmp_path / "model.aae").precisions == ("fp32", "fp16")
    asked = cli("export", "run", "--precision", "int8", "--out", "other.aae", cwd=tmp_path)
    assert asked.returncode == 3
    assert "leave int8 out of --precision" in asked.stderr
    assert not (tmp_path / "other.aae").exists()
    lacking = cli("run", "--source", photos / "test", "--precision", "int8", cwd=tmp_path)
    assert lacking.returncode == 1
    assert "has no detector-int8.onnx; it holds fp32, fp16: use one of these" in lacking.stderr


def test_a_tightened_tolerance_fails_and_a_shipped_failure_is_said(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    tight = cli(
        "verify", "model.aae", "--precision", "fp16", "--rtol", "0", "--atol", "1e-7", "--backend", "onnxruntime-cpu",
        "--worst", tmp_path / "worst", cwd=workplace,
    )  # fmt: skip
    assert tight.returncode == 3
    assert "detector-fp16.onnx: score differs from golden samples" in tight.stderr
    assert (tmp_path / "worst/fp16-onnxruntime-cpu.png").exists()
    opened = Bundle.open(workplace / "model.aae")
    parity = {**opened.manifest["parity"]}
    report = {**parity["fp16"]["reports"][0], "failures": ["2 of 9 decisions flip; expected none"]}
    parity["fp16"] = {**parity["fp16"], "passed": False, "reports": [report]}
    Bundle.from_parts({**opened.manifest, "parity": parity}, opened.files, tmp_path).write(tmp_path / "marked.aae")
    run = cli(
        "run", "--source", photos / "test", "--model", tmp_path / "marked.aae", "--precision", "fp16", cwd=tmp_path
    )
    assert run.returncode == 0
    assert "fp16 failed the parity gate when it was exported: 2 of 9 decisions flip; expected none" in run.stderr


def test_an_engine_that_failed_at_export_is_refused_and_not_verified_unasked(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    opened = Bundle.open(workplace / "model.aae")
    parity = {**opened.manifest["parity"]}
    own = parity["fp16"]["reports"][0]
    failed = {**own, "backend": "openvino", "failures": ["separation not kept"]}
    parity["fp16"] = {**parity["fp16"], "reports": [own, failed]}
    Bundle.from_parts({**opened.manifest, "parity": parity}, opened.files, tmp_path).write(tmp_path / "m.aae")
    chosen = ("--model", "m.aae", "--precision", "fp16", "--backend")
    run = cli("run", "--source", photos / "test", *chosen, "openvino", cwd=tmp_path)
    assert run.returncode == 1
    assert "fp16 through openvino failed the parity gate when m.aae was exported: separation not kept" in run.stderr
    assert cli("run", "--source", photos / "test", *chosen, "onnxruntime-cpu", cwd=tmp_path).returncode == 0
    done = cli("verify", "m.aae", "--precision", "fp16", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if "fp16 openvino" in cli("verify", workplace / "model.aae", cwd=tmp_path).stdout:
        assert "fp16 through openvino failed at export and is refused by runs: not checked" in done.stderr
        assert "fp16 openvino" not in done.stdout


def test_info_shows_network_thresholds_and_parity(cli: Cli, workplace: Path) -> None:
    text = cli("info", cwd=workplace).stdout
    assert "hog aae, refine robust, 4 latent dimensions" in text
    assert "32x32x1 uint8" in text
    assert "prior       full_normal, 4 dimensions" in text
    assert "gradient_distance      0.2 x log of what lies above 0" in text
    assert "threshold by rule balanced, false-alarm rate 0.05 from 40 out-of-fold scores" in text
    assert "fp32 onnxruntime-cpu against PyTorch float32: passed, 0 flips" in text
    manifest = json.loads(cli("info", "--json", cwd=workplace).stdout)
    assert manifest["digest"] == Bundle.open(workplace / "model.aae").digest
    assert manifest["schema_version"] == 1


def test_score_of_good_beside_other_folders_prints_metrics_and_writes_files(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    done = cli(
        "score", photos / "test", "--csv", tmp_path / "s.csv", "--json", tmp_path / "s.json",
        "--heatmaps", tmp_path / "heat", cwd=workplace,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "16 images scored" in done.stdout
    metrics = json.loads((tmp_path / "s.json").read_text())["metrics"]
    assert set(metrics) == {"all", "scratch"}
    assert metrics["all"]["auroc"] > 0.9
    assert metrics["all"]["n_normal"] == 8
    assert f"{metrics['all']['auroc']:.3f}" in done.stdout
    with (tmp_path / "s.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["anomalous"] for row in rows] == ["0"] * 8 + ["1"] * 8
    heat = cv2.imread(str(tmp_path / "heat/scratch/3.png.png"))
    assert heat.shape == (200, 240, 3)
    assert heat.std(axis=2).max() > 0


def test_score_takes_labels_from_a_csv(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("name,label\n" + "".join(f"{index}.png,{index % 2}\n" for index in range(8)))
    done = cli("score", photos / "test/good", "--labels", labels, "--json", tmp_path / "s.json", cwd=workplace)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "s.json").read_text())["metrics"]["all"]
    assert (metrics["n_normal"], metrics["n_anomalous"]) == (4, 4)


def test_score_without_labels_lists_the_highest_scores(cli: Cli, workplace: Path, photos: Path) -> None:
    done = cli("score", photos / "test/scratch", "--top", "3", cwd=workplace)
    assert done.returncode == 0, done.stderr
    *shown, verdict, after = done.stdout.splitlines()
    assert len(shown) == 4
    assert verdict.startswith("verdict: nothing is known yet about what it finds")
    assert after == "next: edge-aae evaluate, on labelled images"
    assert "AUROC" not in done.stdout


def test_a_labelled_set_prints_observed_and_unobserved(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 60, (90, 8, 8), dtype=np.uint8)
    labels = np.repeat([0, 1, 2], 30).astype(np.uint8)
    for label, rows in enumerate((slice(0, 4), slice(4, 8), slice(2, 6))):
        base[labels == label, rows] += 150
    np.savez(tmp_path / "blocks.npz", x_train=base, y_train=labels, x_test=base, y_test=labels)
    trained = cli(
        "train", "blocks.npz", "--classes", "0", "--contaminate", "2:0.1", "--refine", "itsr",
        "--epochs-scale", "0.004", cwd=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert cli("export", "--precision", "fp32", cwd=tmp_path).returncode == 0
    done = cli("score", "blocks.npz", "--json", "s.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "s.json").read_text())["metrics"]
    assert metrics["observed"]["n_anomalous"] == 30
    assert metrics["unobserved"]["n_anomalous"] == 30
    assert any(line.startswith("observed") for line in done.stdout.splitlines())
    # Class 2 is the contaminant, class 1 the anomaly that training never saw.
    assert metrics["observed"]["auroc"] == metrics["class 2"]["auroc"]
    assert metrics["unobserved"]["auroc"] == metrics["class 1"]["auroc"]


def test_run_gives_one_record_a_frame_in_order(cli: Cli, workplace: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    done = cli("run", "--source", video, "--out", out, cwd=workplace)
    assert done.returncode == 0, done.stderr
    lines = out.read_text().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    assert [record["frame_id"] for record in records] == list(range(24))
    assert [list(record) for record in records] == [FRAME_KEYS] * 24
    assert [to_line(record) for record in records] == lines
    digest = Bundle.open(workplace / "model.aae").digest
    assert {record["model"] for record in records} == {f"sha256:{digest}"}
    assert [record["is_anomaly"] for record in records[16:]] == [True] * 8
    anomalies = sum(record["is_anomaly"] for record in records)
    assert f"24 frames, {anomalies} anomalies, latency p50" in done.stderr


def test_an_existing_record_file_is_kept(cli: Cli, workplace: Path, video: Path, tmp_path: Path) -> None:
    out = tmp_path / "records.jsonl"
    for n_frames in ("2", "3", "4"):
        assert cli("run", "--source", video, "--out", out, "--max-frames", n_frames, cwd=workplace).returncode == 0
    lengths = {file.name: len(file.read_text().splitlines()) for file in tmp_path.iterdir()}
    assert lengths == {"records.jsonl": 4, "records.jsonl.1": 2, "records.jsonl.2": 3}


def test_records_go_to_standard_output_and_everything_else_to_standard_error(
    cli: Cli, workplace: Path, photos: Path
) -> None:
    done = cli("run", "--source", photos / "test/good", cwd=workplace)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [Path(record["name"]).name for record in records] == [f"{index}.png" for index in range(8)]
    assert "8 frames" in done.stderr


def test_a_threshold_on_the_command_line_replaces_the_bundles(cli: Cli, workplace: Path, photos: Path) -> None:
    done = cli("run", "--source", photos / "test", "--threshold", "-1000", cwd=workplace)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(record["is_anomaly"] and record["threshold"] == -1000 for record in records)


def test_a_reader_that_goes_away_ends_the_run_quietly(workplace: Path, video: Path) -> None:
    command = f"{sys.executable} -m edge_aae.cli run --source {video} | head -n 1; echo status ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=workplace, capture_output=True, text=True, timeout=60, check=False
    )
    assert "status 0" in done.stdout
    assert "Traceback" not in done.stderr
