"""The patch network's graphs: agreement with PyTorch, TensorRT-RTX as the judge, and a bundle made of a run."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
import torch

from edge_runtime.backends import onnx_session, run_session
from edge_runtime.scoring.detector import Detector
from export.bundling import Export, ExportRequest, export_bundle
from export.graphs import DetectorGraph
from export.quantize import body_layers, quantized
from tests.export.conftest import rtx_engine_bytes
from train.data.settings import DataSettings
from train.evaluation.run_scorer import RunScorer
from train.learning.settings import TrainSettings
from train.refinement.settings import RobustSettings
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.session import train
from train.schedule import Schedule


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """A run of three epochs on eighteen textures, exported in all precisions; `run` beside its bundle."""
    folder = tmp_path_factory.mktemp("textures")
    rng = np.random.default_rng(0)
    (folder / "good").mkdir()
    for index in range(18):
        image = rng.normal(120, 10, 150) + rng.normal(0, 4, (130 + index, 150))
        cv2.imwrite(str(folder / "good" / f"{index:02}.png"), image.clip(0, 255).astype(np.uint8))
    settings = TrainSettings(
        network="patch",
        refine="robust",
        latent_dim=4,
        width=0.5,
        schedule=Schedule(train=2, refine=1),
        batch_size=8,
        robust=RobustSettings(folds=2),
    )
    train(DataSettings(path=str(folder / "good"), imgsz=(64, 96)), settings, folder / "run", announce=False)
    # Three epochs on eighteen photographs give hardly any spread to measure scores in: fp16 may fail, and is wanted.
    return export_bundle(folder / "run", folder / "model.aae", ExportRequest(batch=4, allow_failing=True))


@pytest.fixture(scope="module")
def run(exported: Export) -> TrainedRun:
    return RunFolder(exported.bundle.path.with_name("run")).load()


@pytest.fixture(scope="module")
def graphs(exported: Export) -> dict[str, bytes]:
    return {name: content for name, content in exported.bundle.files.items() if name.endswith(".onnx")}


def test_the_detector_gives_what_pytorch_gives(graphs: dict[str, bytes], run: TrainedRun) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 64, 96, 4)).astype(np.uint8)
    frames[..., 3] = 255
    frames[1, 40:, :, 3] = 0
    for frame in frames:
        outputs = run_session(onnx_session(graphs["detector.onnx"]), {"frame": frame[None]})
        with torch.inference_mode():
            expected = DetectorGraph(run.autoencoder, run.prior)(torch.from_numpy(frame[None]))
        for output, reference in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output, reference.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "graph", ["encoder.onnx", "decoder.onnx", "detector.onnx", "detector-batch.onnx", "detector-fp16.onnx"]
)
def test_tensorrt_rtx_parses_and_builds_the_graph(graphs: dict[str, bytes], graph: str) -> None:
    assert rtx_engine_bytes(graphs[graph]) > 1000


def test_tensorrt_rtx_builds_the_int8_graph(graphs: dict[str, bytes]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 64, 96, 4)).astype(np.uint8)
    graph = graphs["detector.onnx"]
    layers = body_layers(graph)
    assert len(layers) == 16, "of seventeen convolutions with weights all but the first"
    assert rtx_engine_bytes(quantized(graph, frames, layers)) > 1000


def test_no_graph_sorts_more_than_tensorrt_takes(graphs: dict[str, bytes]) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs["detector.onnx"]))
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.value_info
    }
    sorted_sizes = [sizes[node.input[0]][-1] for node in model.graph.node if node.op_type == "TopK"]
    assert len(sorted_sizes) == 7, "the map's tops, surprise and dissimilarity"
    assert max(sorted_sizes) <= 3840


def test_a_run_of_textures_becomes_a_bundle_that_scores_frames_of_any_size(exported: Export) -> None:
    bundle = exported.bundle
    assert {*bundle.precisions, *exported.refused} == {"fp32", "fp16", "int8"}
    assert "training images, expected 16 or more to calibrate on" in exported.refused["int8"]
    detector = Detector.load(bundle.path, threads=1)
    frame = np.random.default_rng(0).integers(0, 256, (310, 200)).astype(np.uint8)
    result = detector.score(frame)
    assert len(result.tiling) > 4
    assert result.heatmap(frame.shape).shape == frame.shape
    expected = RunScorer(bundle.path.with_name("run")).score(frame)
    assert result.score == pytest.approx(expected.score, rel=1e-3)
