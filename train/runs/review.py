"""Rejected images put before a person in groups that look alike: one question a group, not one an image.

A group answers as a file: `--reject review/group-1.csv` or `--keep review/group-2.csv` in the next run.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.preprocess import Frame
from train.data.photograph_store import PhotographStore
from train.data.training_set import TrainingSet
from train.learning.scoring import encoded, raw_criteria
from train.runs.pictures import contact_sheet
from train.runs.run_folder import TrainedRun, write_csv

__all__ = ["Group", "codes_of", "group_codes", "write_review"]

IMAGES_A_GROUP = 25
"""Fewer images make no group worth a question."""
MOST_GROUPS = 8
SHOWN = 40
"""Images of each group on its sheet, highest score first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Images whose codes lie together."""

    members: NDArray[np.int64]
    """Indices, highest score first"""
    spread: float
    """Mean squared distance of the codes to their centre over that of all rejected ones: below 1, the smaller the more
    alike; what contaminates in one way is a tight group, the tails of the normal images are not."""


def codes_of(run: TrainedRun, images: TrainingSet) -> NDArray[Any]:
    """(N, D): the code of each training image, the mean over its sites where it has one at each."""
    if isinstance(images.store, PhotographStore):
        from train.strategies.patch_measure import measured

        device = torch.device("cpu")
        found = measured(run.autoencoder, run.prior, images.store, images.store.photographs, device)  # type: ignore[arg-type]
        codes: NDArray[Any] = found[1]
        return codes
    if run.autoencoder.backbone is not None:
        codes = encoded(run.autoencoder, images.store)
    else:
        codes = raw_criteria(run.autoencoder, run.prior, images.store)[1]
    return codes.reshape(*codes.shape[:2], -1).mean(axis=2)


def group_codes(
    codes: NDArray[Any], rejected: NDArray[np.bool_], scores: NDArray[np.float64], seed: int
) -> list[Group]:
    """Groups of the rejected images by k-means on their codes (N, D), tightest first; empty where none were rejected.

    rejected: (N,) bool; scores: (N,), higher = more anomalous.
    """
    indices = np.flatnonzero(rejected)
    if not len(indices):
        return []
    values = codes[indices].astype(np.float64)
    values = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-9)
    n_groups = max(1, min(MOST_GROUPS, len(indices) // IMAGES_A_GROUP))
    cluster = require("sklearn.cluster", extra="train", purpose="grouping rejected images")
    labels = cluster.KMeans(n_groups, n_init=4, random_state=seed).fit_predict(values)
    total = max(float((values**2).sum(axis=1).mean()), 1e-9)
    groups = []
    for label in range(n_groups):
        inside = labels == label
        members = indices[inside]
        around = values[inside] - values[inside].mean(axis=0)
        ranked = members[np.argsort(-scores[members], kind="stable")]
        groups.append(Group(ranked, float((around**2).sum(axis=1).mean()) / total))
    return sorted(groups, key=lambda group: group.spread)


def write_review(
    folder: Path, groups: Sequence[Group], images: Any, names: Sequence[str], scores: NDArray[np.float64]
) -> None:
    """Write review.csv, and a sheet and a list of names for each group, into a folder that is made anew.

    images: indexable by image, (H, W, C) uint8 each.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    rows: list[list[Any]] = []
    for number, group in enumerate(groups, start=1):
        shown = group.members[:SHOWN]
        title = (
            f"group {number}: {len(group.members)} of the rejected images, spread {group.spread:.2f}; normal or not?"
        )
        tiles: list[Frame] = [np.asarray(images[int(index)]) for index in shown]
        captions = [f"{scores[index]:.2f} {Path(names[index]).stem[-11:]}" for index in shown]
        contact_sheet(folder / f"group-{number}.png", title, tiles, captions)
        of_group = [[names[index], number, f"{scores[index]:.6g}"] for index in group.members]
        write_csv(folder / f"group-{number}.csv", ["name", "group", "score"], of_group)
        rows += of_group
    write_csv(folder / "review.csv", ["name", "group", "score"], rows)
