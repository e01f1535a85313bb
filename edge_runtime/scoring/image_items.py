"""The images that somebody names to be scored, with the labels that folders, classes or a file give them."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import is_run_folder
from edge_runtime.image_files.levels import Levels
from edge_runtime.image_files.listing import FORMATS, image_files, is_image
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.labelled import is_labelled_set, read_labelled

__all__ = ["GOOD", "Item", "TrainedOn", "load_items", "without"]

logger = logging.getLogger(__name__)

GOOD = "good"
"""Folder name of normal images, the MVTec convention."""
NORMAL_LABELS = frozenset({"0", "good", "normal", "ok", "false"})
ANOMALOUS_LABELS = frozenset({"1", "bad", "anomaly", "anomalous", "defect", "defective", "true"})


@dataclass(frozen=True, slots=True)
class Item:
    """One image to score, and what is known of it."""

    name: str
    load: Callable[[], Frame]
    group: str | None = None
    """Folder or class, for a line of its own in the table"""
    anomalous: bool | None = None
    """None where nobody said"""
    observed: bool | None = None
    """For labelled sets trained with contamination: whether this anomaly's class was among the training images"""
    file: Path | None = None
    """Where it lies on disk, below the path that was given; None for an image of a labelled set"""


@dataclass(frozen=True, slots=True)
class TrainedOn:
    """What labelled sets need to know of a model's training: which classes are normal, and which it saw anyway."""

    classes: frozenset[int] = frozenset()
    """Normal classes; empty where it was trained without any"""
    observed: frozenset[int] = frozenset()
    """Anomalous classes among its training images"""
    called: str = "model"
    """What messages call it"""
    levels: Levels | None = None
    """Of 16-bit images, as Preprocess.levels"""

    @classmethod
    def of(cls, data: Mapping[str, Any], *, called: str) -> TrainedOn:
        """data: the data settings of a run, as its config.json and the bundle's manifest hold them."""
        contaminate: Iterable[tuple[int, float]] = data.get("contaminate", ())
        return cls(frozenset(data.get("classes", ())), frozenset(int(label) for label, _ in contaminate), called)


def load_items(
    paths: Sequence[Path], trained_on: Bundle | TrainedOn, labels_file: Path | None = None, classes: Sequence[int] = ()
) -> list[Item]:
    """The images behind the paths, with their labels where known.

    Images of folders are named by their path below the folder; where two folders have images of the same name, by
    the path that was given. trained_on: what the model that scores them was trained on, or its bundle. labels_file: CSV
    with columns name and label. classes: normal classes of labelled sets; the model's where empty.
    Raises DataError where a path is missing or holds no image, and for labels that cannot be used; ConfigError for
    classes where there is no labelled set.
    """
    if isinstance(trained_on, Bundle):
        levels = trained_on.preprocess.levels
        trained_on = replace(
            TrainedOn.of(trained_on.manifest["training"].get("data", {}), called="bundle"), levels=levels
        )
    batches = [_items_of(path, trained_on, classes) for path in paths]
    if classes and not any(map(is_labelled_set, paths)):
        raise ConfigError(
            f"--classes names normal classes of an IDX set or .npz file, {', '.join(map(str, paths))} has none; leave "
            "it out: of files a folder good/ beside others says it, or --labels FILE"
        )
    n_of_name = Counter(item.name for batch in batches for item in batch)
    items = [
        item
        for path, batch in zip(paths, batches, strict=True)
        for item in (batch if all(n_of_name[item.name] == 1 for item in batch) else _named_in_full(path, batch))
    ]
    if not items:
        raise DataError(f"no images in {', '.join(map(str, paths))}")
    return _with_labels(items, labels_file) if labels_file else items


def without(items: Sequence[Item], names_file: Path) -> list[Item]:
    """The items but those the file names, one name a line, matched as labels are; an empty file names none.

    Raises DataError where the file cannot be read, names none of the items or is ambiguous, or leaves none.
    """
    try:
        # File names that are no UTF-8 keep their bytes, as in the CSV that `score` writes.
        lines = names_file.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
    except OSError as error:
        raise DataError(f"cannot read names from {names_file}: {error.strerror or error}") from error
    names = [line for line in lines if line.strip()]
    if not names:
        return list(items)
    kept = [item for item, key in zip(items, _named_by(items, names, names_file), strict=True) if key is None]
    if not kept:
        raise DataError(f"{names_file} names every one of {len(items)} images; none is left")
    return kept


def _items_of(path: Path, trained_on: TrainedOn, classes: Sequence[int]) -> list[Item]:
    if not path.exists():
        raise DataError(f"no such file or folder: {path}")
    if is_labelled_set(path):
        return _labelled_items(path, trained_on, classes)
    if is_run_folder(path):
        raise DataError(
            f"{path} is a run folder, not images; to score by it: edge-aae export {path} --out model.aae, then "
            f"edge-aae score IMAGES --model model.aae; or edge-aae evaluate {path} IMAGES"
        )
    if path.is_dir():
        return _folder_items(path, trained_on.levels)
    if is_image(path):
        return [_file_item(path, str(path), None, None, trained_on.levels)]
    raise DataError(f"{path} is no image ({FORMATS}), folder, IDX set or .npz file")


def _named_in_full(path: Path, batch: Sequence[Item]) -> list[Item]:
    if is_labelled_set(path):
        path = path.parent
    elif not path.is_dir():
        return list(batch)
    return [replace(item, name=(path / item.name).as_posix()) for item in batch]


def _labelled_items(path: Path, trained_on: TrainedOn, classes: Sequence[int]) -> list[Item]:
    data = read_labelled(path, "test")
    normal = set(classes) or trained_on.classes
    # Other normal classes than training's make another task: what it saw says nothing about it.
    observed = frozenset() if classes else trained_on.observed
    if data.labels is not None and not normal:
        raise DataError(
            f"{path} has classes, the {trained_on.called} was trained without; name the normal ones: --classes 0"
        )
    items = []
    for index, image in enumerate(data.images):
        label = int(data.labels[index]) if data.labels is not None else None
        anomalous = None if label is None else label not in normal
        items.append(
            Item(
                name=f"{path.name}/{index}",
                load=lambda image=image: image,  # type: ignore[misc]
                group=None if label is None else f"class {label}",
                anomalous=anomalous,
                observed=label in observed if anomalous and observed else None,
            )
        )
    return items


def _folder_items(folder: Path, levels: Levels | None) -> list[Item]:
    names = {file: file.relative_to(folder) for file in image_files(folder)}
    labelled = any(len(name.parts) > 1 and name.parts[0].lower() == GOOD for name in names.values())
    items = []
    for file, name in names.items():
        group = name.parts[0] if len(name.parts) > 1 else None
        anomalous = group.lower() != GOOD if labelled and group is not None else None
        items.append(_file_item(file, name.as_posix(), group, anomalous, levels))
    return items


def _file_item(file: Path, name: str, group: str | None, anomalous: bool | None, levels: Levels | None) -> Item:
    return Item(name, lambda: read_image(file, levels), group, anomalous, file=file)


def _with_labels(items: Sequence[Item], labels_file: Path) -> list[Item]:
    labels = _read_labels(labels_file)
    keys = _named_by(items, labels, labels_file)
    return [
        item if key is None else replace(item, anomalous=labels[key]) for item, key in zip(items, keys, strict=True)
    ]


def _named_by(items: Sequence[Item], names: Collection[str], file: Path) -> list[str | None]:
    """For each item the longest end of its path that is among the names, None where there is none."""
    known = frozenset(names)
    keys = [next((key for key in _path_ends(item.name) if key in known), None) for item in items]
    names_of_key: dict[str, set[str]] = {}
    for item, key in zip(items, keys, strict=True):
        if key is not None:
            names_of_key.setdefault(key, set()).add(item.name)
    if not names_of_key:
        raise DataError(
            f"{file} names none of the images, such as {items[0].name}; names are paths below the folder scored"
        )
    for key, matched in names_of_key.items():
        if len(matched) > 1:
            raise DataError(
                f"{file}: {key} could be any of {len(matched)} images; write its path, such as {min(matched)}"
            )
    strangers = [name for name in names if name not in names_of_key]
    if strangers:
        logger.warning(
            "%s: %d of %d names are of no image scored, such as %s", file, len(strangers), len(names), strangers[0]
        )
    return keys


def _path_ends(name: str) -> list[str]:
    """`a/b/c.png`, `b/c.png`, `c.png`."""
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _read_labels(path: Path) -> dict[str, bool]:
    labels = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            for row in reader:
                # Of a quoted name that holds line breaks this is the last line.
                where = f"{path}, line {reader.line_num}"
                name = row.get("name")
                if not name or "label" not in row:
                    raise DataError(f"{where}: expected columns name and label, came {list(row)}")
                label = (row["label"] or "").strip().lower()
                if label not in NORMAL_LABELS | ANOMALOUS_LABELS:
                    raise DataError(f"{where}: label is {label!r}, expected 0 or good, 1 or anomalous")
                labels[name] = label in ANOMALOUS_LABELS
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read labels from {path}: {error}") from error
    if not labels:
        raise DataError(f"{path} has no lines below its header; expected columns name and label")
    return labels
