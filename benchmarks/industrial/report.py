"""industrial.md: what table.py found, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any

__all__ = ["markdown"]


def markdown(found: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of industrial.md, from finished jobs."""
    groups = sorted({group for result in found for group in result["auroc"]} - {"all"})
    yield "# Magnetic tile, from scratch"
    yield ""
    yield "Made by `benchmarks/industrial/table.py`. Image AUROC of the fused score; the test set of a contaminated run"
    yield "lacks the defects that were mixed in. **Every normal test photograph shows a tile that is in the training"
    yield "set too** ([twins](twins.md)); `twins-out` trains without those. FPR: share of normal test photographs"
    yield "flagged, where 1 % and 5 % were asked for. Minutes are those of the training epochs, on the threads named,"
    yield "of a machine that may have had other work."
    yield ""
    header = [
        "job",
        "AUROC",
        "95 %",
        *groups,
        "pixel AUROC",
        "AUPRO",
        "FPR at 1 %",
        "FPR at 5 %",
        "TPR",
        "min",
        "threads",
    ]
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for result in found:
        pixel = result["pixel"] or {}
        interval = "-".join(f"{value:.3f}" for value in result["auroc_interval"])
        yield (
            f"| {result['job']} | {_figure(result['auroc']['all'])} | {interval} | "
            f"{' | '.join(_figure(result['auroc'].get(group)) for group in groups)} | "
            f"{_figure(pixel.get('auroc'))} | {_figure(pixel.get('aupro'))} | "
            f"{_figure(result['false_alarms']['asked 0.01'])} | {_figure(result['false_alarms']['asked 0.05'])} | "
            f"{_figure(result['tpr'])} | {result['epoch_minutes']:.1f} | {result['threads']} |"
        )
    yield ""
    for kind in dict.fromkeys(_kind(result) for result in found):
        of_kind = [result["auroc"]["all"] for result in found if _kind(result) == kind]
        if len(of_kind) > 1:
            mean, spread = statistics.mean(of_kind), statistics.stdev(of_kind)
            yield f"{kind}: mean {mean:.3f}, sd {spread:.3f} over {len(of_kind)} seeds."
    yield ""
    for result in found:
        if "note" in result:  # written by hand into a job's file
            yield f"{result['job']}: {result['note']}"
            yield ""
    yield "What was mixed in, and how much of it the run rejected before its last network was trained:"
    yield ""
    yield "| job | photographs | mixed in | of them rejected | rejected in all | parameters | epochs |"
    yield "|---|---|---|---|---|---|---|"
    for result in found:
        yield (
            f"| {result['job']} | {result['n_train']} | {result['n_mixed_in']} | {result['mixed_in_rejected']} | "
            f"{result['n_rejected']} | {result['parameters']:,} | {result['epochs']} |"
        )
    yield ""
    yield "AUROC of each criterion alone, and its weight in the fused score (0: it takes no part):"
    yield ""
    yield f"| job | criterion | weight | all | {' | '.join(groups)} |"
    yield "|---" * (4 + len(groups)) + "|"
    for result in found:
        terms = result["decision"].get("terms", {})
        for name, values in result["auroc_of_criteria"].items():
            weight = terms.get(name, {}).get("weight", 0.0)
            yield (
                f"| {result['job']} | {name} | {weight:.3f} | {_figure(values.get('all'))} | "
                f"{' | '.join(_figure(values.get(group)) for group in groups)} |"
            )


def _kind(result: dict[str, Any]) -> str:
    """The job's name without its seed: runs that a mean may be taken of."""
    return str(result["job"]).rpartition("-seed")[0]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
