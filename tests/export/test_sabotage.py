"""Ten ways to break a bundle, each packed again with every hash made right: verify ends with 3 and names the cause."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

from edge_aae.cli import main
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden, hashes_of
from edge_runtime.model.prior import FullNormal
from export.bundling import Export
from export.graphs import export_graphs
from tests.export.conftest import INT8
from train.runs.run_folder import TrainedRun

Sabotage = Callable[[Bundle, dict[str, TrainedRun], dict[str, Export]], Bundle]


def packed(bundle: Bundle, files: dict[str, bytes] | None = None, **manifest: Any) -> Bundle:
    """The bundle with files and keys of the manifest replaced, and hashes of manifest and golden samples made right."""
    content = {**bundle.files, **(files or {})}
    keys = {**bundle.manifest, **manifest}
    golden = replace(Golden.from_npz(content["golden.npz"]), hashes=hashes_of(keys, content))
    return Bundle.from_parts(keys, {**content, "golden.npz": golden.to_npz()}, Path("sabotaged.aae"))


def changed_graph(bundle: Bundle, name: str, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    model = onnx.load_from_string(bundle.files[name])
    change(model)
    return packed(bundle, {name: model.SerializeToString()})


def change_initializer(
    model: onnx.ModelProto, wanted: Callable[[str, np.ndarray[Any, Any]], bool], to: Callable[[Any], Any]
) -> None:
    """Replace the first initializer that is wanted."""
    for item in model.graph.initializer:
        array = numpy_helper.to_array(item)
        if wanted(item.name, array):
            item.CopyFrom(
                numpy_helper.from_array(np.ascontiguousarray(to(array.copy())).astype(array.dtype), item.name)
            )
            return
    raise AssertionError("the graph has no such initializer")


def weight_changed(bundle: Bundle, *_: Any) -> Bundle:
    def bump(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array.flat[np.abs(array).argmax()] *= 1.5
        return array

    return changed_graph(
        bundle, "detector.onnx", lambda model: change_initializer(model, lambda name, _: ".encoder." in name, bump)
    )


def colours_swapped(bundle: Bundle, *_: Any) -> Bundle:
    first = lambda name, array: ".encoder." in name and array.ndim == 4 and array.shape[1] == 3  # noqa: E731
    return changed_graph(
        bundle, "detector.onnx", lambda model: change_initializer(model, first, lambda array: array[:, ::-1])
    )


def scaled_by_256(bundle: Bundle, *_: Any) -> Bundle:
    return changed_graph(
        bundle,
        "detector.onnx",
        lambda model: change_initializer(
            model, lambda _, array: array.size == 1 and float(array.reshape(-1)[0]) == 255.0, lambda array: array + 1.0
        ),
    )


def norms_left_out(bundle: Bundle, runs: dict[str, TrainedRun], exports: dict[str, Export]) -> Bundle:
    run = runs["conv-robust"]
    network = copy.deepcopy(run.autoencoder)
    for layers in (network.encoder, network.decoder):
        assert isinstance(layers, nn.Sequential)
        for index, layer in enumerate(layers):
            if isinstance(layer, nn.BatchNorm2d):
                layers[index] = nn.Identity()
    graphs = export_graphs(network, run.prior, run.config.preprocess)
    return packed(bundle, {"detector.onnx": graphs["detector.onnx"]})


def covariance_wrong(bundle: Bundle, *_: Any) -> Bundle:
    prior = bundle.prior
    assert isinstance(prior, FullNormal)
    return packed(bundle, {"prior.npz": FullNormal(prior.mean, prior.whitening * np.float32(1.01)).to_npz()})


def threshold_edited(bundle: Bundle, *_: Any) -> Bundle:
    return packed(bundle, decision={**bundle.manifest["decision"], "threshold": 1.02})


def resized_otherwise(bundle: Bundle, *_: Any) -> Bundle:
    return packed(bundle, preprocess={**bundle.manifest["preprocess"], "interpolation": "nearest"})


def int8_scales_doubled(bundle: Bundle, *_: Any) -> Bundle:
    def double(model: onnx.ModelProto) -> None:
        for item in model.graph.initializer:
            if ".weight" in item.name and item.name.endswith("_scale"):
                item.CopyFrom(numpy_helper.from_array(2.0 * numpy_helper.to_array(item), item.name))

    return changed_graph(bundle, "detector-int8.onnx", double)


def constant_map(value: float) -> Sabotage:
    """The integer detector with the same map for every frame, all else as it was."""

    def change(model: onnx.ModelProto) -> None:
        graph = model.graph
        producer = next(node for node in graph.node if "anomaly_map" in node.output)
        producer.output[list(producer.output).index("anomaly_map")] = "real_map"
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == "anomaly_map":
                    node.input[index] = "real_map"
        graph.initializer.extend(
            [
                numpy_helper.from_array(np.array(0.0, dtype=np.float32), "nothing"),
                numpy_helper.from_array(np.array(value, dtype=np.float32), "everywhere"),
            ]
        )
        graph.node.extend(
            [
                onnx.helper.make_node("Mul", ["real_map", "nothing"], ["no_map"]),
                onnx.helper.make_node("Add", ["no_map", "everywhere"], ["anomaly_map"]),
            ]
        )

    return lambda bundle, *_: changed_graph(bundle, "detector-int8.onnx", change)


def golden_of_another(bundle: Bundle, runs: dict[str, TrainedRun], exports: dict[str, Export]) -> Bundle:
    return packed(bundle, {"golden.npz": exports["conv-mixture"].bundle.files["golden.npz"]})


def opset_rewritten(bundle: Bundle, *_: Any) -> Bundle:
    def rewrite(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 17

    return changed_graph(bundle, "encoder.onnx", rewrite)


SHIPS_INT8 = "any that ships INT8"
"""Which of the runs do depends on the machine that trained them: the networks are hardly trained."""


@pytest.mark.parametrize(
    ("sabotage", "run", "cause"),
    [
        (weight_changed, "conv-robust", "detector.onnx: latent differs from PyTorch float32"),
        (colours_swapped, "conv-robust", "detector.onnx: latent differs from PyTorch float32"),
        (scaled_by_256, "conv-robust", "detector.onnx: reconstruction_error differs from PyTorch float32"),
        (norms_left_out, "conv-robust", "detector.onnx: latent differs from PyTorch float32"),
        (covariance_wrong, "conv-robust", "prior.npz is not that of"),
        (threshold_edited, "conv-robust", "the manifest's decision is not that of"),
        (resized_otherwise, "conv-robust", "the manifest's preprocess is not that of"),
        (int8_scales_doubled, SHIPS_INT8, "int8 onnxruntime-cpu against PyTorch float32: "),
        (constant_map(-7.0), SHIPS_INT8, "detector-int8.onnx: anomaly_map differs from PyTorch float32: signal"),
        (constant_map(0.0), SHIPS_INT8, "detector-int8.onnx: anomaly_map differs from golden samples: signal"),
        (golden_of_another, "conv-robust", "differs from golden samples"),
        (opset_rewritten, "conv-robust", "encoder.onnx has opset 17, it was written with 18"),
    ],
)
def test_a_sabotaged_bundle_ends_verify_with_3_naming_the_cause(
    sabotage: Sabotage,
    run: str,
    cause: str,
    runs: dict[str, TrainedRun],
    exports: dict[str, Export],
    run_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if run == SHIPS_INT8:
        run = next(name for name in INT8 if "int8" in exports[name].bundle.precisions)
    sabotage(exports[run].bundle, runs, exports).write(tmp_path / "bad.aae")
    command = ["edge-aae", "verify", str(tmp_path / "bad.aae"), "--against", str(run_paths[run])]
    monkeypatch.setattr("sys.argv", [*command, "--worst", str(tmp_path / "worst"), "--backend", "onnxruntime-cpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert cause in capsys.readouterr().err.strip().splitlines()[-1]


def test_the_untouched_bundles_pass(
    exports: dict[str, Export],
    run_paths: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("conv-robust", "mlp"):
        command = ["edge-aae", "verify", str(exports[name].bundle.path), "--against", str(run_paths[name])]
        monkeypatch.setattr("sys.argv", [*command, "--backend", "onnxruntime-cpu"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capsys.readouterr().out


def test_the_worst_frame_of_a_failing_check_is_kept(
    runs: dict[str, TrainedRun],
    exports: dict[str, Export],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cv2

    scaled_by_256(exports["conv-robust"].bundle).write(tmp_path / "bad.aae")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["edge-aae", "verify", "bad.aae", "--precision", "fp32", "--backend", "onnxruntime-cpu"]
    )
    with pytest.raises(SystemExit):
        main()
    arrays = np.load(tmp_path / "parity-failure/fp32-onnxruntime-cpu.npz")
    assert {"input", "reference_anomaly_map", "actual_anomaly_map", "actual_criteria"} <= set(arrays)
    assert not np.allclose(arrays["reference_anomaly_map"], arrays["actual_anomaly_map"], atol=5e-5)
    picture = cv2.imread(str(tmp_path / "parity-failure/fp32-onnxruntime-cpu.png"))
    assert picture is not None
    assert picture.shape[:2] == (256, 4 * 256 + 3 * 8)
