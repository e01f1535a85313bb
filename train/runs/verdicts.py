"""refinement.csv, a run's table of verdicts: of each training image its criteria, whether it was kept, and why."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.score import Decision
from train.data.training_set import TrainingSet
from train.refinement.itsr import Verdict
from train.runs.run_folder import write_csv

__all__ = ["VerdictTable", "read_verdicts", "write_verdicts"]


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictTable:
    """What became of each image, in the order of the training set."""

    names: list[str]
    criteria: NDArray[np.float32]
    """(N, K), by column as the decision names them"""
    kept: NDArray[np.bool_]
    """(N,)"""
    reasons: list[str]


def write_verdicts(
    path: Path,
    images: TrainingSet,
    criteria: NDArray[np.float32],
    decision: Decision,
    verdict_of: Callable[[int], Verdict],
) -> None:
    """Write the table; criteria: (N, K) of the images; verdict_of: by their index."""
    scores = decision.score(criteria)
    flagged = decision.is_anomalous(scores)
    header = [
        "index",
        "name",
        "label",
        *decision.criteria,
        "score",
        "above_threshold",
        "kept",
        "weight",
        "round",
        "reason",
    ]
    rows = []
    for index, name in enumerate(images.names):
        verdict = verdict_of(index)
        label = "" if images.labels is None else int(images.labels[index])
        rows.append(
            [
                index,
                name,
                label,
                *(f"{value:.6g}" for value in criteria[index]),
                f"{scores[index]:.6g}",
                int(flagged[index]),
                int(verdict.kept),
                f"{verdict.weight:g}",
                verdict.round if not verdict.kept else "",
                verdict.reason,
            ]
        )
    write_csv(path, header, rows)


def read_verdicts(path: Path, decision: Decision) -> VerdictTable:
    """A run's table; raises DataError where it cannot be used."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            rows = list(csv.DictReader(lines))
        if not rows:
            raise ValueError("it has no rows")
        return VerdictTable(
            names=[row["name"] for row in rows],
            criteria=np.array([[float(row[name]) for name in decision.criteria] for row in rows], dtype=np.float32),
            kept=np.array([row["kept"] == "1" for row in rows]),
            reasons=[row["reason"] for row in rows],
        )
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error
