"""The figures of a report, as SVG that takes its ink from the page around it: light, dark and print alike."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_runtime.model.score import Decision, UnionRule
from train.learning.trainer import EpochRow
from train.runs.pictures import AXIS_LABELS, KEPT_COLOUR, REJECTED_COLOUR, draw_losses

__all__ = ["boundary_figure", "latent_figure", "losses_figure", "quantile_figure", "scores_figure", "svg_of"]

INK = "#010203"
"""Stands for the page's own text colour until the SVG is written."""

MOST_DOTS = 2500
"""Of a scatter plot: more are drawn at random, for a dot takes a hundred bytes."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-aae",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
    "legend.edgecolor": "none",
    "font.size": 10,
}


def svg_of(figure: Figure, title: str) -> str:
    """The figure as an <svg> element; the same figure gives the same text."""
    content = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace("#000000", "currentColor")
    # Ids are a document's, and a page has several figures.
    salt = re.sub(r"\W+", "-", title.lower())
    text = re.sub(r'(id="|href="#|url\(#)', lambda found: f"{found[1]}{salt}-", text)
    text = re.sub(
        r'<svg ([^>]*?)width="[^"]*" height="[^"]*"|<svg height="[^"]*"([^>]*?) width="[^"]*"', r"<svg \1\2", text
    )
    return text.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)


def _figure(width: float, height: float) -> Figure:
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=(width, height), layout="constrained")


def losses_figure(rows: Sequence[EpochRow]) -> Figure:
    """Losses over epochs, phases marked."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(9, 3.4)
        draw_losses(figure, rows, mark=INK, alpha=0.25)
    return figure


def scores_figure(scores: NDArray[np.float64], rejected: NDArray[np.bool_], threshold: float) -> Figure:
    """Histogram of the training images' scores, kept and rejected, with the threshold."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(9, 3.4)
        axes = figure.subplots()
        right = max(float(np.quantile(scores, 0.995)), 1.3 * threshold if threshold > 0 else threshold)
        edges = np.linspace(float(scores.min()), right, 70).tolist()
        shown = np.minimum(scores, right)
        axes.hist(shown[~rejected], edges, color=KEPT_COLOUR, alpha=0.85, label=f"kept ({(~rejected).sum()})")
        if rejected.any():
            axes.hist(shown[rejected], edges, color=REJECTED_COLOUR, alpha=0.85, label=f"rejected ({rejected.sum()})")
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
        axes.set(xlabel="score (the last bar holds everything above)", ylabel="training images")
        axes.legend(loc="best")
    return figure


def boundary_figure(
    criteria: NDArray[np.float32], decision: Decision, names: Sequence[str], rejected: NDArray[np.bool_]
) -> Figure:
    """Reconstruction error against likelihood: the paper's figures 3 and 4, arXiv 1901.06355.

    criteria: (N, K). With the union rule its two limits are drawn; a fused rule has no line in this plane, so what it
    flags is ringed.
    """
    with matplotlib.rc_context(STYLE):
        figure = _figure(6.4, 5.2)
        axes = figure.subplots()
        x, y = criteria[:, names.index("reconstruction_error")], criteria[:, names.index("neg_log_prior")]
        flagged = decision.is_anomalous(decision.score(criteria))
        _scatter(axes, x, y, rejected)
        limits = decision.limits if isinstance(decision, UnionRule) else {}
        if limits:
            for name, line in (("reconstruction_error", axes.axvline), ("neg_log_prior", axes.axhline)):
                if name in limits:
                    line(limits[name].threshold, color=INK, linestyle="--", linewidth=1.1)
        else:
            chosen = _drawn(len(x))
            chosen = chosen[flagged[chosen]]
            axes.scatter(
                x[chosen], y[chosen], s=26, facecolors="none", edgecolors=INK, linewidths=0.6, label="above threshold"
            )
        axes.set(xlabel=AXIS_LABELS["reconstruction_error"], ylabel=AXIS_LABELS["neg_log_prior"])
        axes.set_xlim(_without_tail(x))
        axes.set_ylim(_without_tail(y))
        axes.legend(loc="best")
    return figure


def latent_figure(codes: NDArray[Any], rejected: NDArray[np.bool_]) -> Figure:
    """The codes (N, D) in the plane: as they are where D is 2, else their first two principal components."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(6.4, 5.2)
        axes = figure.subplots()
        values = codes.astype(np.float64)
        if values.shape[1] == 1:
            values = np.concatenate((values, np.zeros_like(values)), axis=1)
        labels = "z1", "z2"
        if values.shape[1] > 2:
            centred = values - values.mean(axis=0)
            _, spread, directions = np.linalg.svd(centred, full_matrices=False)
            share = spread**2 / max(float((spread**2).sum()), 1e-12)
            values = centred @ directions[:2].T
            labels = tuple(f"principal component {i + 1} ({share[i]:.0%})" for i in range(2))  # type: ignore[assignment]
        _scatter(axes, values[:, 0], values[:, 1], rejected)
        axes.set(xlabel=labels[0], ylabel=labels[1])
        axes.legend(loc="best")
    return figure


def quantile_figure(quantiles: Sequence[float], threshold: float) -> Figure:
    """The distribution of scores as a bundle keeps it: share of normal images above each score."""
    with matplotlib.rc_context(STYLE):
        figure = _figure(9, 3.2)
        axes = figure.subplots()
        levels = np.linspace(0.0, 1.0, len(quantiles))
        axes.plot(quantiles, 1.0 - levels, color=KEPT_COLOUR)
        axes.axvline(threshold, color=INK, linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
        axes.set(xlabel="score", ylabel="share of training images above", yscale="log", ylim=(0.004, 1.1))
        axes.set_xlim(float(quantiles[0]), max(float(quantiles[-2]), 1.2 * threshold))
        axes.legend(loc="best")
    return figure


def _scatter(axes: Axes, x: NDArray[Any], y: NDArray[Any], rejected: NDArray[np.bool_]) -> None:
    chosen = _drawn(len(x))
    for members, colour, label in ((~rejected, KEPT_COLOUR, "kept"), (rejected, REJECTED_COLOUR, "rejected")):
        inside = chosen[members[chosen]]
        if len(inside):
            axes.scatter(x[inside], y[inside], s=7, color=colour, alpha=0.7, linewidths=0, label=label)
    if len(chosen) < len(x):
        axes.set_title(f"{len(chosen)} of {len(x)} images, at random", fontsize=9)


def _drawn(n_images: int) -> NDArray[np.int64]:
    if n_images <= MOST_DOTS:
        return np.arange(n_images)
    return np.sort(np.random.default_rng(0).choice(n_images, MOST_DOTS, replace=False))


def _without_tail(values: NDArray[Any]) -> tuple[float, float]:
    """Limits of an axis that a few far images do not stretch."""
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    margin = 0.05 * (high - low) + 1e-9
    return low - margin, high + margin
