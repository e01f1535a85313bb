"""Plots of an evaluation: ROC, precision-recall, score histogram, scores by group. Needs matplotlib, no torch."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_runtime.files import write_file
from edge_runtime.metrics import counts_at_thresholds
from edge_runtime.scoring.evaluation import ALL, NORMAL, OBSERVED, SUBSETS, UNOBSERVED, Evaluation, Row, labelled_arrays
from train.evaluation.report import Report

__all__ = ["PLOTS", "plot_report"]

matplotlib.use("Agg")

PLOTS = ("roc.png", "precision_recall.png", "scores.png", "groups.png")

NORMAL_COLOUR, ANOMALOUS_COLOUR, ALL_COLOUR = "#4c78a8", "#e45756", "black"
MAX_CURVES = 10
"""Groups with a curve of their own: matplotlib's colour cycle has ten, and more cannot be told apart."""
RIGHT_EDGE = 0.99
"""Quantile of the scores at which an axis ends, so that one far image does not squeeze all others into one bar."""
N_BINS = 60
DOTS = 400
"""Images drawn as dots in one group; the box above them is of all."""
DPI = 110


def plot_report(folder: Path, report: Report) -> list[str]:
    """Write the plots that the labels allow into the folder; returns their names. Raises DataError.

    Without normal or without anomalous images there are no curves.
    """
    drawn = figures_of(report)
    for name, figure in drawn:
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=DPI)
        write_file(folder / name, content.getvalue())
    return [name for name, _ in drawn]


def figures_of(report: Report) -> list[tuple[str, Figure]]:
    """File name and figure of every plot that the labels allow."""
    drawn = [("scores.png", _scores(report.evaluation)), ("groups.png", _groups(report))]
    metrics = report.subsets[ALL].metrics
    if metrics.n_normal and metrics.n_anomalous:
        drawn = [("roc.png", _roc(report)), ("precision_recall.png", _precision_recall(report)), *drawn]
    return drawn


def _roc(report: Report) -> Figure:
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    for name, rows, style in _curves(report):
        scores, _, anomalous = labelled_arrays(rows)
        counts = counts_at_thresholds(scores, anomalous)
        axes.plot(
            np.concatenate(([0.0], counts.false_positives / (~anomalous).sum())),
            np.concatenate(([0.0], counts.true_positives / anomalous.sum())),
            label=f"{_plain(name)}  {report.subsets[name].metrics.auroc:.3f}",
            **style,
        )
    whole = report.subsets[ALL]
    _mark_deployed(axes, whole.false_positive_rate, whole.true_positive_rate, report.evaluation.threshold)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.set_title("ROC")
    axes.legend(loc="lower right", fontsize="small", title="AUROC", title_fontsize="small")
    return figure


def _precision_recall(report: Report) -> Figure:
    """Steps, not slopes: average precision is the area below the steps."""
    figure = Figure(figsize=(6, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, rows, style in _curves(report):
        scores, _, anomalous = labelled_arrays(rows)
        counts = counts_at_thresholds(scores, anomalous)
        area = report.subsets[name].metrics.average_precision
        precision = counts.true_positives / (counts.true_positives + counts.false_positives)
        axes.plot(
            np.concatenate(([0.0], counts.true_positives / anomalous.sum())),
            np.concatenate((precision[:1], precision)),
            drawstyle="steps-pre",
            label=f"{_plain(name)}  {area:.3f}, chance {anomalous.mean():.3f}",
            **style,
        )
    whole = report.subsets[ALL]
    n_found = whole.true_positive_rate * whole.metrics.n_anomalous
    n_flagged = n_found + whole.false_positive_rate * whole.metrics.n_normal
    if n_flagged:
        _mark_deployed(axes, whole.true_positive_rate, n_found / n_flagged, report.evaluation.threshold)
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), title="precision and recall")
    axes.legend(loc="best", fontsize="small", title="average precision", title_fontsize="small")
    return figure


def _scores(evaluation: Evaluation) -> Figure:
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    scores, _, anomalous = labelled_arrays(evaluation.rows)
    right = _right_edge(scores, evaluation.threshold)
    left = min(float(scores.min()), evaluation.threshold)
    edges = np.linspace(left, right, N_BINS + 1)
    for name, members, colour in ((NORMAL, ~anomalous, NORMAL_COLOUR), ("anomalous", anomalous, ANOMALOUS_COLOUR)):
        n = int(members.sum())
        if n:
            # Shares, so that few anomalies among many normal images are seen; what lies beyond is in the last bar.
            axes.hist(
                np.minimum(scores[members], right),
                edges.tolist(),
                weights=np.full(n, 1.0 / n),
                color=colour,
                alpha=0.6,
                label=f"{name} ({n})",
            )
    _threshold_line(axes, evaluation.threshold)
    beyond = int((scores > right).sum())
    axes.set(xlabel="score" + (f" ({beyond} beyond the right edge, in the last bar)" if beyond else ""))
    axes.set(ylabel="share of the images of its label", title="scores")
    axes.legend(loc="best")
    return figure


def _groups(report: Report) -> Figure:
    """One line a group: every image as a dot below a box of the quartiles, whiskers at p5 and p95."""
    groups, threshold = _named_groups(report), report.evaluation.threshold
    figure = Figure(figsize=(8, 1.4 + 0.5 * len(groups)), layout="constrained")
    axes = figure.subplots()
    everything = np.array([row.score for _, rows in groups for row in rows])
    right = _right_edge(everything, threshold)
    rng = np.random.default_rng(0)
    for place, (_, rows) in enumerate(groups):
        scores = np.array([row.score for row in rows])
        colour = ANOMALOUS_COLOUR if rows[0].item.anomalous else NORMAL_COLOUR
        shown = scores if len(scores) <= DOTS else rng.choice(scores, DOTS, replace=False)
        axes.plot(
            np.minimum(shown, right),
            place + rng.uniform(-0.3, 0.3, len(shown)),
            ".",
            color=colour,
            markersize=3,
            alpha=0.45,
        )
        axes.boxplot(
            np.minimum(scores, right),
            positions=[place],
            orientation="horizontal",
            widths=0.45,
            whis=(5, 95),
            showfliers=False,
            medianprops={"color": "black", "linewidth": 1.5},
        )
    _threshold_line(axes, threshold)
    axes.set_yticks(
        range(len(groups)),
        [f"{_plain(name)} ({len(rows)})\n{_flagged(rows):.1%} flagged" for name, rows in groups],
        fontsize="small",
    )
    axes.invert_yaxis()
    edge_note = " (images beyond the right edge are drawn on it)" if (everything > right).any() else ""
    axes.set(xlabel="score" + edge_note, title="scores by group")
    axes.legend(loc="lower right", fontsize="small")
    return figure


def _curves(report: Report) -> list[tuple[str, Sequence[Row], dict[str, Any]]]:
    """Name, rows and line style of the whole set and of its subsets; of many groups those with most images."""
    evaluation = report.evaluation
    rows_of, judged = evaluation.rows_of_subsets(), evaluation.rows_against_normal()
    groups = sorted((name for name in rows_of if name not in SUBSETS), key=lambda name: -len(rows_of[name]))
    drawn = [name for name in rows_of if name in groups[:MAX_CURVES]]
    curves: list[tuple[str, Sequence[Row], dict[str, Any]]] = [
        (ALL, judged[ALL], {"linewidth": 2.0, "color": ALL_COLOUR})
    ]
    for place, name in enumerate(drawn):
        curves.append((name, judged[name], {"linewidth": 1.0, "color": f"C{place}"}))
    for name, dashes in ((OBSERVED, "--"), (UNOBSERVED, ":")):
        if name in rows_of:
            curves.append((name, judged[name], {"linewidth": 1.6, "color": "0.35", "linestyle": dashes}))
    return curves


def _named_groups(report: Report) -> list[tuple[str, list[Row]]]:
    """Normal images, in their groups where there are several; then the anomalous subsets. None is empty."""
    evaluation = report.evaluation
    normal = evaluation.normal_rows()
    of_normal = [(name, [row for row in normal if row.item.group == name]) for name in report.normal_groups]
    anomalous = [(name, rows) for name, rows in evaluation.rows_of_subsets().items() if name != ALL]
    if not anomalous:
        anomalous = [("anomalous", [row for row in evaluation.rows if row.item.anomalous])]
    return [(name, rows) for name, rows in [*(of_normal or [(NORMAL, normal)]), *anomalous] if rows]


def _right_edge(scores: NDArray[np.float64], threshold: float) -> float:
    """Where the score axis ends: beyond the threshold, and never of no width."""
    left = min(float(scores.min()), threshold)
    right = max(float(np.quantile(scores, RIGHT_EDGE)), threshold)
    return right if right > left else left + 1.0


def _flagged(rows: Sequence[Row]) -> float:
    return sum(row.is_anomaly for row in rows) / len(rows)


def _threshold_line(axes: Axes, threshold: float) -> None:
    axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:g}")


def _mark_deployed(axes: Axes, x: float, y: float, threshold: float) -> None:
    axes.plot([x], [y], "o", color=ALL_COLOUR, markersize=7, label=f"all at threshold {threshold:g}", clip_on=False)


def _plain(name: str) -> str:
    """A folder's name as matplotlib can draw it: no mathematics, no bytes that are no UTF-8."""
    return name.replace("$", r"\$").encode("utf-8", errors="replace").decode("utf-8")
