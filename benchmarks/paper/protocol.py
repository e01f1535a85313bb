"""The protocol of arXiv 1901.06355 section 5: its 18 cells, their training sets, and how a method is scored on them.

Training images come from the very functions that `edge-aae train` uses; labels serve the test alone.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.metrics import auroc, balanced_accuracy
from edge_runtime.scoring.labelled import LabelledImages, read_labelled
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet

__all__ = [
    "ALPHAS",
    "PAIRS",
    "PUBLISHED",
    "Cell",
    "Pair",
    "Setting",
    "default_data",
    "evaluate",
    "settings_named",
]

ALPHAS = (0.05, 0.01, 0.001)
"""n_anomalous / n_all in training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A normal class and the class that contaminates its training images."""

    name: str
    title: str
    folder: str
    """Below --data"""
    normal: int
    anomaly: int


PAIRS = (
    Pair(name="mnist-0-2", title="MNIST 0 vs 2", folder="mnist", normal=0, anomaly=2),
    Pair(name="fashion-0-9", title="T-shirt vs Boot", folder="fashion-mnist", normal=0, anomaly=9),
    Pair(name="fashion-0-2", title="T-shirt vs Pullover", folder="fashion-mnist", normal=0, anomaly=2),
)

# BAcc (observed, unobserved) at 5 %, 1 %, 0.1 %: figure 5 for 5 %, table 1 for the rest.
PUBLISHED: dict[str, dict[str, tuple[tuple[float, float], ...]]] = {
    "ae": {
        "mnist-0-2": ((0.70, 0.70), (0.69, 0.69), (0.68, 0.68)),
        "fashion-0-9": ((0.74, 0.75), (0.74, 0.73), (0.74, 0.73)),
        "fashion-0-2": ((0.67, 0.74), (0.74, 0.74), (0.73, 0.73)),
    },
    "aae": {
        "mnist-0-2": ((0.82, 0.89), (0.91, 0.91), (0.90, 0.89)),
        "fashion-0-9": ((0.78, 0.75), (0.89, 0.78), (0.89, 0.77)),
        "fashion-0-2": ((0.65, 0.71), (0.70, 0.78), (0.71, 0.79)),
    },
    "itsr": {
        "mnist-0-2": ((0.93, 0.92), (0.94, 0.93), (0.91, 0.90)),
        "fashion-0-9": ((0.93, 0.77), (0.92, 0.79), (0.90, 0.80)),
        "fashion-0-2": ((0.84, 0.76), (0.81, 0.81), (0.80, 0.80)),
    },
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One training set of the paper: two of the 18 cells, observed and unobserved, share it."""

    pair: Pair
    alpha: float

    @property
    def name(self) -> str:
        """Such as mnist-0-2-5%."""
        return f"{self.pair.name}-{self.alpha:.3g}"

    def published(self, method: str) -> tuple[float, float] | None:
        """The paper's BAcc, observed and unobserved; None for methods it does not have."""
        if method not in PUBLISHED:
            return None
        return PUBLISHED[method][self.pair.name][ALPHAS.index(self.alpha)]

    def data_settings(self, data: Path, seed: int) -> DataSettings:
        """The data of `edge-aae train` for this setting; the seed draws the contaminants."""
        return DataSettings(
            path=str(data / self.pair.folder),
            classes=(self.pair.normal,),
            contaminate=((self.pair.anomaly, self.alpha),) if self.alpha > 0.0 else (),
            seed=seed,
        )

    def training_set(self, data: Path, seed: int) -> TrainingSet:
        """All normal training images and the drawn contaminants."""
        return load_training_set(self.data_settings(data, seed), "mlp")

    def test_set(self, data: Path) -> LabelledImages:
        """The original test images of all ten classes."""
        return read_labelled(data / self.pair.folder, "test")


def settings_named(names: str) -> list[Setting]:
    """Settings from a comma-separated list of pair names or pair:alpha, such as mnist-0-2,fashion-0-2:0.05; or all."""
    every = [Setting(pair=pair, alpha=alpha) for pair in PAIRS for alpha in ALPHAS]
    if names == "all":
        return every
    chosen = []
    for name in names.split(","):
        pair, _, alpha = name.partition(":")
        found = [s for s in every if s.pair.name == pair and (not alpha or f"{s.alpha:.3g}" == alpha)]
        if not found:
            known = ", ".join(s.name for s in PAIRS)
            raise DataError(
                f"no setting {name!r}; expected all, or PAIR or PAIR:ALPHA of {known} and 0.05, 0.01, 0.001"
            )
        chosen += found
    return chosen


def default_data() -> Path:
    """Where the data sets are: $EDGE_AAE_DATA, or shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    return Path(os.environ.get("EDGE_AAE_DATA", beside))


@dataclass(frozen=True, slots=True)
class Cell:
    """What a method reaches in one of the 18 cells."""

    bacc: float
    """(TPR + TNR) / 2 at the threshold that training data gave"""
    tpr: float
    fpr: float
    auroc: float


def evaluate(
    setting: Setting, scores: NDArray[Any], flagged: NDArray[np.bool_], labels: NDArray[Any]
) -> dict[str, dict[str, float]]:
    """Both cells of a setting as JSON values, from scores (higher = more anomalous) and decisions on all test images.

    scores, flagged, labels: (N,). Observed: normal images against the class that contaminated training; unobserved:
    against the eight other classes.
    """
    cells = {}
    for name, others in (
        ("observed", labels == setting.pair.anomaly),
        ("unobserved", (labels != setting.pair.anomaly) & (labels != setting.pair.normal)),
    ):
        taken = others | (labels == setting.pair.normal)
        anomalous = others[taken]
        cells[name] = asdict(
            Cell(
                bacc=balanced_accuracy(flagged[taken], anomalous),
                tpr=float(flagged[taken][anomalous].mean()),
                fpr=float(flagged[taken][~anomalous].mean()),
                auroc=auroc(scores[taken], anomalous),
            )
        )
    return cells
