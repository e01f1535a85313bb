"""Tiny trained runs of each network, made once; graphs exported from them; and a hand that perturbs a weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.bundling import Export, export_bundle
from export.graphs import export_graphs, export_half_detector, identified
from train.data import DataSettings
from train.robust_settings import RobustSettings
from train.run_folder import RunFolder, TrainedRun
from train.session import train
from train.settings import Schedule, TrainSettings

RUNS = {
    "mlp": ("mlp", (12, 12), 2, "none"),
    "conv": ("conv", (32, 48), 8, "none"),
    "conv-colour": ("conv", (16, 16, 3), 4, "none"),
    "conv-robust": ("conv", (16, 16), 3, "robust"),
    "conv-mixture": ("conv", (16, 16), 3, "robust"),
    "hog": ("hog", (28, 28), 6, "robust"),
    "hog-colour": ("hog", (64, 56, 3), 5, "robust"),
}
"""Name -> network, image shape, latent dimensions, refinement. `hog` averages the larger images down; `conv-mixture`
fits three densities to its codes."""


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
def graphs(runs: dict[str, TrainedRun]) -> dict[str, dict[str, bytes]]:
    """encoder.onnx, decoder.onnx, detector.onnx, detector-batch.onnx and detector-fp16.onnx of each run."""
    found = {}
    for name, run in runs.items():
        parts = run.autoencoder, run.prior, run.config.preprocess
        files = {**export_graphs(*parts, batch=4), "detector-fp16.onnx": export_half_detector(*parts)}
        found[name] = identified(files, model_id=run.model_id, criteria=run.autoencoder.criteria)
    return found


@pytest.fixture(scope="session")
def exports(run_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Export]:
    """Each run exported in all precisions; the files are not to be changed by a test."""
    root = tmp_path_factory.mktemp("bundles")
    return {name: export_bundle(path, root / f"{name}.aae") for name, path in run_paths.items()}


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
