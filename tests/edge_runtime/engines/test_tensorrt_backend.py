"""The TensorRT backend's order of calls, shapes and errors, on stand-ins: it needs a GPU to run for real."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.backends.tensorrt import TensorRT
from edge_runtime.errors import BackendError, ConfigError

TENSORS: dict[str, tuple[tuple[int, ...], type]] = {
    "frame": ((1, 4, 5, 1), np.uint8),
    "criteria": ((1, 2), np.float32),
    "latent": ((1, 3), np.float32),
    "anomaly_map": ((1, 4, 5), np.float32),
}


class Cuda:
    """Memory on the host alone, and a list of what was asked for. A copy to the device copies; the engine sums."""

    def __init__(self, capture_fails: bool = False) -> None:
        self.calls: list[str] = []
        self.memory: dict[int, Any] = {}
        self.capture_fails = capture_fails

    def _new(self, n_bytes: int) -> int:
        array = np.zeros(n_bytes, dtype=np.uint8)
        self.memory[array.ctypes.data] = array
        return int(array.ctypes.data)

    def new_stream(self) -> int:
        return 7

    def new_pinned_memory(self, n_bytes: int) -> int:
        return self._new(n_bytes)

    def new_device_memory(self, n_bytes: int) -> int:
        return self._new(n_bytes)

    def new_mapped_memory(self, n_bytes: int) -> tuple[int, int]:
        address = self._new(n_bytes)
        return address, address

    def copy_to_device(self, device: int, host: int, n_bytes: int, stream: int) -> None:
        self.calls.append("to device")
        self.memory[device][:n_bytes] = self.memory[host][:n_bytes]

    def copy_to_host(self, host: int, device: int, n_bytes: int, stream: int) -> None:
        self.calls.append("to host")
        self.memory[host][:n_bytes] = self.memory[device][:n_bytes]

    def synchronize(self, stream: int) -> None:
        self.calls.append("wait")

    def capture(self, stream: int, queue_work: Callable[[], None]) -> Callable[[], None]:
        self.calls.append("capture")
        if self.capture_fails:
            raise BackendError("not permitted")
        return queue_work

    def launch(self, graph: Callable[[], None], stream: int) -> None:
        self.calls.append("launch")
        graph()

    def free_device(self, address: int) -> None:
        del self.memory[address]

    def free_host(self, address: int) -> None:
        del self.memory[address]

    def destroy_stream(self, stream: int) -> None:
        self.calls.append("stream gone")

    def destroy_graph(self, graph: Callable[[], None]) -> None:
        self.calls.append("graph gone")


def flavour_of(cuda: Cuda, tensors: dict[str, tuple[tuple[int, ...], type]] = TENSORS, loads: bool = True) -> Any:
    """A TensorRT whose engine writes the frame's sum into every output."""
    addresses: dict[str, int] = {}

    def execute(stream: int) -> bool:
        cuda.calls.append("execute")
        total = float(cuda.memory[addresses["frame"]].sum())
        for name, (shape, dtype) in tensors.items():
            if name != "frame":
                values = np.full(shape, total, dtype=dtype)
                cuda.memory[addresses[name]][: values.nbytes] = values.view(np.uint8).reshape(-1)
        return True

    def set_address(name: str, address: int) -> bool:
        addresses[name] = address
        return True

    names = list(tensors)
    engine = SimpleNamespace(
        num_io_tensors=len(names),
        get_tensor_name=names.__getitem__,
        get_tensor_shape=lambda name: tensors[name][0],
        get_tensor_dtype=lambda name: tensors[name][1],
        get_tensor_mode=lambda name: "in" if name == "frame" else "out",
        create_execution_context=lambda: SimpleNamespace(set_tensor_address=set_address, execute_async_v3=execute),
    )
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda content: engine if loads else None)
    trt = SimpleNamespace(
        Runtime=lambda log: runtime, TensorIOMode=SimpleNamespace(INPUT="in"), nptype=lambda dtype: dtype
    )
    log = SimpleNamespace(adapter=None, reasons=lambda: "a reason")
    return SimpleNamespace(name="tensorrt", title="TensorRT 10.3", trt=trt, log=lambda: log)


@pytest.mark.parametrize("io", ["copy", "mapped"])
def test_a_frame_goes_through_one_graph_and_outputs_stay(io: Any) -> None:
    cuda = Cuda()
    with TensorRT(b"engine", flavour_of(cuda), io=io, cuda=cuda) as backend:  # type: ignore[arg-type]
        cuda.calls.clear()
        first = backend.run(np.full((1, 4, 5, 1), 2, dtype=np.uint8))
        second = backend.run(np.full((1, 4, 5, 1), 3, dtype=np.uint8))
        assert first.criteria.tolist() == [[40.0, 40.0]]
        assert second.criteria.tolist() == [[60.0, 60.0]]
        assert first.anomaly_map.shape == (1, 4, 5)
        assert first.latent.shape == (1, 3)
        copied = ["launch", "to device", "execute", "to host", "to host", "to host", "wait"]
        assert cuda.calls == (copied if io == "copy" else ["launch", "execute", "wait"]) * 2
    assert cuda.memory == {}
    assert cuda.calls[-2:] == ["graph gone", "stream gone"]


def test_it_warms_up_before_it_captures_and_goes_on_where_no_graph_can_be(caplog: pytest.LogCaptureFixture) -> None:
    cuda = Cuda(capture_fails=True)
    with TensorRT(b"engine", flavour_of(cuda), cuda=cuda) as backend:  # type: ignore[arg-type]
        assert cuda.calls.index("capture") > cuda.calls.index("execute")
        assert backend.run(np.ones((1, 4, 5, 1), dtype=np.uint8)).latent.tolist() == [[20.0] * 3]
    assert "runs without a CUDA graph" in caplog.text
    assert "launch" not in cuda.calls


def test_what_does_not_fit_is_refused_and_gives_its_memory_back() -> None:
    cuda = Cuda()
    with pytest.raises(BackendError, match=r"TensorRT 10.3 cannot load the engine: a reason; build it again"):
        TensorRT(b"engine", flavour_of(cuda, loads=False), cuda=cuda)  # type: ignore[arg-type]
    dynamic = {**TENSORS, "frame": ((-1, 4, 5, 1), np.uint8)}
    with pytest.raises(BackendError, match=r"frame has the dynamic shape \(-1, 4, 5, 1\)"):
        TensorRT(b"engine", flavour_of(cuda, dynamic), cuda=cuda)  # type: ignore[arg-type]
    lacking = {name: facts for name, facts in TENSORS.items() if name != "latent"}
    with pytest.raises(BackendError, match="detector gives"):
        TensorRT(b"engine", flavour_of(cuda, lacking), cuda=cuda)  # type: ignore[arg-type]
    assert cuda.memory == {}
    with pytest.raises(ConfigError, match="io is 'zero', expected copy or mapped"):
        TensorRT(b"engine", flavour_of(cuda), io="zero", cuda=cuda)  # type: ignore[arg-type]
    backend = TensorRT(b"engine", flavour_of(cuda), cuda=cuda)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match=r"input is \(1, 4, 4, 1\) uint8, expected \(1, 4, 5, 1\)"):
        backend.run(np.zeros((1, 4, 4, 1), dtype=np.uint8))
    backend.close()
