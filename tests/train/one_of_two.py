"""One of the processes that test_distributed.py starts: joins the world that its environment names, does one part."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import train.learning.scoring
import train.strategies.robust
from edge_runtime.errors import DataError
from train.distributed import ALONE, World, joined
from train.learning.adversarial_step import Learner
from train.learning.augmentation import AUGMENTATIONS
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.autoencoder import Discriminator
from train.networks.registry import build_autoencoder
from train.refinement.itsr import ItsrSettings, Refinement
from train.refinement.settings import RobustSettings
from train.schedule import Schedule
from train.strategies.choice import strategy_for

CPU = torch.device("cpu")
CHUNK = 16
"""So that the scoring of 60 images is shared out."""
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {"network": "conv", "schedule": Schedule(train=2), "augment": AUGMENTATIONS["light"]},
    "plain ae": {"network": "mlp", "method": "ae", "schedule": Schedule(train=2)},
    "itsr": {
        "network": "hog",
        "refine": "itsr",
        "schedule": Schedule(train=2, refine=1, retrain=2),
        "itsr": ItsrSettings(rounds=2, nu=0.1),
    },
    "robust": {
        "network": "hog",
        "refine": "robust",
        "schedule": Schedule(train=2, refine=2),
        "robust": RobustSettings(folds=2),
    },
}
"""Settings by name."""
BREAK_AT = 9
"""Step of the interrupted run, in the middle of its second network."""


def reject_farthest(self: Refinement, codes: NDArray[np.float32], round_number: int, seed: int) -> int:
    """In place of the one-class SVM, which calls codes on its boundary in or out by a rounding error: the three
    farthest from the mean."""
    remaining = np.flatnonzero(~self.candidates)
    distances = np.linalg.norm(codes[remaining] - codes[remaining].mean(axis=0), axis=1)
    rejected = remaining[np.argsort(-distances)[:3]]
    self.rejected_in[rejected] = round_number
    self.weights[rejected] = 0.0
    return len(rejected)


def images() -> NDArray[np.uint8]:
    """(60, 16, 16, 1): batches of 16, 16, 16 and 12."""
    rng = np.random.default_rng(3)
    drawn = rng.integers(0, 40, (60, 16, 16, 1), dtype=np.uint8)
    for image in drawn:
        top, left = rng.integers(2, 6, 2)
        image[top : top + 8, left : left + 8] += rng.integers(100, 200, dtype=np.uint8)
    return drawn


def trainer_of(name: str, world: World) -> Trainer:
    """A trainer before its first step."""
    settings = TrainSettings(**{"latent_dim": 4, "batch_size": 16, "seed": 5, **SCENARIOS[name]})
    return Trainer(strategy_for(Task.of(settings, images(), CPU, world=world)))


def result_of(trainer: Trainer) -> dict[str, NDArray[Any]]:
    """What a finished run found, and under `weight.` its weights."""
    rows, strategy = trainer.rows, trainer.strategy
    weights = {f"weight.{name}": tensor.numpy() for name, tensor in trainer.snapshot().tensors.items()}
    return {
        "losses": np.array([[row.reconstruction_loss, row.encoder_loss, row.discriminator_loss] for row in rows]),
        "images": np.array([[row.images, row.candidates] for row in rows]),
        "candidates": strategy.refinement.candidates,
        "criteria": strategy.calibration_criteria(),
        "codes": strategy.criteria_and_codes()[1],
        "peaks": train.learning.scoring.map_peaks(
            strategy.autoencoder, strategy.prior, trainer.task.images, trainer.task.world
        ),
        **weights,
    }


def finished(name: str, world: World) -> dict[str, NDArray[Any]]:
    """The result of an uninterrupted run."""
    trainer = trainer_of(name, world)
    assert trainer.run()
    return result_of(trainer)


def interrupted(name: str, world: World, folder: Path) -> dict[str, NDArray[Any]]:
    """The result of a run that the last process alone breaks off and that goes on from what the first one wrote."""
    asked = iter(range(1000))
    trainer = trainer_of(name, world)
    assert not trainer.run(stopped=lambda: world.rank == world.size - 1 and next(asked) == BREAK_AT)
    if world.is_first:
        trainer.snapshot().write(folder / "checkpoint.safetensors")
    world.from_first(lambda: None)
    resumed = trainer_of(name, world)
    resumed.restore(Snapshot.read(folder / "checkpoint.safetensors"))
    assert 0 < len(resumed.rows) < resumed.total_epochs
    assert resumed.run()
    return result_of(resumed)


def step_of(network: Any, n: int, world: World) -> dict[str, NDArray[Any]]:
    """Gradients and running statistics after one step on n images, and the sums of its losses."""
    torch.manual_seed(0)
    autoencoder = build_autoencoder(network, channels=1, height=16, width=16, latent_dim=4, batch_norm=True)
    learner = Learner(autoencoder, Discriminator(4), learning_rate=1e-3, adversarial_weight=1.0, world=world)
    share = world.share(n)
    x = torch.from_numpy(images()).permute(0, 3, 1, 2)[:n].float() / 255.0
    weights, draws = torch.linspace(-0.5, 1.0, n), torch.randn(n, 4)
    losses = learner.step(autoencoder.prepare(x[share]), weights[share], draws[share], batch_size=n)
    summed = world.sum_(torch.stack((losses.reconstruction, losses.encoder, losses.discriminator)))
    return {"losses": summed.numpy(), **{name: value.numpy() for name, value in _after(learner)}}


def _after(learner: Learner) -> Iterator[tuple[str, Tensor]]:
    for part, module in learner.modules().items():
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                yield f"{part}.{name}", parameter.grad
        for name, buffer in module.named_buffers():
            yield f"{part}.{name}", buffer


STEPS = {"step conv": ("conv", 11), "step mlp": ("mlp", 11)}
"""Network and images of single steps."""


def outcomes(world: World, folder: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """Every scenario and step; and in several processes the interrupted run."""
    with (
        patch.object(train.learning.scoring, "CHUNK", CHUNK),
        patch.object(train.strategies.robust, "CHUNK", CHUNK),
        patch.object(Refinement, "detect", reject_farthest),
    ):
        results = {name: finished(name, world) for name in SCENARIOS}
        results |= {name: step_of(network, n, world) for name, (network, n) in STEPS.items()}
        if world.size > 1:
            results["interrupted"] = interrupted("robust", world, folder)
    return results


def main(part: str, folder: Path) -> None:
    torch.set_num_threads(1)
    with joined(os.environ, "cpu") as world:
        assert world is not ALONE
        if part == "outcomes":
            for name, result in outcomes(world, folder).items():
                np.savez(folder / f"{name}-{world.rank}.npz", **result)
            return
        world.from_first(lambda: "all are here")
        if world.rank == 1:
            if part == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("the images are gone")
        world.sum_(torch.zeros(1))


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]))
    except RuntimeError as error:
        sys.exit(f"error: {error}")
    except ValueError as error:
        sys.exit(f"error: {error}")
