"""A report written out: lines for a terminal, JSON, a page of markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_runtime import __version__
from edge_runtime.files import finite_or_none, json_bytes, write_file
from edge_runtime.metrics import wilson_interval
from edge_runtime.scoring.evaluation import NORMAL
from train.evaluation.pixel_metrics import AUPRO_FPR_LIMIT
from train.evaluation.report import LEVEL, Interval, Report, Subset

__all__ = ["json_of", "lines_of", "markdown_of", "write_json", "write_markdown"]

REPORT_VERSION = 1


def lines_of(report: Report) -> list[str]:
    """The report for a terminal."""
    evaluation = report.evaluation
    left_out = "".join(
        f", {n} {what}"
        for n, what in (
            (report.circumstances.n_excluded, "left out by name"),
            (len(evaluation.unscored), "not scored"),
        )
        if n
    )
    lines = [f"{len(evaluation.rows)} images scored{left_out}; threshold {evaluation.threshold:g}"]
    lines += [f"{name:<14} {flagged} of {n} flagged, {_rate(flagged, n)}" for name, n, flagged in _normal(report)]
    table = _table(report)
    if table:
        lines += [
            "",
            *_aligned(["anomalous", "images", "AUROC", "AP", "FPR@95", "BAcc", "TPR", "F1max (oracle)"], table),
        ]
    pixels = _pixel_table(report)
    if pixels:
        lines += ["", *_aligned(["pixels", "images", "regions", "AUROC", "AP", "AUPRO"], pixels)]
    return [*lines, "", *_notes(report), "", report.verdict.line]


def json_of(report: Report) -> dict[str, Any]:
    """The report as JSON values; images stand in scores.csv."""
    here = report.circumstances
    return {
        "version": REPORT_VERSION,
        "edge_aae": __version__,
        "model": {"path": here.model, "kind": here.kind, "sha256": report.evaluation.model},
        "decision": here.decision.to_json(),
        "size": _size_json(report),
        "data": list(here.data),
        "n_images": len(report.evaluation.rows),
        "n_excluded": here.n_excluded,
        "unscored": [{"name": name, "reason": reason} for name, reason in report.evaluation.unscored],
        "bootstrap": {"n_resamples": here.n_resamples, "seed": here.seed, "level": LEVEL},
        "normal_groups": {
            name: {"n_images": n, "n_flagged": flagged} for name, (n, flagged) in report.normal_groups.items()
        },
        "subsets": {name: _subset_json(subset) for name, subset in report.subsets.items()},
        "masks": {
            "folders": [str(folder) for folder in report.masks.folders],
            "missing": report.masks.missing,
        }
        if report.masks
        else None,
    }


def markdown_of(report: Report, plots: Sequence[str] = ()) -> str:
    """The report as a page; plots: file names to show, beside it."""
    here = report.circumstances
    lines = [
        f"# {here.model} on {', '.join(here.data)}",
        "",
        f"**Verdict:** {report.verdict.sentence}",
        "",
        f"{here.kind.capitalize()} sha256:{report.evaluation.model[:12]}, edge-aae {__version__}. "
        f"{len(report.evaluation.rows)} images scored, {here.n_excluded} left out by name, "
        f"{len(report.evaluation.unscored)} not scored. Threshold {report.evaluation.threshold:g} on the score.",
        "",
        "| normal images | | flagged | FPR |",
        "|---|---|---|---|",
        *(f"| {_cell(name)} | {n} | {flagged} | {_rate(flagged, n)} |" for name, n, flagged in _normal(report)),
        "",
        "| anomalous | images | AUROC | AP | FPR@95TPR | BAcc | TPR | F1max (oracle) |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in _table(report, every_interval=True)),
    ]
    pixels = _pixel_table(report)
    if pixels:
        lines += [
            "",
            "| pixels | images | regions | AUROC | AP | AUPRO |",
            "|---|---|---|---|---|---|",
            *(f"| {' | '.join(map(_cell, row))} |" for row in pixels),
        ]
    lines += ["", *(f"- {note}" for note in _notes(report))]
    for plot in plots:
        lines += ["", f"![{Path(plot).stem.replace('_', ' ')}]({plot})"]
    return "\n".join(lines) + "\n"


def write_json(path: Path, report: Report) -> None:
    """Write json_of. Raises DataError."""
    write_file(path, json_bytes(json_of(report)))


def write_markdown(path: Path, report: Report, plots: Sequence[str] = ()) -> None:
    """Write markdown_of; file names that are no UTF-8 keep their bytes. Raises DataError."""
    write_file(path, markdown_of(report, plots).encode("utf-8", errors="surrogateescape"))


def _normal(report: Report) -> list[tuple[str, int, int]]:
    """Name, images and flagged images of all normal images, and of each group where there are several."""
    rows = report.evaluation.normal_rows()
    whole = (NORMAL, len(rows), sum(row.is_anomaly for row in rows))
    return [whole, *((f"  {name}", *counts) for name, counts in report.normal_groups.items())]


def _table(report: Report, *, every_interval: bool = False) -> list[list[str]]:
    table = []
    for name, subset in report.subsets.items():
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


def _notes(report: Report) -> list[str]:
    here = report.circumstances
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
    if report.masks is not None:
        notes.append(
            f"AUPRO up to a false positive rate of {AUPRO_FPR_LIMIT:g}; masks from "
            f"{', '.join(map(str, report.masks.folders))}"
            + (f", which lacks those of {len(report.masks.missing)} anomalous images." if report.masks.missing else ".")
        )
    return [*notes, *_size_notes(report)]


def _size_json(report: Report) -> dict[str, Any]:
    """What was asked of sizes, and what it came to; null where nothing was asked."""
    small = report.small_defects
    return {
        **report.circumstances.size.to_json(),
        "normal_too_small": _too_small(report, False),
        "anomalous_too_small": _too_small(report, True),
        "small_defects": None if small is None else asdict(small),
    }


def _too_small(report: Report, anomalous: bool) -> int:
    """Images of a label above the threshold that count as normal for their size."""
    return sum(row.too_small for row in report.evaluation.rows if row.item.anomalous is anomalous)


def _size_notes(report: Report) -> list[str]:
    size, small = report.circumstances.size, report.small_defects
    if size.least_px is None:
        return []
    notes = [
        f"Regions below {size.min_area} ({size.least_px:.4g} pixels) do not count: {_too_small(report, False)} normal "
        f"and {_too_small(report, True)} anomalous images above the threshold count as normal for it. Figures without "
        "a threshold, and those of pixels, are as without."
    ]
    if small is not None:
        notes.append(
            f"Of the marked regions {small.regions} are smaller; {small.images} anomalous images have no larger one, "
            f"of which {small.flagged} are flagged."
        )
    return notes


def _subset_json(subset: Subset) -> dict[str, Any]:
    """The figures as JSON values, null where not defined."""
    values = {
        "true_positive_rate": subset.true_positive_rate,
        "false_positive_rate": subset.false_positive_rate,
        "fpr_at_95_tpr": subset.fpr_at_95_tpr,
        "oracle_f1": subset.oracle_f1,
        "oracle_threshold": subset.oracle_threshold,
    }
    return {
        **subset.metrics.to_json(),
        **{name: finite_or_none(value) for name, value in values.items()},
        "intervals": {name: list(bounds) for name, bounds in subset.intervals.items()},
        "pixels": subset.pixels.to_json() if subset.pixels else None,
    }


def _pixel_table(report: Report) -> list[list[str]]:
    """Of the subsets that have masks."""
    return [
        [name, str(of.n_images), str(of.n_regions), _figure(of.auroc), _figure(of.average_precision), _figure(of.aupro)]
        for name, subset in report.subsets.items()
        if (of := subset.pixels)
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
