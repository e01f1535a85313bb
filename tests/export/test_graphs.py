"""The exported graphs: rules of DESIGN's export section, agreement with PyTorch, and TensorRT-RTX as the judge."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from edge_runtime.backends import onnx_session, run_session
from edge_runtime.model.prior import NormalMixture
from edge_runtime.model.score import CRITERIA
from export.graphs import OPSET, DetectorGraph, ExportError, _check, graph_facts
from tests.export.conftest import RUNS, rtx_engine_bytes
from train.runs.run_folder import TrainedRun

Graphs = dict[str, dict[str, bytes]]
GRAPH_NAMES = ("encoder.onnx", "decoder.onnx", "detector.onnx", "detector-batch.onnx", "detector-fp16.onnx")
DETECTORS = ("detector.onnx", "detector-batch.onnx", "detector-fp16.onnx")


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("graph", GRAPH_NAMES)
def test_the_written_opset_is_18_and_weights_are_inside(graphs: Graphs, name: str, graph: str) -> None:
    model = onnx.load_from_string(graphs[name][graph])
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert all(item.data_location != onnx.TensorProto.EXTERNAL for item in model.graph.initializer)
    assert sum(item.dims != [] for item in model.graph.initializer) > 2


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("graph", DETECTORS)
def test_the_detector_takes_uint8_frames_and_casts_first(graphs: Graphs, name: str, graph: str) -> None:
    model = onnx.load_from_string(graphs[name][graph])
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert model.graph.node[0].op_type == "Cast"
    assert list(model.graph.node[0].input) == ["frame"]


def test_facts_name_inputs_and_outputs_with_shapes(graphs: Graphs) -> None:
    facts = graph_facts(graphs["conv"]["detector.onnx"])
    assert facts["opset"] == 18
    assert facts["precision"] == "fp32"
    assert facts["inputs"] == [{"name": "frame", "shape": [1, 32, 48, 1], "dtype": "uint8"}]
    assert facts["outputs"] == [
        {"name": "criteria", "shape": [1, 2], "dtype": "float32"},
        {"name": "latent", "shape": [1, 8], "dtype": "float32"},
        {"name": "anomaly_map", "shape": [1, 32, 48], "dtype": "float32"},
    ]
    encoder = graph_facts(graphs["conv"]["encoder.onnx"])
    assert encoder["inputs"] == [{"name": "x", "shape": ["batch", 1, 32, 48], "dtype": "float32"}]
    assert encoder["outputs"] == [{"name": "latent", "shape": ["batch", 8], "dtype": "float32"}]


@pytest.mark.parametrize("graph", GRAPH_NAMES)
def test_a_graph_carries_criteria_names_and_no_path_of_the_exporting_machine(graphs: Graphs, graph: str) -> None:
    content = graphs["mlp"][graph]
    model = onnx.load_from_string(content)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["criteria"] == ",".join(CRITERIA)
    assert properties["schema_version"] == "1"
    assert len(properties["model_id"]) == 16
    assert b".py" not in content
    assert b"/train/" not in content


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("batch", [1, 3])
def test_encoder_and_decoder_take_any_batch(graphs: Graphs, runs: dict[str, TrainedRun], name: str, batch: int) -> None:
    run = runs[name]
    height, width, channels = run.config.preprocess.input_shape
    x = np.random.default_rng(1).random((batch, channels, height, width), dtype=np.float32)
    (latent,) = run_session(onnx_session(graphs[name]["encoder.onnx"]), {"x": x})
    (x_hat,) = run_session(onnx_session(graphs[name]["decoder.onnx"]), {"z": latent})
    with torch.inference_mode():
        z, reconstruction = run.autoencoder(torch.from_numpy(x))
    np.testing.assert_allclose(latent, z.numpy(), atol=1e-5)
    np.testing.assert_allclose(x_hat, reconstruction.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in RUNS if "hog" not in name])
def test_score_is_the_same_in_numpy_torch_and_onnx(graphs: Graphs, runs: dict[str, TrainedRun], name: str) -> None:
    run = runs[name]
    frame = run.sample_inputs[:1]
    onnx_criteria, latent, anomaly_map = run_session(onnx_session(graphs[name]["detector.onnx"]), {"frame": frame})
    with torch.inference_mode():
        torch_criteria, _, _ = DetectorGraph(run.autoencoder, run.prior)(torch.from_numpy(frame))
        x_hat = run.autoencoder.decoder(torch.from_numpy(latent)).numpy().astype(np.float64)
    # The reference by hand, in float64, from the code alone.
    x = frame.transpose(0, 3, 1, 2).astype(np.float64) / 255.0
    error = np.sqrt(((x - x_hat) ** 2).sum())
    if name == "conv-mixture":
        assert isinstance(run.prior, NormalMixture)
        expected = run.prior.neg_log_density(latent.astype(np.float64))[0]
    elif name == "conv-robust":
        mean, whitening = (array.astype(np.float64) for array in (run.prior.mean, run.prior.whitening))
        white = (latent - mean) @ whitening
        volume = np.log(abs(np.linalg.det(whitening)))
    else:
        white, volume = latent.astype(np.float64), 0.0
    if name != "conv-mixture":
        expected = 0.5 * (white**2).sum() + 0.5 * latent.shape[1] * np.log(2 * np.pi) - volume
    np.testing.assert_allclose(onnx_criteria[0], [error, expected], rtol=1e-4)
    np.testing.assert_allclose(torch_criteria.numpy()[0], [error, expected], rtol=1e-4)
    np.testing.assert_allclose(anomaly_map[0], ((x - x_hat) ** 2)[0].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("name", ["hog", "hog-colour"])
def test_the_hog_detectors_criteria_are_those_of_pytorch(
    graphs: Graphs, runs: dict[str, TrainedRun], name: str
) -> None:
    run = runs[name]
    model = onnx.load_from_string(graphs[name]["detector.onnx"])
    assert {entry.key: entry.value for entry in model.metadata_props}["criteria"] == ",".join(run.autoencoder.criteria)
    frame = run.sample_inputs[:1]
    criteria, latent, anomaly_map = run_session(onnx_session(graphs[name]["detector.onnx"]), {"frame": frame})
    with torch.inference_mode():
        expected = DetectorGraph(run.autoencoder.double(), run.prior)(torch.from_numpy(frame))
        run.autoencoder.float()
    np.testing.assert_allclose(criteria, expected.criteria.numpy(), rtol=2e-4, atol=1e-4)
    np.testing.assert_allclose(anomaly_map, expected.anomaly_map.numpy(), atol=1e-5)
    assert criteria.shape == (1, 5)
    if name == "hog":
        with torch.inference_mode():
            x_hat = run.autoencoder.decoder(torch.from_numpy(latent)).numpy()
        x = frame.transpose(0, 3, 1, 2) / 255.0
        assert criteria[0, 0] == pytest.approx(np.sqrt(((x - x_hat) ** 2).sum()), rel=1e-4)


def test_a_detector_that_does_not_cast_first_is_refused(graphs: Graphs) -> None:
    model = onnx.load_from_string(graphs["mlp"]["detector.onnx"])
    model.graph.node.insert(0, onnx.helper.make_node("Identity", ["frame"], ["unused"]))
    with pytest.raises(ExportError, match="first node is Identity, TensorRT needs Cast"):
        _check(model, ["criteria", "latent", "anomaly_map"])


def test_another_opset_than_asked_for_is_refused(graphs: Graphs) -> None:
    model = onnx.load_from_string(graphs["mlp"]["decoder.onnx"])
    model.opset_import[0].version = 19
    with pytest.raises(ExportError, match="wrote opset 19, asked for 18"):
        _check(model, ["x_hat"])


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("graph", GRAPH_NAMES)
def test_tensorrt_rtx_parses_and_builds_the_graph(graphs: Graphs, name: str, graph: str) -> None:
    assert rtx_engine_bytes(graphs[name][graph]) > 1000


@pytest.mark.parametrize("name", RUNS)
def test_a_batch_gives_what_single_frames_give(graphs: Graphs, runs: dict[str, TrainedRun], name: str) -> None:
    frames = runs[name].sample_inputs[:3]
    together = run_session(onnx_session(graphs[name]["detector-batch.onnx"]), {"frame": frames})
    alone = onnx_session(graphs[name]["detector.onnx"])
    for index, frame in enumerate(frames):
        for output, expected in zip(together, run_session(alone, {"frame": frame[None]}), strict=True):
            np.testing.assert_allclose(output[index], expected[0], rtol=1e-4, atol=5e-4)
