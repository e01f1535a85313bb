"""What every test folder shares: a small real bundle without torch, a camera that is not there, and the suite's rules.

Tests run side by side in processes of pytest-xdist, a file in one of them; what takes long is made once for all
(made_once). No test may leave a process behind.

The bundle's autoencoder can be worked by hand. Its code of an image is z0, the mean of its left and right half's
means, and z1, left minus right; its reconstruction gives each half its mean.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime import redact
from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import CRITERIA, Decision, Limit, UnionRule
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources import CameraSource
from edge_runtime.systems.locks import lock

# Networks this small gain nothing from more threads, and lose a lot where tests share their cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TOGETHER = ("tests/export/",)
"""Folders whose fixtures take so long that all their tests run in one process."""

LEFT_BEHIND_S = 5.0
"""How long a process that is ending may take."""

OPSET = 18
IR_VERSION = 10
LATENT_DIM = 2


def pytest_configure() -> None:
    """A shell that started the tests in the background left SIGINT ignored; tests of it need Python's own handler."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests share a process, for `pytest -n`: those of a file, and all of a folder of TOGETHER."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return next((folder for folder in TOGETHER if file.startswith(folder)), file)

    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def no_secret_kept() -> Iterator[None]:
    """What a test had redact remember is hidden in no other."""
    yield
    redact._known.clear()
    redact._pattern = None


@pytest.fixture(scope="session", autouse=True)
def no_process_left() -> Iterator[None]:
    """Fails where a test left a process running. It knows them by a variable that all inherit."""
    mark = f"EDGE_AAE_TESTS_{uuid4().hex}"
    os.environ[mark] = "1"
    yield
    del os.environ[mark]
    deadline = time.monotonic() + LEFT_BEHIND_S
    while (left := _processes_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, f"processes that tests left behind: {left}"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Callable[[Path], None]], Path]]:
    """made_once(name, make): a folder that make(folder) fills in the first test process that asks; others wait.

    Fails at the end where a test changed one, for others read it.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared_folders: set[Path] = set()

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as held:
            lock(held.fileno(), wait=True)
            if not done.exists():
                folder.mkdir()
                make(folder)
                done.write_text(_listing(folder))
        shared_folders.add(folder)
        return folder

    yield made
    for folder in shared_folders:
        assert _listing(folder) == folder.with_name(f"{folder.name}.done").read_text(), f"a test changed {folder}"


def _listing(folder: Path) -> str:
    """Every file and link below the folder, with its size or target and when it was written."""
    lines = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            lines.append(f"{path} -> {path.readlink()}\n")
        elif path.is_file():
            lines.append(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n")
    return "".join(lines)


@pytest.fixture(scope="session")
def make_detector_onnx() -> Callable[..., bytes]:
    """Makes a fused detector graph: frame (1, H, W, C) uint8 -> criteria (1, K), latent (1, 2), anomaly_map (1, H, W).

    error_scale multiplies the reconstruction error (NaN breaks it on purpose); n_criteria repeats its column.
    """
    return _detector_onnx


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """Makes a bundle in memory around a preprocessing, with any part replaced."""

    def make(
        preprocess: Preprocess | None = None,
        *,
        decision: Decision | None = None,
        detector_onnx: bytes | None = None,
    ) -> Bundle:
        preprocess = preprocess or Preprocess(height=8, width=8)
        shape = preprocess.input_shape
        encoder, decoder = _half_means(*shape)
        prior = StandardNormal(LATENT_DIM)
        files = {
            "detector.onnx": detector_onnx or _detector_onnx(*shape),
            "encoder.onnx": _encoder_onnx(encoder, shape),
            "decoder.onnx": _decoder_onnx(decoder, shape),
            "prior.npz": prior.to_npz(),
            "golden.npz": _golden_npz(encoder, decoder, prior, shape),
        }
        decision = decision or UnionRule(
            limits={
                "reconstruction_error": Limit(threshold=1.0, center=0.5),
                "neg_log_prior": Limit(threshold=2.5, center=2.0),
            }
        )
        return Bundle.from_parts(_manifest(preprocess, prior, decision), files, Path("test.aae"))

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """The bundle of an 8x8 grey detector, in memory."""
    return make_bundle()


@pytest.fixture(scope="session")
def bundle_file(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an .aae file; not to be changed by a test."""
    path = tmp_path_factory.mktemp("bundle") / "test.aae"
    bundle.write(path)
    return path


@pytest.fixture(scope="session")
def detector(bundle: Bundle) -> Detector:
    """An 8x8 grey detector on the CPU."""
    return Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1))


@pytest.fixture(scope="session")
def reference_program(made_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The C++ reference of folders of `export --format onnx`, built as their README.txt says."""
    openvino = pytest.importorskip("openvino", reason="openvino is not installed")
    if shutil.which("cmake") is None or not any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++"))):
        pytest.skip("the C++ reference needs cmake and a C++ compiler")
    libraries = Path(openvino.__file__).parent / "cmake"
    if not libraries.is_dir():
        pytest.skip("this openvino has no CMake files")

    def build(place: Path) -> None:
        source = Path(__file__).parents[1] / "export/standalone"
        for step in (["-S", str(source), "-B", str(place), f"-DOpenVINO_DIR={libraries}"], ["--build", str(place)]):
            done = subprocess.run(["cmake", *step], capture_output=True, text=True, timeout=900, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    return made_once("reference_program", build) / "reference"


@pytest.fixture
def plug_in_camera(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[NDArray[np.uint8] | None]], list[Any]]:
    """Replaces cv2.VideoCapture by a camera that gives these frames and then none; None is one it cannot decode.

    Returns the list that collects the captures the code under test opens.
    """

    def plug_in(frames: Sequence[NDArray[np.uint8] | None]) -> list[Any]:
        opened: list[Any] = []

        class Capture:
            def __init__(self, *arguments: int) -> None:
                self.arguments = arguments
                self.settings: dict[int, float] = {}
                self.n_grabbed = 0
                self.released = False
                opened.append(self)

            def isOpened(self) -> bool:
                return True

            def set(self, setting: int, value: float) -> bool:
                self.settings[setting] = value
                return True

            def get(self, setting: int) -> float:
                return self.settings.get(setting, 0.0)  # as OpenCV does of what a camera does not tell

            def grab(self) -> bool:
                self.n_grabbed += 1
                return self.n_grabbed <= len(frames)

            def retrieve(self) -> tuple[bool, NDArray[np.uint8] | None]:
                frame = frames[self.n_grabbed - 1]
                return frame is not None, frame

            def release(self) -> None:
                self.released = True

        monkeypatch.setattr("cv2.VideoCapture", Capture)
        monkeypatch.setattr(CameraSource, "check_present", lambda self: None)
        # It has no pace of its own: taken as a live source, it would be over before its first frame is scored.
        monkeypatch.setattr(CameraSource, "live", False)
        return opened

    return plug_in


def _processes_with(variable: str) -> list[str]:
    """Command lines of processes, this one aside, that have an environment variable."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile, or be another user's
            if int(folder.name) != os.getpid() and variable.encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command and "multiprocessing.resource_tracker" not in command:  # which ends with its parent
                    found.append(f"{folder.name} {command}")
    return found


def _half_means(height: int, width: int, channels: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the encoder (C H W, 2) and the decoder (2, C H W)."""
    is_left = np.zeros((channels, height, width), dtype=np.float32)
    is_left[:, :, : width // 2] = 1.0
    left, right = is_left.reshape(-1), 1.0 - is_left.reshape(-1)
    left_mean, right_mean = left / left.sum(), right / right.sum()
    encoder = np.stack([(left_mean + right_mean) / 2, left_mean - right_mean], axis=1)
    decoder = np.stack([np.ones_like(left), (left - right) / 2])
    return encoder.astype(np.float32), decoder.astype(np.float32)


def _detector_onnx(height: int, width: int, channels: int, *, error_scale: float = 1.0, n_criteria: int = 2) -> bytes:
    from onnx import TensorProto, helper

    shape = height, width, channels
    encoder, decoder = _half_means(*shape)
    constants: dict[str, NDArray[Any]] = {
        "white": np.array(255.0, np.float32),
        "encoder": encoder,
        "decoder": decoder,
        "image_shape": np.array([-1, channels, height, width]),
        "channel_axis": np.array([1]),
        "image_axes": np.array([1, 2, 3]),
        "half": np.array(0.5, np.float32),
        "log_norm": np.array(0.5 * LATENT_DIM * math.log(2.0 * math.pi), np.float32),
        "error_scale": np.array(error_scale, np.float32),
    }
    node = helper.make_node
    nodes = [
        # Cast first: TensorRT takes uint8 only as the input of a Cast.
        node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        node("Div", ["pixels", "white"], ["scaled"]),
        node("Transpose", ["scaled"], ["x"], perm=[0, 3, 1, 2]),
        *_encoder_nodes(),
        *_decoder_nodes("latent"),
        node("Sub", ["x", "x_hat"], ["difference"]),
        node("Mul", ["difference", "difference"], ["squared"]),
        node("ReduceMean", ["squared", "channel_axis"], ["anomaly_map"], keepdims=0),
        node("ReduceSum", ["squared", "image_axes"], ["squared_sum"], keepdims=0),
        node("Sqrt", ["squared_sum"], ["distance"]),
        node("Mul", ["distance", "error_scale"], ["error"]),
        node("Mul", ["latent", "latent"], ["latent_squared"]),
        node("ReduceSum", ["latent_squared", "channel_axis"], ["latent_norm"], keepdims=0),
        node("Mul", ["latent_norm", "half"], ["half_norm"]),
        node("Add", ["half_norm", "log_norm"], ["neg_log_prior"]),
        node("Unsqueeze", ["error", "channel_axis"], ["error_column"]),
        node("Unsqueeze", ["neg_log_prior", "channel_axis"], ["prior_column"]),
        node(
            "Concat",
            ["error_column", "prior_column", *["error_column"] * (n_criteria - 2)][:n_criteria],
            ["criteria"],
            axis=1,
        ),
    ]
    return _model(
        nodes,
        {"frame": (TensorProto.UINT8, [1, *shape])},
        {
            "criteria": (TensorProto.FLOAT, [1, n_criteria]),
            "latent": (TensorProto.FLOAT, [1, LATENT_DIM]),
            "anomaly_map": (TensorProto.FLOAT, [1, height, width]),
        },
        constants,
    )


def _encoder_onnx(weights: NDArray[np.float32], shape: tuple[int, int, int]) -> bytes:
    from onnx import TensorProto

    height, width, channels = shape
    return _model(
        _encoder_nodes(),
        {"x": (TensorProto.FLOAT, ["batch", channels, height, width])},
        {"latent": (TensorProto.FLOAT, ["batch", LATENT_DIM])},
        {"encoder": weights},
    )


def _decoder_onnx(weights: NDArray[np.float32], shape: tuple[int, int, int]) -> bytes:
    from onnx import TensorProto

    height, width, channels = shape
    return _model(
        _decoder_nodes("z"),
        {"z": (TensorProto.FLOAT, ["batch", LATENT_DIM])},
        {"x_hat": (TensorProto.FLOAT, ["batch", channels, height, width])},
        {"decoder": weights, "image_shape": np.array([-1, channels, height, width])},
    )


def _encoder_nodes() -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "encoder"], ["latent"]),
    ]


def _decoder_nodes(code: str) -> list[Any]:
    from onnx import helper

    return [
        helper.make_node("MatMul", [code, "decoder"], ["flat_hat"]),
        helper.make_node("Reshape", ["flat_hat", "image_shape"], ["x_hat"]),
    ]


def _model(
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[Any]]],
    outputs: dict[str, tuple[int, list[Any]]],
    constants: dict[str, NDArray[Any]],
) -> bytes:
    from onnx import checker, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, *facts) for name, facts in inputs.items()],
        [helper.make_tensor_value_info(name, *facts) for name, facts in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _golden_npz(
    encoder: NDArray[np.float32],
    decoder: NDArray[np.float32],
    prior: StandardNormal,
    shape: tuple[int, int, int],
) -> bytes:
    inputs = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    x = inputs.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)
    latent = x.reshape(2, -1) @ encoder
    x_hat = (latent @ decoder).reshape(x.shape)
    error = np.sqrt(((x - x_hat) ** 2).sum(axis=(1, 2, 3)))
    buffer = io.BytesIO()
    np.savez(
        buffer,
        inputs=inputs,
        criteria=np.stack([error, prior.neg_log_density(latent)], axis=1),
        latent=latent,
        anomaly_map=((x - x_hat) ** 2).mean(axis=1),
        x_hat=x_hat,
    )
    return buffer.getvalue()


def _manifest(preprocess: Preprocess, prior: StandardNormal, decision: Decision) -> dict[str, Any]:
    return {
        "created_by": {"edge_aae": "test"},
        "model": {"network": "half_means", "latent_dim": prior.dim},
        "preprocess": preprocess.to_json(),
        "graphs": {},
        "criteria": list(CRITERIA),
        "prior": {"kind": "standard_normal", "dim": prior.dim, "file": "prior.npz"},
        "calibration": {},
        "decision": decision.to_json(),
        "training": {},
        "parity": {},
    }
