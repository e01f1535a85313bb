"""A bundle is tried in a process of its own: a crash, a hang and too much memory are refusals, told in a sentence."""

from __future__ import annotations

import json
import resource
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BundleError, GateError
from edge_runtime.gate import trial as trial_module
from edge_runtime.gate.trial import Trial
from edge_runtime.model.preprocess import Preprocess
from tests.signing import key_of, signed


def test_a_good_bundle_passes(bundle_file: Path) -> None:
    Trial().of(bundle_file)


def test_the_child_tells_what_is_wrong_as_this_process_would(
    tmp_path: Path, make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes]
) -> None:
    (tmp_path / "x.aae").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"x\.aae is not a bundle: it is no zip archive"):
        Trial().of(tmp_path / "x.aae")
    wrong = make_bundle(Preprocess(height=8, width=8), detector_onnx=make_detector_onnx(8, 8, 1, error_scale=2.0))
    wrong.write(tmp_path / "x.aae")
    with pytest.raises(GateError, match="it fails the parity gate on this machine"):
        Trial().of(tmp_path / "x.aae")


def test_the_child_takes_signed_bundles_alone_where_a_signature_is_required(bundle_file: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(bundle_file, tmp_path / "model.aae"))
    key_of(tmp_path / "release")
    asked = Trial(require_signature=str(tmp_path / "release.pub"))
    with pytest.raises(BundleError, match=r"model\.aae is not signed"):
        asked.of(path)
    signed(path, tmp_path / "release")
    asked.of(path)
    assert asked.open(path).signed_by


def child_that(does: str) -> str:
    return f"import os, signal, sys, time; {does}"


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ends the process that opens it by signal 11"),
        ("os.abort()", "ends the process that opens it by signal 6"),
        ("sys.exit(7)", r"breaks the process that opens it \(status 7\)"),
        ("print('no JSON'); sys.exit(3)", r"breaks the process that opens it \(status 3\)"),
        ("time.sleep(60)", "takes more than 1 s to be verified"),
    ],
)
def test_a_child_that_crashes_or_hangs_is_a_refusal(
    bundle_file: Path, does: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_module, "START", child_that(does))
    begin = time.monotonic()
    with pytest.raises(BundleError, match=said):
        Trial(most_s=1.0 if "sleep" in does else 30.0).of(bundle_file)
    assert time.monotonic() - begin < 30.0


def greedy(n_values: int) -> bytes:
    """A detector whose latent comes out of so many zeros, which no file holds."""
    from onnx import ModelProto, TensorProto, helper, numpy_helper

    made = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
            helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
            helper.make_node("Add", ["zeros", "mean"], ["many"]),
            helper.make_node("ReduceSum", ["many"], ["criteria"], keepdims=0),
            helper.make_node("Identity", ["criteria"], ["latent"]),
            helper.make_node("Identity", ["criteria"], ["anomaly_map"]),
        ],
        "greedy",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 8, 8, 1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("criteria", "latent", "anomaly_map")],
        [numpy_helper.from_array(np.array([n_values]), "shape")],
    )
    model: ModelProto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def test_a_graph_that_takes_all_memory_is_a_refusal(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    make_bundle(detector_onnx=greedy(4_000_000_000)).write(tmp_path / "x.aae")
    with pytest.raises(Exception, match=r"onnxruntime|memory|signal"):
        Trial(most_memory_mb=3000).of(tmp_path / "x.aae")


def test_the_child_takes_its_modules_from_where_this_process_does(
    bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path)
    Trial().of(bundle_file)


def test_a_child_has_limits_of_memory_and_time_and_leaves_no_core(
    bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: dict[int, int] = {}
    allowed = {resource.RLIMIT_AS: 1000 << 20}
    monkeypatch.setattr("resource.getrlimit", lambda limit: (0, allowed.get(limit, resource.RLIM_INFINITY)))
    monkeypatch.setattr("resource.setrlimit", lambda limit, most: limits.update({limit: most[0]}))
    monkeypatch.setattr("sys.argv", ["", "", json.dumps({"path": str(bundle_file), "most_s": 2.0})])
    trial_module.main()
    assert limits == {resource.RLIMIT_CORE: 0, resource.RLIMIT_CPU: 8, resource.RLIMIT_AS: 1000 << 20}
