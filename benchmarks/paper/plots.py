"""Drawings for figures.py: numbers in, one PNG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from benchmarks.paper.protocol import Setting
from train.calibration.thresholds import LIMIT_QUANTILE

__all__ = [
    "ErrorEpoch",
    "RefinementStage",
    "plot_bars_and_boxes",
    "plot_error_distributions",
    "plot_latent_stages",
    "plot_union",
]

NORMAL, ANOMALOUS, LIMIT = "#4477aa", "#ee6677", "#222222"
METHOD_COLOURS = {"ae": "#bbbbbb", "aae": "#66ccee", "itsr": "#228833"}
DPI = 110


@dataclass(frozen=True, slots=True)
class ErrorEpoch:
    """Training errors after an epoch."""

    epoch: int
    errors: NDArray[Any]
    """(N,) reconstruction errors of all training images"""
    anomalous: NDArray[np.bool_]
    """(N,)"""

    @property
    def threshold(self) -> float:
        """T, the p90 of all errors."""
        return float(np.quantile(self.errors, LIMIT_QUANTILE))

    @property
    def tnr(self) -> float:
        """Share of normal training images at or below T."""
        return float((self.errors[~self.anomalous] <= self.threshold).mean())

    @property
    def tpr(self) -> float:
        """Share of anomalous training images above T."""
        return float((self.errors[self.anomalous] > self.threshold).mean())


@dataclass(frozen=True, slots=True)
class RefinementStage:
    """All training images at the end of a phase of ITSR."""

    phase: str
    codes: NDArray[Any]
    """(N, 2)"""
    errors: NDArray[Any]
    """(N,)"""
    anomalous: NDArray[np.bool_]
    candidates: NDArray[np.bool_]


def plot_error_distributions(path: Path, history: Sequence[ErrorEpoch], shown: Sequence[int], title: str) -> None:
    """Histograms of the shown epochs, and T, TNR and TPR over all of them."""
    panels = [entry for entry in history if entry.epoch in shown]
    figure, axes = plt.subplots(2, len(panels), figsize=(3.2 * len(panels), 6), layout="constrained", squeeze=False)
    top = max(float(np.quantile(entry.errors, 0.999)) for entry in panels)
    bins = np.linspace(0.0, top, 60)
    for axis, entry in zip(axes[0], panels, strict=True):
        for mask, colour, label in ((~entry.anomalous, NORMAL, "normal"), (entry.anomalous, ANOMALOUS, "anomalous")):
            axis.hist(entry.errors[mask], bins, density=True, color=colour, alpha=0.6, label=label)
        axis.axvline(entry.threshold, color=LIMIT, linestyle="--", label="T = p90")
        axis.set_title(f"epoch {entry.epoch}")
        axis.set_xlabel("reconstruction error")
        axis.set_yticks([])
    axes[0, 0].set_ylabel("density")
    axes[0, 0].legend(loc="best")
    for axis in axes[1]:
        axis.remove()
    wide = figure.add_subplot(axes[0, 0].get_gridspec()[1, :])
    epochs = [entry.epoch for entry in history]
    wide.plot(epochs, [entry.tnr for entry in history], color=NORMAL, marker=".", label="TNR at T")
    wide.plot(epochs, [entry.tpr for entry in history], color=ANOMALOUS, marker=".", label="TPR at T")
    wide.set_xscale("log")
    wide.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    wide.xaxis.set_minor_formatter(NullFormatter())
    wide.set_ylim(0, 1.02)
    wide.set_xlabel("epoch")
    wide.set_ylabel("share of training images")
    other = wide.twinx()
    other.plot(epochs, [entry.threshold for entry in history], color=LIMIT, linestyle="--", label="T")
    other.set_ylabel("T")
    other.set_ylim(bottom=0)
    handles = [*wide.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    wide.legend(handles=handles, loc="best")
    _save(path, title)


def plot_union(
    path: Path,
    criteria: NDArray[Any],
    anomalous: NDArray[np.bool_],
    limits: Sequence[float],
    figures: dict[str, float],
    note: str,
) -> None:
    """Both criteria of test images with their limits; figures: BAcc by rule. criteria: (n, 2)."""
    plt.figure(figsize=(6.5, 5.5), layout="constrained")
    for mask, colour, label in ((~anomalous, NORMAL, "T-shirt"), (anomalous, ANOMALOUS, "Pullover")):
        plt.scatter(criteria[mask, 1], criteria[mask, 0], s=6, color=colour, alpha=0.5, label=label, linewidths=0)
    plt.axhline(limits[0], color=LIMIT, linestyle="--", label="T_rec, p90 of training errors")
    plt.axvline(limits[1], color=LIMIT, linestyle=":", label="T_prior, p10 of training likelihoods")
    plt.xlim(criteria[:, 1].min(), float(np.quantile(criteria[:, 1], 0.995)))
    plt.xlabel("-log p(z), nats")
    plt.ylabel("reconstruction error")
    plt.legend(loc="upper right", markerscale=3, fontsize="small")
    plt.title("BAcc: " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items()), fontsize="medium")
    _save(path, f"AAE trained on clean T-shirts, test images\n{note}")


def plot_latent_stages(path: Path, stages: Sequence[RefinementStage], title: str) -> None:
    """The latent plane at each stage."""
    figure, axes = plt.subplots(1, len(stages), figsize=(3.1 * len(stages), 3.6), layout="constrained")
    # P(|z| < r) = 1 - exp(-r^2 / 2) in two dimensions.
    circle = math.sqrt(-2.0 * math.log(1.0 - LIMIT_QUANTILE))
    for axis, stage in zip(axes, stages, strict=True):
        for mask, colour, label in ((~stage.anomalous, NORMAL, "normal"), (stage.anomalous, ANOMALOUS, "anomalous")):
            axis.scatter(*stage.codes[mask].T, s=4, color=colour, alpha=0.5, linewidths=0, label=label)
        rings = stage.codes[stage.candidates]
        axis.scatter(*rings.T, s=14, facecolors="none", edgecolors=LIMIT, linewidths=0.3, alpha=0.6, label="candidates")
        axis.add_patch(plt.Circle((0, 0), circle, fill=False, color="#888888", linestyle="--"))
        span = max(1.5 * circle, float(np.quantile(np.abs(stage.codes), 0.995)) * 1.05)
        axis.set_xlim(-span, span)
        axis.set_ylim(-span, span)
        axis.set_aspect("equal")
        axis.set_title(stage.phase)
    figure.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=2)
    _save(path, title)


def plot_bars_and_boxes(
    path: Path,
    settings: Sequence[Setting],
    bars: dict[tuple[str, str, str], list[float]],
    boxes: dict[str, tuple[RefinementStage, RefinementStage]],
    note: str,
) -> None:
    """BAcc of AE, AAE, ITSR beside the published (above), errors before and after ITSR (below), a column a setting."""
    _, axes = plt.subplots(2, len(settings), figsize=(4 * len(settings), 7), layout="constrained")
    for axis, setting in zip(axes[0], settings, strict=True):
        _bars(axis, setting, bars)
    axes[0, 0].legend(loc="lower left", fontsize="small", ncols=2)
    for axis, setting in zip(axes[1], settings, strict=True):
        before, after = boxes[setting.name]
        groups = [stage.errors[stage.anomalous == which] for which in (False, True) for stage in (before, after)]
        drawn = axis.boxplot(groups, showfliers=False, widths=0.6, patch_artist=True)
        for box, colour in zip(drawn["boxes"], (NORMAL, NORMAL, ANOMALOUS, ANOMALOUS), strict=True):
            box.set_facecolor(colour)
            box.set_alpha(0.6)
        axis.set_xticks(range(1, 5), ["normal\nbefore", "normal\nafter", "anomalous\nbefore", "anomalous\nafter"])
        axis.set_ylabel("reconstruction error")
        axis.set_ylim(bottom=0)
    _save(path, f"5 % contamination; {note}")


def _bars(axis: Axes, setting: Setting, bars: dict[tuple[str, str, str], list[float]]) -> None:
    for group, side in enumerate(("observed", "unobserved")):
        for position, (method, colour) in enumerate(METHOD_COLOURS.items()):
            x = group + 0.28 * (position - 1)
            values = bars[setting.name, side, method]
            if values:
                label = method.upper() if group == 0 else None
                spread = np.std(values, ddof=1) if len(values) > 1 else None
                axis.bar(x, np.mean(values), 0.25, yerr=spread, color=colour, label=label)
            published = setting.published(method)
            if published:
                last = (group, position) == (1, 2)
                axis.hlines(
                    published[group], x - 0.12, x + 0.12, colors=LIMIT, linewidth=2, label="published" if last else None
                )
    axis.set_xticks([0, 1], ["observed", "unobserved"])
    axis.set_ylim(0.4, 1.0)
    axis.set_ylabel("BAcc")
    axis.set_title(setting.pair.title)


def _save(path: Path, title: str) -> None:
    plt.suptitle(title, fontsize="medium")
    plt.savefig(path, dpi=DPI)
    plt.close()
