"""Dirt on a lens: what stays in one place, dark or blurred, over frames of which the rest changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.image_quality import GRID, FrameQuality

__all__ = ["LensSpotWatch", "Spot", "UsualSpots"]

BLOCK = 12
"""Frames that differ, over which what stays is looked for; a spot must be there in two such blocks in a row."""
MEAN_LEVEL = 110.0
"""Grey level to which the mean of each frame is brought: light that flickers over a still scene is no change of it."""
CHANGED_LEVELS, CHANGED_SHARE = 6.0, 0.1
"""Grey levels by which a cell, and share of the cells by which a frame, must differ from the last that counted."""
RING = 6
"""Cells to each side whose median a cell is compared with: a spot is narrower than half of the window."""
RING_CHANGES, RING_DETAIL = 5.0, 3.0
"""Grey levels by which the surroundings must change, and their least contrast, before a cell can stand out."""
DARKER, CHANGES_LESS = 0.75, 0.8
"""Level and change of a cell under a dark spot, as shares of its surroundings'."""
BLURRED = 0.4
"""The same of the contrast under a smear."""
LEAST_CELLS, MOST_SHARE, LEAST_FILL = 3, 0.1, 0.5
"""Of a spot: cells, share of the frame, and share of its own bounding box."""
OVERLAP = 0.3
"""Cells that two blocks' spots share, by those of either."""

USUAL_FROM = 0.1
"""Share of the blocks of training images in which a cell that stands out is usual."""

Cells = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the lens seems dirty."""

    share: float
    """Of the frame"""
    box: tuple[float, float, float, float]
    """x, y, width, height, as shares of the region looked at"""


class LensSpotWatch:
    """The frames of one source, in order."""

    def __init__(self, usual: Cells) -> None:
        """usual: (GRID, GRID) where the training images show something that stays; no spot is looked for there."""
        self._usual = usual
        self._block = _Block()
        self._before: Cells | None = None
        self.spot: Spot | None = None
        """What is there by now"""

    def add(self, quality: FrameQuality) -> Spot | None:
        """Take a frame; what is there by now. Frames that do not differ from the last change nothing."""
        if self._block.add(quality) < BLOCK:
            return self.spot
        found = _largest(self._block.staying() & ~self._usual)
        self._block.begin_anew()
        before, self._before = self._before, found
        both = found is not None and before is not None
        self.spot = _spot(found) if found is not None and both and _overlap(found, before) >= OVERLAP else None
        return self.spot


class _Block:
    """Sums over frames that differ from each other."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self.begin_anew()

    def begin_anew(self) -> None:
        self._n = 0
        self._level = np.zeros((GRID, GRID))
        self._change, self._detail = self._level.copy(), self._level.copy()

    def add(self, quality: FrameQuality) -> int:
        """How many frames have counted by now."""
        cells = quality.cells * np.float32(MEAN_LEVEL / (1.0 + float(quality.cells.mean())))
        if self._last is None:
            self._last = cells
            return 0
        change = np.abs(cells - self._last)
        if float((change > CHANGED_LEVELS).mean()) >= CHANGED_SHARE:
            self._last = cells
            self._level += cells
            self._change += change
            self._detail += quality.details
            self._n += 1
        return self._n

    def staying(self) -> Cells:
        """Cells that are darker and change less than those around, or are blurred; (GRID, GRID)."""
        level, change, detail = (total / self._n for total in (self._level, self._change, self._detail))
        ring_level, ring_change, ring_detail = map(_surroundings, (level, change, detail))
        dark = (level < DARKER * ring_level) & (change < CHANGES_LESS * ring_change)
        blurred = (detail < BLURRED * ring_detail) & (ring_detail > RING_DETAIL)
        cells: Cells = (dark | blurred) & (ring_change > RING_CHANGES)
        return cells


class UsualSpots:
    """Where training images, in any order, show something that stays, such as a fixture."""

    def __init__(self) -> None:
        self._block, self._n_blocks = _Block(), 0
        self._found = np.zeros((GRID, GRID), dtype=np.int64)

    def add(self, quality: FrameQuality) -> None:
        """Take the next image."""
        if self._block.add(quality) >= BLOCK:
            self._found += self._block.staying()
            self._n_blocks += 1
            self._block.begin_anew()

    def mask(self) -> Cells:
        """(GRID, GRID), with one cell around what was found."""
        usual = (self._found > 0) & (self._found >= USUAL_FROM * self._n_blocks)
        cv2 = require("cv2", extra="camera", purpose="checks of picture quality")
        grown: Cells = cv2.dilate(usual.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        return grown


def _surroundings(values: NDArray[np.float64]) -> NDArray[np.float64]:
    side = 2 * RING + 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, RING, mode="reflect"), (side, side))
    median: NDArray[np.float64] = np.median(windows.reshape(GRID, GRID, -1), axis=-1)
    return median


def _largest(cells: Cells) -> Cells | None:
    """The largest connected piece that may be a spot."""
    cv2: Any = require("cv2", extra="camera", purpose="checks of picture quality")
    n, labels, stats, _ = cv2.connectedComponentsWithStats(cells.astype(np.uint8), connectivity=8)
    best, best_area = None, 0
    for label in range(1, n):
        width, height, area = (int(number) for number in stats[label][2:5])
        fits = LEAST_CELLS <= area <= MOST_SHARE * GRID * GRID and area >= LEAST_FILL * width * height
        if fits and area > best_area:
            best, best_area = label, area
    return None if best is None else labels == best


def _overlap(a: Cells, b: Cells | None) -> float:
    return 0.0 if b is None else float((a & b).sum() / (a | b).sum())


def _spot(cells: Cells) -> Spot:
    rows, columns = (np.flatnonzero(cells.any(axis=axis)) for axis in (1, 0))
    box = (columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1)
    x, y, width, height = (float(number) / GRID for number in box)
    return Spot(float(cells.mean()), (x, y, width, height))
