"""backend auto: what runs wins, what is faster wins, and every loser says why."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.backends import RawOutputs, choose_backend
from edge_runtime.errors import BackendError, MissingExtraError
from edge_runtime.scoring.detector import Detector

SHAPE = (8, 8, 1)


class Stub:
    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self._seconds = seconds

    def run(self, inputs: Any) -> RawOutputs:
        time.sleep(self._seconds)
        empty = np.zeros((1, 2), dtype=np.float32)
        return RawOutputs(empty, empty, empty)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a machine on which each named backend takes so many seconds, or raises this error."""

    def make(**backends: float | Exception) -> None:
        def open_backend(name: str, graph: bytes, **_: Any) -> Stub:
            found = backends.get(name.replace("-", "_"), MissingExtraError("not here"))
            if isinstance(found, Exception):
                raise found
            return Stub(name, found)

        monkeypatch.setattr("edge_runtime.backends.auto.open_backend", open_backend)

    return make


def chosen(refused: Callable[[str], str | None] = lambda name: None) -> tuple[str, dict[str, str]]:
    choice = choose_backend(b"", SHAPE, threads=1, precision="fp32", refused=refused)
    return choice.backend.name, choice.reasons


def test_a_gpu_that_runs_wins_over_the_cpu(machine: Callable[..., None]) -> None:
    machine(onnxruntime_cuda=0.005, onnxruntime_cpu=0.0)
    name, reasons = chosen()
    assert name == "onnxruntime-cuda"
    assert reasons == {
        "tensorrt": "not installed", "tensorrt_rtx": "not installed", "onnxruntime-cuda": "runs on the GPU",
    }  # fmt: skip


@pytest.mark.parametrize(("openvino", "onnxruntime"), [(0.001, 0.006), (0.006, 0.001)])
def test_on_the_cpu_the_faster_wins(machine: Callable[..., None], openvino: float, onnxruntime: float) -> None:
    machine(openvino=openvino, onnxruntime_cpu=onnxruntime)
    name, reasons = chosen()
    assert name == ("openvino" if openvino < onnxruntime else "onnxruntime-cpu")
    assert reasons["openvino"].endswith(" ms a frame")
    assert reasons["onnxruntime-cpu"].endswith(" ms a frame")


def test_one_that_failed_the_gate_is_not_used_however_fast(machine: Callable[..., None]) -> None:
    machine(openvino=0.0, onnxruntime_cpu=0.005)
    name, reasons = chosen(lambda name: "failed the parity gate: 3 flips" if name == "openvino" else None)
    assert name == "onnxruntime-cpu"
    assert reasons["openvino"] == "failed the parity gate: 3 flips"
    assert reasons["onnxruntime-cpu"] == "the only one that runs"


def test_where_none_runs_each_says_why(machine: Callable[..., None]) -> None:
    machine(tensorrt=BackendError("no GPU"), openvino=BackendError("too old"))
    with pytest.raises(BackendError, match=r"no backend runs .* tensorrt: no GPU; .*openvino: too old"):
        chosen()


def test_auto_on_this_machine_says_which_won_and_scores_the_same(
    bundle_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    with caplog.at_level(logging.INFO):
        automatic = Detector.load(bundle_file, backend="auto", threads=1)
    assert f"backend auto takes {automatic.backend.name} (tensorrt: " in caplog.text
    plain = Detector.load(bundle_file, threads=1)
    assert automatic.score(frame).score == pytest.approx(plain.score(frame).score, abs=1e-4)
