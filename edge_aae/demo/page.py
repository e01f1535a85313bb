"""What the demo shows: a strip of frames with their heatmaps, and one self-contained page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.evaluation import heatmap_of
from train.runs.pictures import tile

__all__ = ["strip", "write_page"]

COLUMNS = 8
GAP = 4

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>edge-aae demo</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { background: #f4f4f4; padding: 1rem; white-space: pre-wrap; font-size: 13px; }
img { max-width: 100%; height: auto; }
h2 { margin-top: 2.5rem; }
</style>
</head>
<body>
<h1>edge-aae demo</h1>
<p>2000 T-shirts of Fashion-MNIST with 105 ankle boots unmarked among them, three ways of training, 40 epochs each
unless --epochs-scale says otherwise. Observed: test T-shirts against boots. Unobserved: against eight classes that were
not in training. The paper trains 1000 to 10000 epochs; these figures show the road, not its end.</p>
<pre>$table</pre>
<h2>The detector on held-out frames</h2>
<p>Above each pair the frame, below it the frame under its anomaly map; one colour scale for all. Caption: score,
above 1 is anomalous, and what the frame holds.</p>
<img src="$strip" alt="frames with heatmaps">
$methods
</body>
</html>
""")

METHOD = Template("""<h2>$name</h2>
<img src="$losses" alt="losses">
<img src="$scores" alt="scores of the training images">
<img src="$rejected" alt="contact sheet">
""")


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


def write_page(out: Path, table: Sequence[str], runs: Sequence[Path]) -> None:
    """Write report.html: the table, the strip, and each run's plots, all inside one file."""
    methods = "".join(
        METHOD.substitute(
            name=html.escape(run.name),
            **{name: _embedded(run / f"{name}.png") for name in ("losses", "scores", "rejected")},
        )
        for run in reversed(runs)  # the exported one first
    )
    page = PAGE.substitute(table=html.escape("\n".join(table)), strip=_embedded(out / "strip.png"), methods=methods)
    (out / "report.html").write_text(page, encoding="utf-8")


def _embedded(image: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(image.read_bytes()).decode("ascii")
