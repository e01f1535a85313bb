"""Optional dependencies: imported where they are there, and named with their extra where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import EdgeAaeError, MissingExtraError
from edge_runtime.extras import require


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Puts a module with this source on the import path, until the test ends."""
    monkeypatch.syspath_prepend(str(tmp_path))
    installed: list[str] = []

    def install_module(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        installed.append(name)

    yield install_module
    for name in installed:
        sys.modules.pop(name, None)


def test_an_installed_module_is_imported_and_given(install: Callable[[str, str], None]) -> None:
    install("fast_engine", "runs = 'on this machine'")
    module = require("fast_engine", extra="gpu", purpose="fast runs")
    assert module is sys.modules["fast_engine"]
    assert module.runs == "on this machine"


def test_a_dotted_name_gives_the_inner_module() -> None:
    assert require("os.path", extra="cpu", purpose="paths") is os.path


@pytest.mark.parametrize("module", ["no_such_engine", "no_such_engine.runtime", "json.no_such_part"])
def test_a_missing_module_is_named_with_purpose_extra_and_cause(module: str) -> None:
    with pytest.raises(MissingExtraError) as caught:
        require(module, extra="tensorrt", purpose="TensorRT runs")
    cause = caught.value.__cause__
    assert isinstance(cause, ModuleNotFoundError)
    assert str(cause).startswith("No module named")
    assert (
        str(caught.value)
        == f'TensorRT runs need {module}: pip install "edge-aae[tensorrt]" (import failed with: {cause})'
    )


def test_the_error_is_ours_and_an_import_error() -> None:
    with pytest.raises(ImportError, match="need no_such_engine") as caught:
        require("no_such_engine", extra="cpu", purpose="runs")
    assert isinstance(caught.value, EdgeAaeError)
    assert caught.value.exit_code == 1


def test_an_installed_module_that_lacks_a_library_says_which(install: Callable[[str, str], None]) -> None:
    # As cv2 with windows does in a container without X.
    install("window_vision", "raise ImportError('libGL.so.1: cannot open shared object file')")
    with pytest.raises(
        MissingExtraError,
        match=r'heatmaps need window_vision: pip install "edge-aae\[camera\]" \(import failed with: libGL\.so\.1: ',
    ):
        require("window_vision", extra="camera", purpose="heatmaps")


def test_an_installed_module_that_lacks_another_says_which(install: Callable[[str, str], None]) -> None:
    install("half_installed", "import no_such_dependency")
    with pytest.raises(MissingExtraError, match=r"need half_installed: .* No module named 'no_such_dependency'"):
        require("half_installed", extra="train", purpose="training runs")


def test_a_module_that_breaks_is_not_called_missing(install: Callable[[str, str], None]) -> None:
    install("broken_engine", "raise RuntimeError('driver too old')")
    with pytest.raises(RuntimeError, match="driver too old"):
        require("broken_engine", extra="gpu", purpose="fast runs")


def test_a_module_installed_after_a_failure_is_found(install: Callable[[str, str], None]) -> None:
    with pytest.raises(MissingExtraError, match="need late_engine"):
        require("late_engine", extra="gpu", purpose="fast runs")
    install("late_engine", "")
    assert require("late_engine", extra="gpu", purpose="fast runs").__name__ == "late_engine"


def test_onnxruntime_is_told_to_send_nothing_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    require("os.path", extra="cpu", purpose="paths")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    require("os.path", extra="cpu", purpose="paths")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"


def test_importing_openvino_sends_nothing_and_forks_nothing() -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed")
    code = (
        "import socket, os\n"
        "def refuse(*_): raise SystemExit('asked for the network, or forked')\n"
        "socket.socket.connect = socket.getaddrinfo = os.fork = refuse\n"
        "from edge_runtime.extras import require\n"
        "ov = require('openvino', extra='openvino', purpose='runs')\n"
        "ov.Core()\n"
        "import sys, threading\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
        "print([thread.name for thread in threading.enumerate()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "['MainThread']"), done.stderr
