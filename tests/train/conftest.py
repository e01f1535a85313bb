"""Synthetic images and quick settings for the tests of `train`; everything is written below pytest's own folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.train.plain_runs import trainer_of
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.learning.trainer import Trainer
from train.refinement.itsr import ItsrSettings
from train.runs.session import TrainingOutcome, train
from train.schedule import Schedule

SQUARE, CROSS = 0, 1

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]


@dataclass(frozen=True)
class FinishedRun:
    """A complete ITSR run on squares with a few crosses; tests read it and copy it, none changes it."""

    outcome: TrainingOutcome
    path: Path
    data: DataSettings
    settings: TrainSettings
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def _draw_shapes(
    n: int, n_crosses: int = 0, *, side: int = 16, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 30, (n, side, side, 1), dtype=np.uint8)
    labels = np.full(n, SQUARE, dtype=np.int64)
    labels[rng.permutation(n)[:n_crosses]] = CROSS
    half = side // 2
    diagonals = np.eye(half, dtype=bool) | np.eye(half, dtype=bool)[:, ::-1]
    for image, label in zip(images, labels, strict=True):
        top, left = rng.integers(side // 4 - 1, side // 4 + 2, 2)
        stroke = diagonals if label == CROSS else np.ones((half, half), dtype=bool)
        image[top : top + half, left : left + half][stroke] = rng.integers(180, 256)
    return images, labels


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from more, and lose a lot where tests share their cores."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(autouse=True)
def plots_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's plots take longer than its training here; `finished_run` has them, test_report.py looks at them."""
    for name in ("plot_losses", "plot_scores"):
        monkeypatch.setattr(f"train.runs.findings.{name}", lambda path, *_: path.write_bytes(b"left out"))


@pytest.fixture(scope="session")
def shapes() -> Shapes:
    """shapes(n, n_crosses, side=16, seed=0): (n, side, side, 1) uint8 images and (n,) labels, 0 square, 1 cross."""
    return _draw_shapes


@pytest.fixture(scope="session")
def quick() -> Callable[..., TrainSettings]:
    """Settings of a run that takes well under a second; keywords replace the defaults."""

    def make(**changes: Any) -> TrainSettings:
        defaults: dict[str, Any] = {
            "network": "conv",
            "latent_dim": 2,
            "schedule": Schedule(train=2),
            "batch_size": 16,
        }
        return TrainSettings(**{**defaults, **changes})

    return make


@pytest.fixture(scope="session")
def finished_run(
    shapes: Shapes, quick: Callable[..., TrainSettings], tmp_path_factory: pytest.TempPathFactory
) -> FinishedRun:
    folder = tmp_path_factory.mktemp("finished")
    images, labels = shapes(200, 10)
    np.savez(folder / "shapes.npz", images=images[..., 0], labels=labels)
    data = DataSettings(path=str(folder / "shapes.npz"))
    settings = quick(
        refine="itsr",
        latent_dim=4,
        batch_size=32,
        schedule=Schedule(train=12, refine=1, retrain=2),
        itsr=ItsrSettings(rounds=5),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        out = Path("runs/shapes-1")
        out.mkdir(parents=True)  # an empty folder is no obstacle
        outcome = train(data, settings, out, device="cpu")
    return FinishedRun(outcome, folder / out, data, settings, images, labels)


@pytest.fixture
def make_trainer(shapes: Shapes, quick: Callable[..., TrainSettings]) -> Callable[..., Trainer]:
    """A trainer of plain training on 40 images in batches of 16, three an epoch."""

    def make(**changes: Any) -> Trainer:
        return trainer_of(quick(**changes), shapes(40, 4)[0])

    return make
