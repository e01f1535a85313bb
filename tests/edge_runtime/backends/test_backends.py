"""The CPU backend: the graph's own numbers, or an error that says what does not fit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np
import pytest

from edge_runtime.backends import OnnxRuntimeCpu, onnx_session, onnxruntime_cuda, open_backend
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError, ConfigError, MissingExtraError

FLOAT32_RTOL = 1e-5
"""Sums of 64 float32 values in another order."""


def test_a_graph_gives_its_three_outputs(bundle: Bundle) -> None:
    inputs = np.zeros((1, 8, 8, 1), dtype=np.uint8)
    inputs[:, :, :4] = 255
    inputs[0, 0, 0, 0] = 0  # one of 32 pixels: the left half's mean is 31/32
    raw = OnnxRuntimeCpu(bundle.files["detector.onnx"]).run(inputs)
    np.testing.assert_allclose(raw.latent, [[31 / 64, 31 / 32]], rtol=FLOAT32_RTOL)
    # left half: 31 pixels off by 1/32 and one by 31/32
    error = (31 * (1 / 32) ** 2 + (31 / 32) ** 2) ** 0.5
    density = 0.5 * ((31 / 64) ** 2 + (31 / 32) ** 2) + np.log(2 * np.pi)
    np.testing.assert_allclose(raw.criteria, [[error, density]], rtol=FLOAT32_RTOL)
    assert raw.anomaly_map.shape == (1, 8, 8)
    assert raw.anomaly_map[0, 0, 0] == pytest.approx((31 / 32) ** 2, rel=FLOAT32_RTOL)
    assert raw.anomaly_map[0, :, 4:].max() == pytest.approx(0.0, abs=1e-12)
    assert {raw.criteria.dtype, raw.latent.dtype, raw.anomaly_map.dtype} == {np.dtype(np.float32)}


def test_bytes_that_are_no_graph_are_refused() -> None:
    with pytest.raises(BackendError, match=r"onnxruntime cannot load the graph: .*; export the bundle again"):
        OnnxRuntimeCpu(b"not a graph")


def test_a_graph_with_other_outputs_is_refused_with_both(bundle: Bundle) -> None:
    with pytest.raises(
        BackendError,
        match=r"detector gives \['latent'\], expected \['criteria', 'latent', 'anomaly_map'\]; export the bundle",
    ):
        OnnxRuntimeCpu(bundle.files["encoder.onnx"])


@pytest.mark.parametrize("shape", [(1, 8, 9, 1), (2, 8, 8, 1), (8, 8, 1)])
def test_an_input_of_another_shape_is_a_backend_error(bundle: Bundle, shape: tuple[int, ...]) -> None:
    backend = OnnxRuntimeCpu(bundle.files["detector.onnx"])
    with pytest.raises(BackendError, match="onnxruntime failed: "):
        backend.run(np.zeros(shape, dtype=np.uint8))


def test_a_negative_number_of_threads_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=r"--threads is -1, expected 0 \(all cores\) or more"):
        OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=-1)


def test_threads_are_what_was_asked_for(bundle: Bundle) -> None:
    options = onnx_session(bundle.files["detector.onnx"], threads=3).get_session_options()
    assert options.intra_op_num_threads == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_zero_threads_are_the_cores_this_process_may_use(bundle: Bundle) -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        options = onnx_session(bundle.files["detector.onnx"]).get_session_options()
    finally:
        os.sched_setaffinity(0, allowed)
    assert options.intra_op_num_threads == 1


def test_a_silent_fallback_to_another_provider_is_an_error(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession.get_providers", lambda self: ["AzureExecutionProvider"])
    with pytest.raises(BackendError, match="asked onnxruntime for CPUExecutionProvider, it would run AzureExecution"):
        onnx_session(bundle.files["detector.onnx"])


def test_without_onnxruntime_the_extra_to_install_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'runs on the CPU need onnxruntime: pip install "edge-aae\[cpu\]"'):
        onnx_session(bundle.files["detector.onnx"])


def test_the_graph_starts_with_the_cast_that_tensorrt_needs(make_detector_onnx: Callable[..., bytes]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(make_detector_onnx(6, 8, 3))
    assert model.graph.node[0].op_type == "Cast"
    assert model.opset_import[0].version == 18
    assert model.ir_version == 10


def test_a_gpu_provider_where_there_is_none_is_an_error_and_not_the_cpu(bundle: Bundle) -> None:
    import onnxruntime

    provider = "CUDAExecutionProvider"
    if provider in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime may have a GPU")
    says = (
        rf"asked onnxruntime for {provider}, it would run CPUExecutionProvider; .*\[gpu\].*; --backend onnxruntime-cpu"
    )
    with pytest.raises(BackendError, match=says):
        open_backend("onnxruntime-cuda", bundle.files["detector.onnx"])


def test_cuda_runs_once_before_it_is_trusted(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    session = onnx_session(bundle.files["detector.onnx"])
    monkeypatch.setattr(onnxruntime_cuda, "onnx_session", lambda graph, provider, needs: session)
    inputs = np.full((1, 8, 8, 1), 9, dtype=np.uint8)
    expected = OnnxRuntimeCpu(bundle.files["detector.onnx"]).run(inputs)
    np.testing.assert_array_equal(onnxruntime_cuda.OnnxRuntimeCuda(b"").run(inputs).criteria, expected.criteria)
    fails = BackendError("onnxruntime failed: no kernel image is available")

    def refuse(*arguments: object) -> None:
        raise fails

    monkeypatch.setattr(onnxruntime_cuda, "run_session", refuse)
    with pytest.raises(BackendError, match="no kernel image"):
        onnxruntime_cuda.OnnxRuntimeCuda(b"")
