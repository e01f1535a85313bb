"""What scored, labelled images come to: every figure of `edge-aae evaluate`, for a terminal, as JSON and as markdown.

Needs no torch. edge_runtime/scoring/evaluation.py scores the images, train/evaluation/plots.py draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime import __version__
from edge_runtime.errors import DataError
from edge_runtime.files import finite_or_none, json_bytes, write_file
from edge_runtime.metrics import best_f1, bootstrap, fpr_at_tpr, wilson_interval
from edge_runtime.model.score import Decision
from edge_runtime.scoring.evaluation import ALL, NORMAL, Evaluation, Metrics, Row
from train.evaluation.pixel_metrics import AUPRO_FPR_LIMIT, Masks, PixelMetrics, PixelTally

__all__ = ["Circumstances", "Report", "Subset", "report_of"]

REPORT_VERSION = 1
LEVEL = 0.95
"""Of the intervals."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What was evaluated, on what, and how: printed with the figures, so that they can be made again."""

    model: str
    """Path of the run folder or bundle"""
    kind: str
    """run, scored in PyTorch, or bundle, through onnxruntime"""
    data: Sequence[str]
    """Paths as they were named"""
    decision: Decision
    n_excluded: int = 0
    """Images left out by name"""
    n_resamples: int = 1000
    """Of the bootstrap; 0 gives no intervals but those of rates"""
    seed: int = 0
    """Of the bootstrap"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """The figures of one subset: its anomalous images against all normal ones. NaN where not defined."""

    metrics: Metrics
    true_positive_rate: float
    """Share of the anomalous images above the deployed threshold"""
    false_positive_rate: float
    """Share of the normal images above it: the same in every subset"""
    fpr_at_95_tpr: float
    oracle_f1: float
    """The highest F1 of any threshold, chosen on these very labels: out of a deployed detector's reach"""
    oracle_threshold: float
    intervals: dict[str, Interval]
    """By figure, level LEVEL; the rates' are Wilson's, the others' the bootstrap's"""
    pixels: PixelMetrics | None
    """None without masks"""

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON values, null where not defined."""
        values = {
            "true_positive_rate": self.true_positive_rate,
            "false_positive_rate": self.false_positive_rate,
            "fpr_at_95_tpr": self.fpr_at_95_tpr,
            "oracle_f1": self.oracle_f1,
            "oracle_threshold": self.oracle_threshold,
        }
        return {
            **self.metrics.to_json(),
            **{name: finite_or_none(value) for name, value in values.items()},
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "pixels": self.pixels.to_json() if self.pixels else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """An evaluation with every figure."""

    evaluation: Evaluation
    circumstances: Circumstances
    subsets: dict[str, Subset]
    """all; each anomalous group; observed and unobserved: as Evaluation.rows_of_subsets names them"""
    normal_groups: dict[str, tuple[int, int]]
    """Images and how many were flagged, of each group of normal images where there are several"""
    masks: Masks | None

    def lines(self) -> list[str]:
        """The report for a terminal."""
        evaluation = self.evaluation
        left_out = "".join(
            f", {n} {what}"
            for n, what in (
                (self.circumstances.n_excluded, "left out by name"),
                (len(evaluation.unscored), "not scored"),
            )
            if n
        )
        lines = [f"{len(evaluation.rows)} images scored{left_out}; threshold {evaluation.threshold:g}"]
        lines += [f"{name:<14} {flagged} of {n} flagged, {_rate(flagged, n)}" for name, n, flagged in self._normal()]
        table = self._table()
        if table:
            lines += [
                "",
                *_aligned(["anomalous", "images", "AUROC", "AP", "FPR@95", "BAcc", "TPR", "F1max (oracle)"], table),
            ]
        pixels = [(name, subset.pixels) for name, subset in self.subsets.items() if subset.pixels]
        if pixels:
            lines += ["", *_aligned(["pixels", "images", "regions", "AUROC", "AP", "AUPRO"], _pixel_table(pixels))]
        return [*lines, "", *self._notes()]

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; images stand in scores.csv."""
        here = self.circumstances
        return {
            "version": REPORT_VERSION,
            "edge_aae": __version__,
            "model": {"path": here.model, "kind": here.kind, "sha256": self.evaluation.model},
            "decision": here.decision.to_json(),
            "data": list(here.data),
            "n_images": len(self.evaluation.rows),
            "n_excluded": here.n_excluded,
            "unscored": [{"name": name, "reason": reason} for name, reason in self.evaluation.unscored],
            "bootstrap": {"n_resamples": here.n_resamples, "seed": here.seed, "level": LEVEL},
            "normal_groups": {
                name: {"n_images": n, "n_flagged": flagged} for name, (n, flagged) in self.normal_groups.items()
            },
            "subsets": {name: subset.to_json() for name, subset in self.subsets.items()},
            "masks": {
                "folders": [str(folder) for folder in self.masks.folders],
                "missing": self.masks.missing,
            }
            if self.masks
            else None,
        }

    def to_markdown(self, plots: Sequence[str] = ()) -> str:
        """The report as a page; plots: file names to show, beside it."""
        here = self.circumstances
        lines = [
            f"# {here.model} on {', '.join(here.data)}",
            "",
            f"{here.kind.capitalize()} sha256:{self.evaluation.model[:12]}, edge-aae {__version__}. "
            f"{len(self.evaluation.rows)} images scored, {here.n_excluded} left out by name, "
            f"{len(self.evaluation.unscored)} not scored. Threshold {self.evaluation.threshold:g} on the score.",
            "",
            "| normal images | | flagged | FPR |",
            "|---|---|---|---|",
            *(f"| {_cell(name)} | {n} | {flagged} | {_rate(flagged, n)} |" for name, n, flagged in self._normal()),
            "",
            "| anomalous | images | AUROC | AP | FPR@95TPR | BAcc | TPR | F1max (oracle) |",
            "|---|---|---|---|---|---|---|---|",
            *(f"| {' | '.join(map(_cell, row))} |" for row in self._table(every_interval=True)),
        ]
        pixels = [(name, subset.pixels) for name, subset in self.subsets.items() if subset.pixels]
        if pixels:
            lines += [
                "",
                "| pixels | images | regions | AUROC | AP | AUPRO |",
                "|---|---|---|---|---|---|",
                *(f"| {' | '.join(map(_cell, row))} |" for row in _pixel_table(pixels)),
            ]
        lines += ["", *(f"- {note}" for note in self._notes())]
        for plot in plots:
            lines += ["", f"![{Path(plot).stem.replace('_', ' ')}]({plot})"]
        return "\n".join(lines) + "\n"

    def write_json(self, path: Path) -> None:
        """Write to_json. Raises DataError."""
        write_file(path, json_bytes(self.to_json()))

    def write_markdown(self, path: Path, plots: Sequence[str] = ()) -> None:
        """Write to_markdown; file names that are no UTF-8 keep their bytes. Raises DataError."""
        write_file(path, self.to_markdown(plots).encode("utf-8", errors="surrogateescape"))

    def _normal(self) -> list[tuple[str, int, int]]:
        """Name, images and flagged images of all normal images, and of each group where there are several."""
        rows = self.evaluation.normal_rows()
        whole = (NORMAL, len(rows), sum(row.is_anomaly for row in rows))
        return [whole, *((f"  {name}", *counts) for name, counts in self.normal_groups.items())]

    def _table(self, *, every_interval: bool = False) -> list[list[str]]:
        table = []
        for name, subset in self.subsets.items():
            if not subset.metrics.n_anomalous:
                continue
            bounds = subset.intervals
            shown = bounds if every_interval else {key: bounds[key] for key in ("auroc",) if key in bounds}
            table.append(
                [
                    name,
                    str(subset.metrics.n_anomalous),
                    _figure(subset.metrics.auroc, shown.get("auroc")),
                    _figure(subset.metrics.average_precision, shown.get("average_precision")),
                    _figure(subset.fpr_at_95_tpr, shown.get("fpr_at_95_tpr")),
                    _figure(subset.metrics.balanced_accuracy, shown.get("balanced_accuracy")),
                    _figure(subset.true_positive_rate, shown.get("true_positive_rate")),
                    _figure(subset.oracle_f1),
                ]
            )
        return table

    def _notes(self) -> list[str]:
        here = self.circumstances
        notes = [
            "BAcc, TPR and FPR are at the deployed threshold.",
            "F1max is an oracle: its threshold is chosen on these very labels.",
            f"Intervals: {LEVEL:.0%}; of TPR and FPR Wilson's"
            + (
                f", the others by {here.n_resamples} bootstrap resamples of the images, seed {here.seed}. "
                "Training's own variance is not in them."
                if here.n_resamples
                else "; no bootstrap."
            ),
        ]
        if self.masks is not None:
            notes.append(
                f"AUPRO up to a false positive rate of {AUPRO_FPR_LIMIT:g}; masks from "
                f"{', '.join(map(str, self.masks.folders))}"
                + (f", which lacks those of {len(self.masks.missing)} anomalous images." if self.masks.missing else ".")
            )
        return notes


def report_of(evaluation: Evaluation, circumstances: Circumstances, tally: PixelTally | None = None) -> Report:
    """Every figure of the scored images. tally: was filled while they were scored, where there are masks.

    Raises DataError where no scored image has a label.
    """
    if not any(row.item.anomalous is not None for row in evaluation.rows):
        raise DataError("no image that could be scored has a label; `edge-aae score` scores images without")
    normal = evaluation.normal_rows()
    subsets = {
        name: _subset(rows if name == ALL else [*normal, *rows], circumstances, tally)
        for name, rows in evaluation.rows_of_subsets().items()
    }
    groups = {row.item.group for row in normal if row.item.group is not None}
    return Report(
        evaluation=evaluation,
        circumstances=circumstances,
        subsets=subsets,
        normal_groups={
            name: (len(own), sum(row.is_anomaly for row in own))
            for name in sorted(groups)
            if (own := [row for row in normal if row.item.group == name]) and len(groups) > 1
        },
        masks=tally.masks if tally else None,
    )


def _subset(rows: Sequence[Row], circumstances: Circumstances, tally: PixelTally | None) -> Subset:
    labelled = [row for row in rows if row.item.anomalous is not None]
    anomalous = np.array([row.item.anomalous for row in labelled], dtype=bool)
    scores = np.array([row.score for row in labelled], dtype=np.float64)
    flagged = np.array([row.is_anomaly for row in labelled], dtype=bool)
    # One generator a subset: a group more or less leaves the others' intervals as they are.
    rng = np.random.default_rng(circumstances.seed)
    intervals = bootstrap(scores, flagged, anomalous, n_resamples=circumstances.n_resamples, rng=rng, level=LEVEL)
    rates = {}
    for name, of_label in (("true_positive_rate", anomalous), ("false_positive_rate", ~anomalous)):
        n, hits = int(of_label.sum()), int(flagged[of_label].sum())
        rates[name] = hits / n if n else math.nan
        if n:
            intervals[name] = wilson_interval(hits, n, LEVEL)
    oracle_f1, oracle_threshold = best_f1(scores, anomalous)
    return Subset(
        metrics=Metrics.of(labelled),
        true_positive_rate=rates["true_positive_rate"],
        false_positive_rate=rates["false_positive_rate"],
        fpr_at_95_tpr=fpr_at_tpr(scores, anomalous),
        oracle_f1=oracle_f1,
        oracle_threshold=oracle_threshold,
        intervals=intervals,
        pixels=tally.metrics_of(labelled) if tally else None,
    )


def _pixel_table(pixels: Sequence[tuple[str, PixelMetrics]]) -> list[list[str]]:
    return [
        [name, str(of.n_images), str(of.n_regions), _figure(of.auroc), _figure(of.average_precision), _figure(of.aupro)]
        for name, of in pixels
    ]


def _figure(value: float, bounds: Interval | None = None) -> str:
    """`0.833 [0.750, 0.917]`, `0.833`, or `-` where it is not defined."""
    if math.isnan(value):
        return "-"
    return f"{value:.3f}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "")


def _rate(n_flagged: int, n: int) -> str:
    return _figure(n_flagged / n, wilson_interval(n_flagged, n, LEVEL)) if n else "-"


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right, two spaces between."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    widths[0] = max(widths[0], 14)
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (header, *rows)
    ]


def _cell(text: str) -> str:
    """Text as a cell of a markdown table."""
    return text.strip().replace("|", "\\|").replace("\n", " ")
