"""Tiny trained runs of each network, made once; graphs exported from them; and a hand that perturbs a weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from export.graphs import export_graphs
from train.data import DataSettings
from train.run_folder import RunFolder, TrainedRun
from train.session import train
from train.settings import Schedule, TrainSettings

RUNS = {
    "mlp": ("mlp", (12, 12), 2, "none"),
    "conv": ("conv", (32, 48), 8, "none"),
    "conv-colour": ("conv", (16, 16, 3), 4, "none"),
    "conv-robust": ("conv", (16, 16), 3, "robust"),
    "hog": ("hog", (28, 28), 6, "robust"),
    "hog-colour": ("hog", (64, 56, 3), 5, "robust"),
}
"""Name -> network, image shape, latent dimensions, refinement. `hog` averages the larger images down."""


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
    """encoder.onnx, decoder.onnx and detector.onnx of each run."""
    return {name: export_graphs(run.autoencoder, run.prior, run.config.preprocess) for name, run in runs.items()}


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
