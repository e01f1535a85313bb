"""What a person looks at after training: the contact sheet of rejected images, loss and score plots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.score import Decision, UnionRule
from edge_runtime.model.self_reference import N_CHANNELS
from train.learning.trainer import EpochRow
from train.structure.trial import HEAD_PHASES

__all__ = ["contact_sheet", "draw_losses", "plot_losses", "plot_scores", "tile"]

matplotlib.use("Agg")

MAX_TILES = 100
TILE_SIDE = 96
"""Pixels of the longer side of one image on a sheet."""
CAPTION_HEIGHT = 16
COLUMNS = 10
MARGIN = 4
PAPER = 255
INK = (40, 40, 40)
KEPT_COLOUR, REJECTED_COLOUR = "#4c78a8", "#e45756"
AXIS_LABELS = {
    "reconstruction_error": "reconstruction error (Euclidean, image space)",
    "neg_log_prior": "negative log prior (nats)",
}


def contact_sheet(path: Path, title: str, images: Sequence[Frame], captions: Sequence[str]) -> None:
    """Write a PNG sheet of up to 100 images under their captions; a sheet with the title alone if there are none.

    images: (H, W, C) uint8, grey or BGR.
    """
    shown = min(len(images), MAX_TILES)
    if shown < len(images):
        title += f" (first {shown})"
    tiles = [tile(image, caption) for image, caption in zip(images[:shown], captions[:shown], strict=True)]
    n_rows = -(-shown // COLUMNS)
    cell_height, cell_width = TILE_SIDE + CAPTION_HEIGHT + MARGIN, TILE_SIDE + MARGIN
    header = 28
    sheet = np.full((header + max(n_rows, 1) * cell_height, COLUMNS * cell_width + MARGIN, 3), PAPER, np.uint8)
    _write(sheet, title, (MARGIN, 18), scale=0.5)
    for index, image in enumerate(tiles):
        top = header + index // COLUMNS * cell_height
        left = MARGIN + index % COLUMNS * cell_width
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    write_image(path, sheet)


def tile(image: Frame, caption: str) -> Frame:
    """One image in a square of TILE_SIDE pixels with a caption line below: (TILE_SIDE + 16, TILE_SIDE, 3) BGR."""
    height, width = image.shape[:2]
    scale = TILE_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA)
    if resized.ndim == 3 and resized.shape[2] == N_CHANNELS:
        resized = resized[:, :, 0]  # grey comes first of self-referenced channels
    if resized.ndim == 2:
        resized = cv2.cvtColor(resized, cv2.COLOR_GRAY2BGR)
    canvas = np.full((TILE_SIDE + CAPTION_HEIGHT, TILE_SIDE, 3), PAPER, np.uint8)
    top, left = (TILE_SIDE - size[1]) // 2, (TILE_SIDE - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = resized
    _write(canvas, caption, (1, TILE_SIDE + 12), scale=0.34)
    return canvas


def plot_losses(path: Path, rows: Sequence[EpochRow]) -> None:
    """Write a PNG of the losses over epochs, with the phases marked."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    draw_losses(figure, rows)
    figure.savefig(path, dpi=110)


def draw_losses(figure: Figure, rows: Sequence[EpochRow], *, mark: str = "0.8", alpha: float = 1.0) -> None:
    """Draw the losses over epochs into a figure. mark, alpha: colour and opacity of the lines between phases.

    The phases of a head have a loss of their own and no adversary: they get a plot of their own.
    """
    heads = [row for row in rows if row.phase in HEAD_PHASES]
    others = [row for row in rows if row.phase not in HEAD_PHASES]
    trained = [row for row in heads if row.images]  # of one that was given up there is nothing to draw
    left, right, *more = figure.subplots(1, 3 if trained else 2)
    _draw_phases(left, others, "reconstruction_loss", color=KEPT_COLOUR)
    left.set(xlabel="epoch", ylabel="weighted reconstruction error", title="reconstruction")
    if any(row.discriminator_loss for row in others):
        _draw_phases(right, others, "encoder_loss", label="encoder", color=KEPT_COLOUR)
        _draw_phases(right, others, "discriminator_loss", label="discriminator", color=REJECTED_COLOUR)
        right.legend(loc="best")
    else:
        right.text(0.5, 0.5, "no adversary", ha="center", transform=right.transAxes)
    right.set(xlabel="epoch", ylabel="cross-entropy (nats)", title="adversary")
    for axes in more:
        _draw_phases(axes, trained, "reconstruction_loss", color=KEPT_COLOUR, by_phase=True)
        axes.set(xlabel="epoch", ylabel="loss on synthetic defects", title="head")
    for drawn, panels in ((others, (left, right)), (trained, more)):
        for before, after in itertools.pairwise(drawn):
            if before.phase != after.phase:
                for axes in panels:
                    axes.axvline(before.epoch + 0.5, color=mark, alpha=alpha, linewidth=0.8, zorder=0)


def _draw_phases(axes: Axes, rows: Sequence[EpochRow], name: str, *, by_phase: bool = False, **style: Any) -> None:
    """One loss over epochs. by_phase: each phase begins anew, so that no line joins it to the one before."""
    if not by_phase:
        axes.plot([row.epoch for row in rows], [getattr(row, name) for row in rows], **style)
        return
    for phase in dict.fromkeys(row.phase for row in rows):
        own = [row for row in rows if row.phase == phase]
        axes.plot([row.epoch for row in own], [getattr(row, name) for row in own], **style)


def plot_scores(path: Path, criteria: NDArray[np.float32], decision: Decision, rejected: NDArray[np.bool_]) -> None:
    """Write a PNG with a histogram of each criterion over the training images and its threshold; the fused score first.

    criteria: (N, K); rejected: (N,) bool. The union rule has no panel for the score, which only says which limit is
    nearest.
    """
    limits = decision.limits if isinstance(decision, UnionRule) else {}
    panels = [
        (
            AXIS_LABELS.get(name, name.replace("_", " ")),
            decision.column(criteria, name),
            getattr(limits.get(name), "threshold", None),
        )
        for name in decision.criteria
    ]
    if not limits:
        panels.insert(0, ("fused score", decision.score(criteria), decision.threshold))
    n_columns = min(4, len(panels))
    n_rows = -(-len(panels) // n_columns)
    figure = Figure(figsize=(4.5 * n_columns, 4 * n_rows), layout="constrained")
    for index, (label, values, threshold) in enumerate(panels):
        axes = figure.add_subplot(n_rows, n_columns, index + 1)
        _histogram(axes, values, rejected)
        if threshold is not None:
            axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3g}")
        axes.set(xlabel=label, ylabel="training images")
        axes.legend(loc="best")
    figure.savefig(path, dpi=110)


def _histogram(axes: Axes, values: NDArray[Any], rejected: NDArray[np.bool_]) -> None:
    edges = np.histogram_bin_edges(values, bins=50).tolist()
    axes.hist(values[~rejected], edges, color=KEPT_COLOUR, alpha=0.8, label=f"kept ({(~rejected).sum()})")
    if rejected.any():
        axes.hist(values[rejected], edges, color=REJECTED_COLOUR, alpha=0.8, label=f"rejected ({rejected.sum()})")


def _write(canvas: Frame, text: str, origin: tuple[int, int], *, scale: float) -> None:
    # OpenCV's font has ASCII alone, and a file name that is no UTF-8 crashes it.
    plain = text.encode("ascii", errors="replace").decode("ascii")
    cv2.putText(canvas, plain, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, INK, 1, cv2.LINE_AA)
