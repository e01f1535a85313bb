"""Scoring sets of images, with metrics where labels are known: the engine of `edge-aae score`. Needs no torch."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.bundle import Bundle
from edge_runtime.detector import Detector, Result
from edge_runtime.errors import DataError, FrameError
from edge_runtime.extras import require
from edge_runtime.heatmap import overlay
from edge_runtime.images import is_image, list_images, read_image, write_image
from edge_runtime.labelled import is_labelled_set, read_labelled
from edge_runtime.metrics import auroc, average_precision, balanced_accuracy
from edge_runtime.preprocess import Frame

__all__ = ["Evaluation", "Item", "Metrics", "Row", "evaluate", "load_items", "write_csv", "write_json"]

logger = logging.getLogger(__name__)

GOOD = "good"
"""Folder name of normal images, the MVTec convention."""
NORMAL_LABELS = frozenset({"0", "good", "normal", "ok", "false"})
ANOMALOUS_LABELS = frozenset({"1", "bad", "anomaly", "anomalous", "defect", "defective", "true"})

HEATMAP_SIDE = 256
"""Pixels: smaller images are enlarged to it, so that a person sees their heatmap."""


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


@dataclass(frozen=True, slots=True)
class Row:
    """One scored image."""

    item: Item
    score: float
    is_anomaly: bool
    criteria: dict[str, float]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Detection metrics of a labelled set; NaN where they are not defined."""

    n_normal: int
    n_anomalous: int
    auroc: float
    average_precision: float
    balanced_accuracy: float

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Metrics:
        """Metrics of the labelled rows among these; BAcc at the detector's threshold."""
        labelled = [row for row in rows if row.item.anomalous is not None]
        anomalous = np.array([row.item.anomalous for row in labelled], dtype=bool)
        scores = np.array([row.score for row in labelled], dtype=np.float64)
        flagged = np.array([row.is_anomaly for row in labelled], dtype=bool)
        return cls(
            n_normal=int((~anomalous).sum()),
            n_anomalous=int(anomalous.sum()),
            auroc=auroc(scores, anomalous),
            average_precision=average_precision(scores, anomalous),
            balanced_accuracy=balanced_accuracy(flagged, anomalous) if labelled else math.nan,
        )

    def to_json(self) -> dict[str, Any]:
        """The metrics as JSON values, null where not defined."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in (
                ("n_normal", self.n_normal),
                ("n_anomalous", self.n_anomalous),
                ("auroc", self.auroc),
                ("average_precision", self.average_precision),
                ("balanced_accuracy", self.balanced_accuracy),
            )
        }


@dataclass(slots=True)
class Evaluation:
    """Scored images and what they come to."""

    threshold: float
    model: str
    """The bundle's digest"""
    rows: list[Row] = field(default_factory=list)
    unscored: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason)"""

    @property
    def normal_rows(self) -> list[Row]:
        """Rows known to be normal."""
        return [row for row in self.rows if row.item.anomalous is False]

    def subsets(self) -> dict[str, Metrics]:
        """Metrics by subset: all; each anomalous group against all normal images; observed and unobserved anomalies.

        Observed and unobserved are the test sets of arXiv 1901.06355 section 5. Empty without labels.
        """
        if not any(row.item.anomalous is not None for row in self.rows):
            return {}
        normal = self.normal_rows
        found = {"all": Metrics.of(self.rows)}
        for group in self._groups():
            members = [row for row in self.rows if row.item.group == group and row.item.anomalous]
            if members:
                found[group] = Metrics.of([*normal, *members])
        for name, wanted in (("observed", True), ("unobserved", False)):
            members = [row for row in self.rows if row.item.anomalous and row.item.observed is wanted]
            if members:
                found[name] = Metrics.of([*normal, *members])
        return found

    def lines(self, top: int) -> list[str]:
        """The report for a terminal: a table where labels are known, the highest scores where not."""
        flagged = sum(row.is_anomaly for row in self.rows)
        lines = [
            f"{len(self.rows)} images scored, {flagged} anomalous ({flagged / len(self.rows):.1%}) above threshold "
            f"{self.threshold:g}" + (f", {len(self.unscored)} not scored" if self.unscored else "")
        ]
        subsets = self.subsets()
        if not subsets:
            ranked = sorted(self.rows, key=lambda row: -row.score)[:top]
            return lines + [f"  {row.score:9.3f}  {row.item.name}" for row in ranked]
        lines.append(f"{'':<14} {'images':>7} {'flagged':>8} {'AUROC':>7} {'AP':>7} {'BAcc':>7}")
        normal = self.normal_rows
        lines.append(_table_line("normal", normal, None))
        for name, metrics in subsets.items():
            if name in ("observed", "unobserved"):
                members = [row for row in self.rows if row.item.anomalous and row.item.observed is (name == "observed")]
            elif name == "all":
                members = self.rows
            else:
                members = [row for row in self.rows if row.item.group == name]
            lines.append(_table_line(name, members, metrics))
        return lines

    def _groups(self) -> list[str]:
        return sorted({row.item.group for row in self.rows if row.item.group is not None})


def load_items(
    paths: Sequence[Path], bundle: Bundle, labels_file: Path | None = None, classes: Sequence[int] = ()
) -> list[Item]:
    """The images behind the paths, with their labels where known.

    labels_file: CSV with columns name and label. classes: normal classes of labelled sets; the bundle's where empty.
    Raises DataError where a path is missing or holds no image, and for labels that cannot be used.
    """
    items: list[Item] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"no such file or folder: {path}")
        if is_labelled_set(path):
            items += _labelled_items(path, bundle, classes)
        elif path.is_dir():
            items += _folder_items(path)
        elif is_image(path):
            items.append(_file_item(path, str(path), None, None))
        else:
            raise DataError(f"{path} is no image (PNG, JPEG, BMP, TIFF), folder, IDX set or .npz file")
    if not items:
        raise DataError(f"no images in {', '.join(map(str, paths))}")
    return _with_labels(items, labels_file) if labels_file else items


def evaluate(detector: Detector, items: Iterable[Item], heatmaps: Path | None = None) -> Evaluation:
    """Score every item; images that cannot be read or do not fit are listed and left out.

    heatmaps: folder that gets one overlay PNG an image, all on one colour scale.
    """
    evaluation = Evaluation(detector.decision.threshold, detector.bundle.digest)
    for item in items:
        try:
            frame = item.load()
            result = detector.score(frame)
        except (DataError, FrameError) as error:
            logger.warning("not scored: %s", error)
            evaluation.unscored.append((item.name, str(error)))
            continue
        evaluation.rows.append(Row(item, result.score, result.is_anomaly, result.criteria))
        if heatmaps is not None:
            write_image(_heatmap_path(heatmaps, item.name), heatmap_of(detector, frame, result))
    return evaluation


def heatmap_of(detector: Detector, frame: Frame, result: Result) -> Frame:
    """The frame under its anomaly map, (H, W, 3) BGR uint8, enlarged where it is tiny.

    Full colour is the p99 of the training images' brightest pixels, so that the normal stay dim.
    """
    cv2 = require("cv2", extra="camera", purpose="heatmaps")
    heat = detector.heatmap(result, frame.shape)
    factor = max(1, HEATMAP_SIDE // max(frame.shape[:2]))
    if factor > 1:
        size = (frame.shape[1] * factor, frame.shape[0] * factor)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST)
    peak = detector.bundle.manifest["calibration"].get("anomaly_map_peak", {}).get("0.99", 1.0)
    return overlay(frame, heat, float(peak))


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write one line an image: name, group, label, score, is_anomaly and the criteria."""
    criteria = list(evaluation.rows[0].criteria)
    with _open_for_writing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["name", "group", "anomalous", "score", "is_anomaly", *criteria])
        for row in evaluation.rows:
            label = "" if row.item.anomalous is None else int(row.item.anomalous)
            values = [repr(row.criteria[name]) for name in criteria]
            writer.writerow([row.item.name, row.item.group or "", label, repr(row.score), int(row.is_anomaly), *values])


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write model, threshold, metrics, images and what was not scored, as one JSON object."""
    content = {
        "model": f"sha256:{evaluation.model}",
        "threshold": evaluation.threshold,
        "metrics": {name: metrics.to_json() for name, metrics in evaluation.subsets().items()},
        "images": [
            {
                "name": row.item.name,
                "group": row.item.group,
                "anomalous": row.item.anomalous,
                "score": row.score,
                "is_anomaly": row.is_anomaly,
                "criteria": row.criteria,
            }
            for row in evaluation.rows
        ],
        "unscored": [{"name": name, "reason": reason} for name, reason in evaluation.unscored],
    }
    with _open_for_writing(path) as stream:
        json.dump(content, stream, indent=2, allow_nan=False)
        stream.write("\n")


def _labelled_items(path: Path, bundle: Bundle, classes: Sequence[int]) -> list[Item]:
    data = read_labelled(path, "test")
    trained_on = bundle.manifest["training"].get("data", {})
    normal = set(classes or trained_on.get("classes", ()))
    observed = {int(label) for label, _ in trained_on.get("contaminate", ())} if not classes else set()
    if data.labels is not None and not normal:
        raise DataError(f"{path} has classes, the bundle was trained without; name the normal ones: --classes 0")
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


def _folder_items(folder: Path) -> list[Item]:
    files = list_images(folder)
    if not files:
        raise DataError(f"{folder} holds no PNG, JPEG, BMP or TIFF image, at any depth")
    names = {file: file.relative_to(folder) for file in files}
    labelled = any(len(name.parts) > 1 and name.parts[0].lower() == GOOD for name in names.values())
    items = []
    for file, name in names.items():
        group = name.parts[0] if len(name.parts) > 1 else None
        anomalous = group.lower() != GOOD if labelled and group is not None else None
        items.append(_file_item(file, name.as_posix(), group, anomalous))
    return items


def _file_item(file: Path, name: str, group: str | None, anomalous: bool | None) -> Item:
    return Item(name, lambda: read_image(file), group, anomalous)


def _with_labels(items: list[Item], labels_file: Path) -> list[Item]:
    labels = _read_labels(labels_file)
    n_of_name = Counter(Path(item.name).name for item in items)
    labelled = []
    n_named = 0
    for item in items:
        known = labels.get(item.name)
        if known is None and (base := Path(item.name).name) in labels:
            if n_of_name[base] > 1:
                raise DataError(
                    f"{labels_file}: {base} could be any of {n_of_name[base]} images; write its path, {item.name}"
                )
            known = labels[base]
        n_named += known is not None
        labelled.append(item if known is None else Item(item.name, item.load, item.group, known, item.observed))
    if n_named == 0:
        raise DataError(
            f"{labels_file} names none of the images, such as {items[0].name}; names are paths below the folder scored"
        )
    return labelled


def _read_labels(path: Path) -> dict[str, bool]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read labels from {path}: {error}") from error
    labels = {}
    for number, row in enumerate(rows, start=2):
        name, label = row.get("name"), (row.get("label") or "").strip().lower()
        if not name:
            raise DataError(f"{path}, line {number}: expected columns name and label, came {list(row)}")
        if label not in NORMAL_LABELS | ANOMALOUS_LABELS:
            raise DataError(f"{path}, line {number}: label is {label!r}, expected 0 or good, 1 or anomalous")
        labels[name] = label in ANOMALOUS_LABELS
    if not labels:
        raise DataError(f"{path} has no lines below its header; expected columns name and label")
    return labels


def _table_line(name: str, rows: Sequence[Row], metrics: Metrics | None) -> str:
    flagged = np.mean([row.is_anomaly for row in rows]) if rows else math.nan
    line = f"{name:<14} {len(rows):>7} {flagged:>8.1%}"
    if metrics is not None:
        values = (metrics.auroc, metrics.average_precision, metrics.balanced_accuracy)
        line += "".join(f" {'-' if math.isnan(value) else f'{value:.3f}':>7}" for value in values)
    return line


def _heatmap_path(folder: Path, name: str) -> Path:
    relative = Path(*(part for part in Path(name).parts if part not in ("..", "/", ".")))
    return folder / relative.with_name(f"{relative.name}.png")


def _open_for_writing(path: Path) -> Any:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", newline="", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror or error}") from error
