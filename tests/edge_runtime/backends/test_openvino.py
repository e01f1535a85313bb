"""OpenVINO: the same numbers as onnxruntime, in the precision that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.backends import BACKENDS, OnnxRuntimeCpu, open_backend, present_backends
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError, ConfigError, MissingExtraError

INPUTS = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def openvino() -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")


@pytest.mark.usefixtures("openvino")
def test_outputs_are_those_of_onnxruntime_and_stay_when_the_next_run_comes(bundle: Bundle) -> None:
    graph = bundle.files["detector.onnx"]
    reference, backend = OnnxRuntimeCpu(graph), open_backend("openvino", graph, threads=1)
    assert backend.name == "openvino"
    found = [backend.run(inputs) for inputs in INPUTS]
    for inputs, raw in zip(INPUTS, found, strict=True):
        expected = reference.run(inputs)
        for name in ("criteria", "latent", "anomaly_map"):
            np.testing.assert_allclose(getattr(raw, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
            assert getattr(raw, name).dtype == np.float32


@pytest.mark.usefixtures("openvino")
def test_a_graph_that_is_none_and_one_with_other_outputs_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BackendError, match="OpenVINO cannot load the graph"):
        open_backend("openvino", b"no graph")
    with pytest.raises(BackendError, match=r"detector gives \['latent'\], expected"):
        open_backend("openvino", bundle.files["encoder.onnx"])
    with pytest.raises(ConfigError, match="--threads is -1"):
        open_backend("openvino", bundle.files["detector.onnx"], threads=-1)
    with pytest.raises(BackendError, match="OpenVINO failed"):
        open_backend("openvino", bundle.files["detector.onnx"]).run(np.zeros((1, 9, 8, 1), np.uint8))


def test_an_unknown_backend_is_refused_with_those_that_there_are(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"--backend is tpu, expected one of onnxruntime-cpu, openvino"):
        open_backend("tpu", bundle.files["detector.onnx"])


def test_a_missing_package_names_its_extra(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r'pip install "edge-aae\[openvino\]"'):
        open_backend("openvino", bundle.files["detector.onnx"])


def test_present_backends_are_known_ones_and_onnxruntime_is_first() -> None:
    assert present_backends()[0] == "onnxruntime-cpu"
    assert set(present_backends()) <= set(BACKENDS)


@pytest.mark.usefixtures("openvino")
def test_another_precision_than_asked_for_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import openvino

    class Type:
        def get_type_name(self) -> str:
            return "bf16"

    monkeypatch.setattr(openvino.CompiledModel, "get_property", lambda self, name: Type())
    with pytest.raises(BackendError, match="asked OpenVINO to compute in f32, it would use bf16"):
        open_backend("openvino", bundle.files["detector.onnx"])
