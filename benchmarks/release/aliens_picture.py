"""docs/images/aliens.png: parts with defects, the same under their anomaly map below, and the scores.

    python benchmarks/release/aliens_picture.py model.aae aliens/test

Colours are those of `edge-aae score --heatmaps`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from edge_aae import Detector
from edge_runtime.model.images import read_image, write_image
from edge_runtime.scoring.heatmap import overlay

SHOWN = ("11", "5", "37", "27")
SIDE = 300
"""Pixels that a part is wide"""


def main() -> None:
    """Write the picture, and print the scores."""
    detector, folder = Detector.load(sys.argv[1], threads=1), Path(sys.argv[2])
    columns = []
    for name in SHOWN:
        frame = read_image(folder / "defect" / f"{name}.png", detector.preprocess.levels)
        result = detector.score(frame)
        heat = result.shown_heatmap(frame.shape)
        size = (SIDE, round(SIDE * frame.shape[0] / frame.shape[1]))
        pair = [
            cv2.resize(image, size, interpolation=cv2.INTER_AREA)
            for image in (frame, overlay(frame, heat, detector.heat_scale))
        ]
        label = f"score {result.score:.2f}"
        cv2.putText(pair[1], label, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (60, 60, 60), 1, cv2.LINE_AA)
        columns.append(np.vstack(pair))
        print(name, label)
    least = min(column.shape[0] for column in columns)
    write_image(Path("docs/images/aliens.png"), np.hstack([column[:least] for column in columns]))


if __name__ == "__main__":
    main()
