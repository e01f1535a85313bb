"""Rejected images put before a person in groups that look alike: one question a group, not one an image.

A group answers as a file: `--reject review/group-1.csv` or `--keep review/group-2.csv` in the next run.
"""

from __future__ import annotations

import csv
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

__all__ = ["Group", "codes_of", "group_codes", "keep_groups", "kept_groups", "words_of", "write_review"]

IMAGES_A_GROUP = 25
"""Fewer images make no group worth a question."""
MOST_GROUPS = 8
MUCH_ALIKE, ALIKE = 0.5, 0.9
"""Spreads below which images of a group are said to look much alike, and to have something in common"""
GROUPS = "groups.csv"
"""In a run folder: the groups, for whoever asks again"""
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


def words_of(group: Group, n_groups: int, names: Sequence[str], scores: NDArray[np.float64], threshold: float) -> str:
    """Why the images of a group are together, and what that means for the answer.

    n_groups: how many there are; names, scores: (N,) of all training images.
    """
    n, own = len(group.members), scores[group.members]
    if n == 1:
        told = "The only photograph that was set aside."
    elif n_groups == 1:
        told = (
            f"All {n} that were set aside: too few to part into groups ({2 * IMAGES_A_GROUP} or more are), so they "
            "need not be of one kind."
        )
    elif group.spread < MUCH_ALIKE:
        told = (
            f"{n} photographs that look much alike to the network: look at a few; if these are of one kind, one answer "
            "will do."
        )
    elif group.spread < ALIKE:
        told = f"{n} photographs that have something in common: look at a few before you answer for all."
    else:
        told = f"{n} photographs that are no more alike than any: what no other group took. Look at each."
    folders = {str(Path(names[index]).parent) for index in group.members}
    if n > 1 and len(folders) == 1 and folders != {"."}:
        told += f" All are from {folders.pop()}/."
    above = int((own > threshold).sum())
    return f"{told} {_of_scores(own)}, {above} of {n} above the threshold of {threshold:.3g}."


def _of_scores(scores: NDArray[np.float64]) -> str:
    low, high = float(scores.min()), float(scores.max())
    return f"Score {high:.2f}" if len(scores) == 1 else f"Scores {low:.2f} to {high:.2f}"


def keep_groups(folder: Path, groups: Sequence[Group], names: Sequence[str]) -> None:
    """Write the groups into a run folder, so that they need no second look at the images. Raises DataError."""
    rows = [
        [names[index], number, f"{group.spread:.6g}"]
        for number, group in enumerate(groups, start=1)
        for index in map(int, group.members)
    ]
    write_csv(folder / GROUPS, ["name", "group", "spread"], rows)


def kept_groups(
    folder: Path, names: Sequence[str], rejected: NDArray[np.bool_], scores: NDArray[np.float64]
) -> list[Group] | None:
    """The groups that keep_groups wrote; None where there are none, or they are of other images than those rejected."""
    try:
        with (folder / GROUPS).open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            rows = [(row["name"], int(row["group"]), float(row["spread"])) for row in csv.DictReader(lines)]
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return None
    index_of = {names[index]: index for index in map(int, np.flatnonzero(rejected))}
    if sorted(name for name, _, _ in rows) != sorted(index_of):
        return None
    members: dict[int, list[int]] = {}
    spreads: dict[int, float] = {}
    for name, number, spread in rows:
        members.setdefault(number, []).append(index_of[name])
        spreads[number] = spread
    return [
        Group(np.array(sorted(own, key=lambda index: -scores[index]), dtype=np.int64), spreads[number])
        for number, own in members.items()
    ]


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
