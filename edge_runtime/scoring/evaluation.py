"""Scoring sets of images, with metrics where labels are known: `edge-aae score` and `evaluate`. Needs no torch."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, FrameError
from edge_runtime.files import csv_bytes, json_bytes, write_file
from edge_runtime.metrics import Metrics, bootstrap
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize
from edge_runtime.model.image_quality import Fault, told
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.score import Decision
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.heatmap import HeatScale, enlarged_overlay
from edge_runtime.scoring.image_items import Item
from edge_runtime.scoring.regions import Region, regions_of, without_small
from edge_runtime.scoring.result import Result
from edge_runtime.verdict import ModelVerdict, verdict_on_labelled

__all__ = [
    "ALL",
    "NORMAL",
    "OBSERVED",
    "SUBSETS",
    "UNOBSERVED",
    "BundleScorer",
    "Evaluation",
    "ImageScorer",
    "Row",
    "ScoredImage",
    "evaluate",
    "heatmap_of",
    "labelled_arrays",
    "picture_path",
    "score_items",
    "write_csv",
    "write_json",
]

logger = logging.getLogger(__name__)

ALL, NORMAL, OBSERVED, UNOBSERVED = "all", "normal", "observed", "unobserved"
SUBSETS = frozenset({ALL, NORMAL, OBSERVED, UNOBSERVED})
"""Names in the table that are no group's."""


N_RESAMPLES, BOOTSTRAP_SEED = 1000, 0
"""Of the verdict's interval where none is at hand: those of `edge-aae evaluate` unless asked otherwise."""


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """What a scorer finds in one frame."""

    score: float
    """Fused anomaly score, higher = more anomalous"""
    is_anomaly: bool
    criteria: dict[str, float]
    """Raw criteria by name"""
    heatmap: Callable[[], NDArray[np.float32]]
    """Gives the anomaly map in frame coordinates, (H, W); worked out when it is called"""
    too_small: bool = False
    """Whether the score lies above the threshold and all that the map shows is too small"""
    faults: tuple[Fault, ...] | None = None
    """How the picture differs from those trained on; None where that is not known"""
    unknown: bool = False
    """Whether it is therefore neither normal nor anomalous"""


class ImageScorer(Protocol):
    """A model that scores one image at a time: a detector, or a run in PyTorch (train/evaluation/run_scorer.py)."""

    @property
    def digest(self) -> str:
        """SHA-256 that names the model."""

    @property
    def decision(self) -> Decision:
        """The rule and threshold in force."""

    @property
    def heat_scale(self) -> HeatScale:
        """The colours of the anomaly map, and above which value regions lie."""

    @property
    def size(self) -> DefectSize:
        """How large a pixel is, and from which area on a region counts."""

    def score(self, frame: Frame) -> ScoredImage:
        """Score one frame, (H, W) or (H, W, 3) BGR uint8; raises FrameError for other shapes and dtypes."""


@dataclass(frozen=True, slots=True)
class BundleScorer:
    """A bundle's detector as an ImageScorer."""

    detector: Detector

    @property
    def digest(self) -> str:
        """SHA-256 of the bundle's manifest."""
        return self.detector.bundle.digest

    @property
    def decision(self) -> Decision:
        """The rule and threshold in force."""
        return self.detector.decision

    @property
    def heat_scale(self) -> HeatScale:
        """By the training images' brightest pixels, so that the normal stay as they are."""
        return self.detector.heat_scale

    @property
    def size(self) -> DefectSize:
        """How large a pixel is, and from which area on a region counts."""
        return self.detector.size

    def score(self, frame: Frame) -> ScoredImage:
        """Score one frame."""
        result = self.detector.score(frame)
        heatmap = partial(result.heatmap, frame.shape)
        return ScoredImage(
            result.score,
            result.is_anomaly,
            result.criteria,
            heatmap,
            result.too_small,
            result.faults,
            result.unknown,
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One scored image."""

    item: Item
    score: float
    is_anomaly: bool
    criteria: dict[str, float]
    too_small: bool = False
    regions: tuple[Region, ...] | None = None
    """Where it is anomalous; None where nobody asked"""
    faults: tuple[Fault, ...] | None = None
    """How the picture differs from those trained on; None where that is not known"""
    unknown: bool = False
    """Whether it is therefore neither normal nor anomalous, and counts in no figure"""


@dataclass(slots=True)
class Evaluation:
    """Scored images and what they come to."""

    threshold: float
    model: str
    """The scorer's digest"""
    rows: list[Row] = field(default_factory=list)
    unscored: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason)"""
    size: DefectSize = MEASURED_IN_PIXELS
    """How large a pixel is, and from which area on a region counts"""
    times_ms: list[float] = field(default_factory=list)
    """What scoring each image took, from the frame to the score, on this machine; empty where nobody measured"""

    @property
    def time_ms(self) -> float | None:
        """The median of them; None where nobody measured."""
        return statistics.median(self.times_ms) if self.times_ms else None

    def subsets(self) -> dict[str, Metrics]:
        """Metrics by subset: all; each anomalous group against all normal images; observed and unobserved anomalies.

        Observed and unobserved are the test sets of arXiv 1901.06355 section 5. A group with the name of another
        subset is called `name/`. Empty without labels.
        """
        return {name: Metrics.of(*labelled_arrays(rows)) for name, rows in self.rows_against_normal().items()}

    def lines(self, top: int) -> list[str]:
        """The report for a terminal: a table where labels are known, the highest scores where not."""
        flagged = sum(row.is_anomaly for row in self.rows)
        share = f" ({flagged / len(self.rows):.1%})" if self.rows else ""
        lines = [
            f"{len(self.rows)} images scored, {flagged} anomalous{share} above threshold {self.threshold:g}"
            + (f", {len(self.unscored)} not scored" if self.unscored else "")
        ]
        if self.size.least_px is not None:
            lines.append(f"{self.n_too_small} above it are normal: all they show is below {self.size.min_area}")
        lines += self._picture_lines()
        subsets = self.subsets()
        if not subsets:
            ranked = sorted(self.rows, key=lambda row: -row.score)[:top]
            return lines + [f"  {row.score:9.3f}  {row.item.name}" for row in ranked]
        lines.append(f"{'':<14} {'images':>7} {'flagged':>8} {'AUROC':>7} {'AP':>7} {'BAcc':>7}")
        lines.append(_table_line(NORMAL, self.normal_rows(), None))
        rows_of = self.rows_of_subsets()
        return lines + [_table_line(name, rows_of[name], metrics) for name, metrics in subsets.items()]

    def verdict(self, intervals: Mapping[str, tuple[float, float]] | None = None) -> ModelVerdict | None:
        """The verdict from the labelled images, None without. intervals: of bootstrap; None draws the resamples."""
        scores, flagged, anomalous = labelled_arrays(self.rows)
        if not len(scores):
            return None
        if intervals is None:
            rng = np.random.default_rng(BOOTSTRAP_SEED)
            intervals = bootstrap(scores, flagged, anomalous, n_resamples=N_RESAMPLES, rng=rng)
        return verdict_on_labelled(
            n_defects=int(anomalous.sum()),
            n_found=int(flagged[anomalous].sum()),
            n_good=int((~anomalous).sum()),
            n_alarms=int(flagged[~anomalous].sum()),
            auroc=Metrics.of(scores, flagged, anomalous).auroc,
            interval=intervals.get("auroc"),
        )

    def _picture_lines(self) -> list[str]:
        line = told([row.item.name for row in self.rows], [row.faults or () for row in self.rows])
        if line is None:
            return []
        n_unknown = sum(row.unknown for row in self.rows)
        return [f"{line}" + (f"; {n_unknown} unknown, in no figure" if n_unknown else "")]

    @property
    def n_too_small(self) -> int:
        """Images above the threshold that count as normal, for all that their maps show is too small."""
        return sum(row.too_small for row in self.rows)

    def normal_rows(self) -> list[Row]:
        """The images that are labelled normal."""
        return [row for row in self.rows if row.item.anomalous is False and not row.unknown]

    def rows_of_subsets(self) -> dict[str, list[Row]]:
        """Every row under `all`; under each other name its anomalous rows. Empty without labels."""
        known = [row for row in self.rows if not row.unknown]
        if not any(row.item.anomalous is not None for row in known):
            return {}
        anomalous = [row for row in known if row.item.anomalous]
        found = {ALL: known}
        for group in sorted({row.item.group for row in anomalous if row.item.group is not None}):
            name = f"{group}/" if group in SUBSETS else group
            found[name] = [row for row in anomalous if row.item.group == group]
        for name, wanted in ((OBSERVED, True), (UNOBSERVED, False)):
            members = [row for row in anomalous if row.item.observed is wanted]
            if members:
                found[name] = members
        return found

    def rows_against_normal(self) -> dict[str, list[Row]]:
        """What the metrics of each subset are of: its rows and all normal ones; every row under `all`."""
        normal = self.normal_rows()
        return {name: rows if name == ALL else [*normal, *rows] for name, rows in self.rows_of_subsets().items()}


def labelled_arrays(rows: Sequence[Row]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Scores, whether flagged, and whether anomalous, (N,) each, of the rows that have a label and are not unknown."""
    labelled = [row for row in rows if row.item.anomalous is not None and not row.unknown]
    return (
        np.array([row.score for row in labelled], dtype=np.float64),
        np.array([row.is_anomaly for row in labelled], dtype=bool),
        np.array([row.item.anomalous for row in labelled], dtype=bool),
    )


def evaluate(detector: Detector, items: Iterable[Item], heatmaps: Path | None = None) -> Evaluation:
    """Score every item with a bundle's detector; see score_items."""
    return score_items(BundleScorer(detector), items, heatmaps)


def score_items(
    scorer: ImageScorer,
    items: Iterable[Item],
    heatmaps: Path | None = None,
    on_scored: Callable[[Row, ScoredImage], None] | None = None,
    *,
    regions: bool = False,
) -> Evaluation:
    """Score every item; images that cannot be read or do not fit are listed and left out.

    heatmaps: folder that gets one overlay PNG an image, all on one colour scale. on_scored: is called for each row
    while its anomaly map can still be had; what it raises ends the evaluation. regions: whether rows say where.
    """
    evaluation = Evaluation(scorer.decision.threshold, scorer.digest, size=scorer.size)
    for item in items:
        try:
            frame = item.load()
            started_s = time.perf_counter()
            scored = scorer.score(frame)
            taken_ms = 1000.0 * (time.perf_counter() - started_s)
        except (DataError, FrameError) as error:
            logger.warning("not scored: %s", error)
            evaluation.unscored.append((item.name, str(error)))
            continue
        found = _regions(scored, scorer) if regions else None
        row = Row(
            item,
            scored.score,
            scored.is_anomaly,
            scored.criteria,
            scored.too_small,
            found,
            scored.faults,
            scored.unknown,
        )
        evaluation.rows.append(row)
        evaluation.times_ms.append(taken_ms)
        if heatmaps is not None:
            heat = scored.heatmap()
            if scored.is_anomaly or scored.too_small:
                heat = without_small(heat, scorer.heat_scale.peak, scorer.size)
            write_image(picture_path(heatmaps, item.name), enlarged_overlay(frame, heat, scorer.heat_scale))
        if on_scored is not None:
            on_scored(row, scored)
    return evaluation


def heatmap_of(detector: Detector, frame: Frame, result: Result) -> Frame:
    """The frame under its anomaly map, (H, W, 3) BGR uint8, enlarged where it is tiny."""
    return enlarged_overlay(frame, result.shown_heatmap(frame.shape), detector.heat_scale)


def picture_path(folder: Path, name: str) -> Path:
    """Where the picture of an image lies below a folder: as it is called, and .png; never outside."""
    relative = Path(*(part for part in Path(name).parts if part not in ("..", "/", ".")))
    return folder / relative.with_name(f"{relative.name}.png")


def _regions(scored: ScoredImage, scorer: ImageScorer) -> tuple[Region, ...]:
    return tuple(regions_of(scored.heatmap(), scorer.heat_scale.peak, scorer.size)) if scored.is_anomaly else ()


def write_csv(path: Path, evaluation: Evaluation) -> None:
    """Write one line an image: name, group, label, score, is_anomaly, the criteria, with a smallest area whether all it
    shows is too small, and, where the bundle can tell, what is wrong with the picture. Raises DataError."""
    criteria = list(evaluation.rows[0].criteria) if evaluation.rows else []
    has_least = evaluation.size.least_px is not None
    has_quality = any(row.faults is not None for row in evaluation.rows)
    rows: list[list[object]] = []
    for row in evaluation.rows:
        label = "" if row.item.anomalous is None else int(row.item.anomalous)
        values: list[object] = [repr(row.criteria[name]) for name in criteria]
        if has_least:
            values.append(int(row.too_small))
        if has_quality:
            values.append("; ".join(fault.what for fault in row.faults or ()))
        decided = "" if row.unknown else int(row.is_anomaly)
        rows.append([row.item.name, row.item.group or "", label, repr(row.score), decided, *values])
    last = [*(["too_small"] if has_least else []), *(["image_quality"] if has_quality else [])]
    header = ["name", "group", "anomalous", "score", "is_anomaly", *criteria, *last]
    write_file(path, csv_bytes(header, rows))


def write_json(path: Path, evaluation: Evaluation) -> None:
    """Write model, threshold, metrics, images and what was not scored, as one JSON object: with sizes where such are
    asked, with regions where the rows have them. Raises DataError."""
    content = {
        "model": f"sha256:{evaluation.model}",
        "threshold": evaluation.threshold,
        **(evaluation.size.to_json() if evaluation.size else {}),
        "metrics": {name: metrics.to_json() for name, metrics in evaluation.subsets().items()},
        "images": [
            {
                "name": row.item.name,
                "group": row.item.group,
                "anomalous": row.item.anomalous,
                "score": row.score,
                "is_anomaly": None if row.unknown else row.is_anomaly,
                **({} if row.faults is None else {"image_quality": [fault.to_json() for fault in row.faults]}),
                **({} if evaluation.size.least_px is None else {"too_small": row.too_small}),
                "criteria": row.criteria,
                **({} if row.regions is None else {"regions": [region.to_json() for region in row.regions]}),
            }
            for row in evaluation.rows
        ],
        "unscored": [{"name": name, "reason": reason} for name, reason in evaluation.unscored],
    }
    write_file(path, json_bytes(content))


def _table_line(name: str, rows: Sequence[Row], metrics: Metrics | None) -> str:
    flagged = f"{sum(row.is_anomaly for row in rows) / len(rows):.1%}" if rows else "-"
    line = f"{name:<14} {len(rows):>7} {flagged:>8}"
    if metrics is not None:
        values = (metrics.auroc, metrics.average_precision, metrics.balanced_accuracy)
        line += "".join(f" {'-' if math.isnan(value) else f'{value:.3f}':>7}" for value in values)
    return line
