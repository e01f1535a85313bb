"""What the demo shows: a strip of frames with their heatmaps, and the sections of its page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.evaluation import Evaluation, ImageScorer, Row, heatmap_of
from edge_runtime.verdict import ModelVerdict
from train.pages.examples import of_evaluation
from train.pages.opening import ALARMS, FOUND, LOOKED_AT, KeyFigure, opening, time_figure
from train.pages.page import as_text, folded, section
from train.runs.pictures import tile

__all__ = ["page_of", "strip"]

COLUMNS = 8
GAP = 4

ABOUT = (
    "2000 T-shirts of Fashion-MNIST with 105 ankle boots unmarked among them, four ways of training, 40 epochs each "
    "unless --epochs-scale says otherwise. Observed: test T-shirts against boots. Unobserved: against eight classes "
    "that were not in training. The paper trains 1000 to 10000 epochs; these figures show the road, not its end."
)
PLOTS = (("losses", "losses"), ("scores", "scores of the training images"))


def strip(detector: Detector, frames: Sequence[Frame], truth: NDArray[np.int64], normal: int, n_frames: int) -> Frame:
    """Frames above their heatmap overlays, half of them anomalous: one BGR image.

    truth: class of each frame; normal: the class that is not anomalous.
    """
    anomalous = np.flatnonzero(truth != normal)[: n_frames // 2]
    usual = np.flatnonzero(truth == normal)[: n_frames - len(anomalous)]
    cells = []
    for index in sorted((*anomalous, *usual)):
        frame = frames[index]
        result = detector.score(frame)
        kind = "T-shirt" if truth[index] == normal else "anomaly"
        caption = f"{result.score:.2f} {kind}{'' if result.is_anomaly == (kind == 'anomaly') else ' (wrong)'}"
        cells.append(np.concatenate((tile(frame, caption), tile(heatmap_of(detector, frame, result), ""))))
    height, width = cells[0].shape[:2]
    n_rows = -(-len(cells) // COLUMNS)
    sheet = np.full((n_rows * (height + GAP) + GAP, COLUMNS * (width + GAP) + GAP, 3), 255, np.uint8)
    for position, cell in enumerate(cells):
        top = GAP + position // COLUMNS * (height + GAP)
        left = GAP + position % COLUMNS * (width + GAP)
        sheet[top : top + height, left : left + width] = cell
    return sheet


def page_of(
    evaluation: Evaluation,
    verdict: ModelVerdict,
    scorer: ImageScorer,
    table: Sequence[str],
    out: Path,
    runs: Sequence[Path],
) -> list[str]:
    """The sections of the demo's page. evaluation: of the video's frames; runs: the exported one last."""
    counts = {label: [row for row in evaluation.rows if row.item.anomalous is label] for label in (True, False)}
    *others, exported = runs
    examples = of_evaluation(evaluation, scorer)
    aside = (
        f"<p>By the one that was exported, {as_text(exported.name)}: what it takes for anomalous among its training "
        "images, highest score first.</p>"
    )
    how = f"median of {len(evaluation.rows)}, on the CPU, where this page was made; on the device:"
    figures = [
        KeyFigure(name=LOOKED_AT, value=f"{len(evaluation.rows)}", note="frames of a video that training has not seen"),
        KeyFigure(name=FOUND, value=_of(counts[True]), note="frames that show no T-shirt"),
        KeyFigure(name=ALARMS, value=_of(counts[False]), note="frames of T-shirts"),
        time_figure(evaluation.time_ms, how, "edge-aae bench"),
    ]
    return [
        opening(verdict, f"edge-aae run --model {out / 'model.aae'} --camera 0", figures, examples),
        section("Four ways of training", f"<p>{as_text(ABOUT)}</p><pre>{as_text(chr(10).join(table))}</pre>"),
        section("What was set aside", aside + _plain(exported / "rejected.png", "contact sheet")),
        section("Where the threshold lies", _plain(exported / "scores.png", "scores of the training images")),
        folded("More frames of the video", _plain(out / "strip.png", "frames with heatmaps")),
        folded("Losses", _plain(exported / "losses.png", "losses over epochs")),
        *(
            folded(f"The same of {run.name}", "".join(_plain(run / f"{name}.png", told) for name, told in PLOTS)
                   + _plain(run / "rejected.png", "contact sheet"))
            for run in reversed(others)
        ),
    ]  # fmt: skip


def _of(rows: Sequence[Row]) -> str:
    return f"{sum(row.is_anomaly for row in rows)} of {len(rows)}"


def _plain(image: Path, told: str) -> str:
    encoded = base64.b64encode(image.read_bytes()).decode("ascii")
    return f'<img class="plain" alt="{told}" src="data:image/png;base64,{encoded}">'
