"""The patch network's graphs: agreement with PyTorch, TensorRT-RTX as the judge, and a bundle made of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.backends import onnx_session, run_session
from edge_runtime.preprocess import Preprocess
from edge_runtime.prior import FullNormal
from export.graphs import DetectorGraph, export_graphs, export_half_detector
from export.quantize import body_layers, quantized
from tests.export.conftest import rtx_engine_bytes
from train.patch_network import PatchNetwork

PREPROCESS = Preprocess(height=64, width=96, fit="tile", overlap=16, self_reference="row_column")


@pytest.fixture(scope="module")
def network() -> PatchNetwork:
    torch.manual_seed(0)
    return PatchNetwork(channels=4, height=64, width=96, latent_dim=4, factor=0.5).eval()


@pytest.fixture(scope="module")
def prior() -> FullNormal:
    return FullNormal(np.full(4, 0.1, np.float32), (1.5 * np.eye(4)).astype(np.float32))


@pytest.fixture(scope="module")
def graphs(network: PatchNetwork, prior: FullNormal) -> dict[str, bytes]:
    half = export_half_detector(network, prior, PREPROCESS)
    return {**export_graphs(network, prior, PREPROCESS, batch=4), "detector-fp16.onnx": half}


def test_the_detector_gives_what_pytorch_gives(
    graphs: dict[str, bytes], network: PatchNetwork, prior: FullNormal
) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 64, 96, 4)).astype(np.uint8)
    frames[..., 3] = 255
    frames[1, 40:, :, 3] = 0
    for frame in frames:
        outputs = run_session(onnx_session(graphs["detector.onnx"]), {"frame": frame[None]})
        with torch.inference_mode():
            expected = DetectorGraph(network, prior)(torch.from_numpy(frame[None]))
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
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graphs["detector.onnx"]))
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in model.graph.value_info
    }
    sorted_sizes = [sizes[node.input[0]][-1] for node in model.graph.node if node.op_type == "TopK"]
    assert len(sorted_sizes) == 7, "the map's tops, surprise and dissimilarity"
    assert max(sorted_sizes) <= 3840


def test_a_run_of_textures_becomes_a_bundle_that_scores_frames_of_any_size(tmp_path: Path) -> None:
    import cv2

    from edge_runtime.detector import Detector
    from export.bundling import export_bundle
    from train.data import DataSettings
    from train.robust_settings import RobustSettings
    from train.run_scorer import RunScorer
    from train.session import train
    from train.settings import Schedule, TrainSettings

    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for index in range(18):
        image = rng.normal(120, 10, 150) + rng.normal(0, 4, (130 + index, 150))
        cv2.imwrite(str(tmp_path / "good" / f"{index:02}.png"), image.clip(0, 255).astype(np.uint8))
    settings = TrainSettings(
        network="patch",
        refine="robust",
        latent_dim=4,
        width=0.5,
        schedule=Schedule(train=2, refine=1),
        batch_size=8,
        robust=RobustSettings(folds=2),
    )
    train(DataSettings(path=str(tmp_path / "good"), imgsz=(64, 64)), settings, tmp_path / "run", announce=False)
    exported = export_bundle(tmp_path / "run", tmp_path / "model.aae")
    # Three epochs on eighteen photographs give hardly any spread to measure scores in: what fails has its reason.
    assert {*exported.bundle.precisions, *exported.refused} == {"fp32", "fp16", "int8"}
    assert "INT8 needs 16 or more" in exported.refused["int8"]
    detector = Detector.load(tmp_path / "model.aae", threads=1)
    frame = rng.integers(0, 256, (310, 200)).astype(np.uint8)
    result = detector.score(frame)
    assert len(result.tiling) > 4
    assert detector.heatmap(result, frame.shape).shape == frame.shape
    assert result.score == pytest.approx(RunScorer(tmp_path / "run").score(frame).score, rel=1e-3)
