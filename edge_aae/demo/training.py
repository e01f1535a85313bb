"""The demo's trainings: four methods on the embedded sample, side by side, each measured on its test images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from edge_aae.demo.workers import side_by_side
from edge_runtime.errors import DataError
from edge_runtime.metrics import auroc, balanced_accuracy
from edge_runtime.scoring.labelled import LabelledImages, read_labelled
from train.calibration.thresholds import LimitSettings
from train.data.settings import DataSettings
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.networks.registry import NetworkName, network_spec
from train.runs.run_folder import RunFolder
from train.runs.session import TrainingOutcome, train
from train.schedule import MethodName, RefineName, Schedule

__all__ = ["CONTAMINANT", "METHODS", "NORMAL", "SAMPLE", "MethodRow", "Recipe", "n_contaminants", "trainings"]

SAMPLE = Path(__file__).parents[1] / "sample/fashion.npz"
NORMAL, CONTAMINANT = 0, 9
"""T-shirts; ankle boots, 5 % of the training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train on the sample."""

    name: str
    network: NetworkName = "mlp"
    method: MethodName = "aae"
    refine: RefineName = "none"
    schedule: Schedule

    @property
    def folder(self) -> str:
        """The name of its run folder."""
        return self.name.lower().replace("+", "-")


METHODS = (
    Recipe(name="AE", method="ae", schedule=Schedule(train=40)),
    Recipe(name="AAE", schedule=Schedule(train=40)),
    Recipe(name="AAE+ITSR", refine="itsr", schedule=Schedule(train=10, refine=2, retrain=10)),
    Recipe(name="robust", network="hog", refine="robust", schedule=network_spec("hog").schedule("aae", "robust")),
)
"""The paper's three with 40 epochs each, against 1000 to 10000 there: the demo shows the road, not the paper's figures.
`robust`, the default of `edge-aae train`, with its own schedule. The last is exported."""

TARGET_FPR = 0.1
"""Of `robust`: what the paper's p90 asks of each of its criteria. The default of `edge-aae train` is 1 %."""


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One line of the demo's table."""

    name: str
    auroc: float
    """Test T-shirts against boots and all other classes"""
    observed_bacc: float
    """Against boots, which were among the training images"""
    unobserved_bacc: float
    """Against the eight other classes"""
    contaminants_rejected: int | None
    rejected: int | None
    seconds: float


@contextmanager
def trainings(out: Path, *, epochs_scale: float, seed: int) -> Iterator[dict[str, Future[MethodRow]]]:
    """Train each of METHODS on the sample into its folder below out/runs/ and measure it on the sample's test images.

    As many at a time as there are cores; the last of METHODS first, for what is made of it. A row comes when its
    training is done; DataError from it where the training was interrupted.
    """
    with side_by_side(
        {
            recipe.name: partial(_train_and_measure, out / "runs" / recipe.folder, recipe, epochs_scale, seed)
            for recipe in reversed(METHODS)
        }
    ) as running:
        yield running


def _train_and_measure(folder: Path, recipe: Recipe, epochs_scale: float, seed: int) -> MethodRow:
    outcome = _train(folder, recipe, recipe.schedule.scaled(epochs_scale), seed)
    if not outcome.complete:
        raise DataError(f"the demo was interrupted in {recipe.name}; run it again")
    return _evaluate(recipe.name, outcome, read_labelled(SAMPLE, "test"), recipe.refine)


def n_contaminants() -> int:
    """Ankle boots among the sample's training images."""
    labels = read_labelled(SAMPLE, "train").labels
    assert labels is not None, "the sample has labels"
    return int((labels == CONTAMINANT).sum())


def _train(folder: Path, recipe: Recipe, schedule: Schedule, seed: int) -> TrainingOutcome:
    # No classes are named: all images of the sample train, boots among them, unmarked.
    spec = network_spec(recipe.network)
    settings = TrainSettings(
        network=recipe.network,
        method=recipe.method,
        refine=recipe.refine,
        latent_dim=spec.latent_dim(recipe.method),
        schedule=schedule,
        batch_size=spec.batch_size,
        limit=LimitSettings(rule="conformal", target_fpr=TARGET_FPR),
        seed=seed,
    )
    return train(DataSettings(path=str(SAMPLE), seed=seed), settings, folder, announce=False, bars=False)


def _evaluate(name: str, outcome: TrainingOutcome, test: LabelledImages, refine: RefineName) -> MethodRow:
    assert test.labels is not None, "the sample has labels"
    trained = RunFolder(outcome.folder.path).load()
    inputs = np.stack([trained.config.preprocess(image) for image in test.images])
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    scores = trained.decision.score(criteria)
    flagged = trained.decision.is_anomalous(scores)
    anomalous = test.labels != NORMAL
    observed = ~anomalous | (test.labels == CONTAMINANT)
    unobserved = test.labels != CONTAMINANT
    rejected = _rejected_labels(outcome.folder.path / "refinement.csv") if refine != "none" else None
    return MethodRow(
        name,
        auroc(scores, anomalous),
        balanced_accuracy(flagged[observed], anomalous[observed]),
        balanced_accuracy(flagged[unobserved], anomalous[unobserved]),
        None if rejected is None else rejected.count(CONTAMINANT),
        None if rejected is None else len(rejected),
        outcome.seconds,
    )


def _rejected_labels(refinement: Path) -> list[int]:
    with refinement.open(newline="") as stream:
        return [int(row["label"]) for row in csv.DictReader(stream) if row["kept"] == "0"]
