"""Where on the frame, and how large: connected bright pixels of the anomaly map, those that are large enough."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize

__all__ = ["Region", "all_too_small", "mask_of", "regions_of", "without_small"]

MOST = 16
"""Regions of a frame, the brightest: a record must not grow without bound."""

LEAST_SHARE = 1e-4
"""Of the frame's pixels: smaller ones are noise of the map, where nobody said from which area on they count."""

HALF = 0.5
"""Of the frame's own peak: in a frame whose map stays below the usual peak, what reaches this is shown."""

SKIRT = 0.25
"""Of the limit: the glow around a region that is left out goes with it down to here, which is dim in colours."""


@dataclass(frozen=True, slots=True)
class Region:
    """Connected bright pixels of the map, in pixels of the frame."""

    x: int
    y: int
    width: int
    height: int
    """Of the box around them"""
    peak: float
    """The map's largest value within."""
    area_px: int
    """How many they are"""
    area_mm2: float | None = None
    """The same on the part; None where no scale is known"""

    def to_json(self) -> dict[str, float | None]:
        """For a record."""
        return asdict(self)

    @property
    def size(self) -> str:
        """The area in words: in mm2 where it is known."""
        return f"{self.area_px} px" if self.area_mm2 is None else f"{self.area_mm2:.3g} mm2"


def regions_of(heat: NDArray[np.float32], usual_peak: float, size: DefectSize = MEASURED_IN_PIXELS) -> list[Region]:
    """Boxes around connected pixels above the usual peak, or half the frame's own where that is less; brightest first.

    heat: (H, W) float32, the anomaly map over the frame, >= 0. usual_peak: the brightest pixel that a normal image may
    have (p99 over the training images). size: from which area on a region counts, else LEAST_SHARE of the frame. A map
    of zeros has no region.
    """
    bright = _Bright.of(heat, usual_peak)
    if bright is None:
        return []
    found = []
    for label in bright.labels_from(_least(heat, size)):
        x, y, width, height, area = (int(value) for value in bright.boxes[label])
        box = slice(y, y + height), slice(x, x + width)
        inside = float(heat[box][bright.labels[box] == label].max())
        found.append(Region(x, y, width, height, inside, area, size.area_mm2(area)))
    return sorted(found, key=lambda region: -region.peak)[:MOST]


def mask_of(heat: NDArray[np.float32], usual_peak: float, size: DefectSize = MEASURED_IN_PIXELS) -> NDArray[np.uint8]:
    """(H, W), 255 in every region that counts, be they more than regions_of names, else 0; arguments as for it."""
    mask = np.zeros(heat.shape, dtype=np.uint8)
    bright = _Bright.of(heat, usual_peak)
    if bright is not None:
        mask[np.isin(bright.labels, bright.labels_from(_least(heat, size)))] = 255
    return mask


def _least(heat: NDArray[np.float32], size: DefectSize) -> float:
    """Pixels from which on a region counts."""
    return LEAST_SHARE * heat.size if size.least_px is None else size.least_px


def all_too_small(heat: NDArray[np.float32], usual_peak: float, size: DefectSize) -> bool:
    """Whether the map stands out, and nothing in it is as large as what counts; heat, usual_peak as for regions_of.

    False for a map that stays below the usual peak: it does not show what raised the score, so that no area speaks of
    it. False where no smallest area is asked.
    """
    least_px = size.least_px
    if least_px is None or not heat.max(initial=0.0) >= np.float32(usual_peak):
        return False
    bright = _Bright.of(heat, usual_peak)
    return bright is not None and len(bright.labels_from(least_px)) == 0


def without_small(heat: NDArray[np.float32], usual_peak: float, size: DefectSize) -> NDArray[np.float32]:
    """The map for people to look at: (H, W), zero in regions that are too small, and in the glow around such alone.

    heat, usual_peak: as for regions_of. The map itself where no smallest area is asked.
    """
    least_px = size.least_px
    bright = None if least_px is None else _Bright.of(heat, usual_peak)
    if least_px is None or bright is None:
        return heat
    kept = np.zeros(len(bright.boxes), dtype=np.bool_)
    kept[bright.labels_from(least_px)] = True
    dropped = ~kept
    dropped[0] = False  # what is not bright
    cv2 = require("cv2", extra="camera", purpose="regions")
    n_glows, glows = cv2.connectedComponents((heat >= SKIRT * bright.limit).astype(np.uint8), connectivity=8)
    too_small, counts = dropped[bright.labels], kept[bright.labels]
    gone = np.zeros(n_glows, dtype=np.bool_)
    gone[glows[too_small]] = True
    gone[glows[counts]] = False
    shown: NDArray[np.float32] = np.where(too_small | gone[glows], np.float32(0.0), heat)
    return shown


@dataclass(frozen=True, slots=True)
class _Bright:
    """The connected bright pixels of a map."""

    limit: float
    """Map value from which pixels are bright"""
    labels: NDArray[np.int32]
    """(H, W), 0 where not bright"""
    boxes: NDArray[np.int32]
    """(N, 5) x, y, width, height, pixels of each label"""

    @classmethod
    def of(cls, heat: NDArray[np.float32], usual_peak: float) -> _Bright | None:
        """None for a map of zeros."""
        cv2 = require("cv2", extra="camera", purpose="regions")
        peak = float(heat.max(initial=0.0))
        if not peak > 0.0:
            return None
        limit = min(usual_peak, HALF * peak)
        _, labels, boxes, _ = cv2.connectedComponentsWithStats((heat >= limit).astype(np.uint8), connectivity=8)
        return cls(limit, labels, boxes)

    def labels_from(self, least_px: float) -> NDArray[np.intp]:
        """Labels of at least so many pixels."""
        return 1 + np.flatnonzero(self.boxes[1:, 4] >= least_px)
