"""Where on the frame: boxes around what the anomaly map shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require

__all__ = ["Region", "regions_of"]

MOST = 16
"""Regions of a frame, the brightest: a record must not grow without bound."""

LEAST_SHARE = 1e-4
"""Of the frame's pixels: smaller ones are noise of the map."""

HALF = 0.5
"""Of the frame's own peak: in a frame whose map stays below the usual peak, what reaches this is shown."""


@dataclass(frozen=True, slots=True)
class Region:
    """A box around connected bright pixels of the map, in pixels of the frame."""

    x: int
    y: int
    width: int
    height: int
    peak: float
    """The map's largest value within."""

    def to_json(self) -> dict[str, float]:
        """For a record."""
        return {"x": self.x, "y": self.y, "width": self.width, "height": self.height, "peak": self.peak}


def regions_of(heat: NDArray[np.float32], usual_peak: float) -> list[Region]:
    """Boxes around connected pixels above the usual peak, or half the frame's own where that is less; brightest first.

    heat: (H, W) float32, the anomaly map over the frame, >= 0. usual_peak: the brightest pixel that a normal image may
    have (p99 over the training images). A map of zeros has no region.
    """
    cv2 = require("cv2", extra="camera", purpose="regions")
    peak = float(heat.max(initial=0.0))
    if not peak > 0.0:
        return []
    bright = (heat >= min(usual_peak, HALF * peak)).astype(np.uint8)
    n_labels, labels, boxes, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    least = LEAST_SHARE * heat.size
    found = []
    for label in range(1, n_labels):
        x, y, width, height, area = (int(value) for value in boxes[label])
        if area >= least:
            box = slice(y, y + height), slice(x, x + width)
            inside = float(heat[box][labels[box] == label].max())
            found.append(Region(x, y, width, height, inside))
    return sorted(found, key=lambda region: -region.peak)[:MOST]
