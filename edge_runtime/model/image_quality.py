"""How good a picture is: focus along rows and columns, level, what is clipped; and what of that was usual in training.

Measured alike by training and the runtime, from a strided look at the frame: numpy and OpenCV. A frame of other quality
is still scored; what follows from it is the caller's to say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.model.preprocess import Frame

__all__ = ["GRID", "MEASURES", "Fault", "FrameQuality", "QualityLimits", "limits_of", "measured", "told"]

MEASURES = ("sharpness_x", "sharpness_y", "level", "clipped")

SMALLEST_SIDE = 64
"""Pixels; of smaller pictures nothing is measured: too few rows to tell blur from content."""
LEAST_IMAGES = 20
"""Training images from which on limits are set: of fewer nobody knows what is usual."""

BANDS, BAND_ROWS, ROWS_COMPARED = 24, 9, 4
"""Bands of adjacent rows in which sharpness is measured, at the frame's full resolution."""
QUANTISATION = 0.5
"""Squared grey levels added to each contrast: what rounding alone gives, so that a flat picture is not sharp."""
SAMPLED = 128
"""Rows and columns, at least, of the strided look at levels."""
GRID = 32
"""Cells along each side of the frame, for what stays in place over many frames."""
BLACK = 4.0
"""Grey levels added before the logarithm: differences between nearly black pictures are noise."""
CLIPPED_FROM = 250

K = 4.0
"""Robust standard deviations from the median at which a limit lies."""
USUAL_SHARE, USUAL_SIGMAS = 0.05, 1.645
"""The quantile on each side that also gives the deviation, for sets of several kinds of pictures, and where it lies in
a normal distribution. Up to this share of bad pictures moves no limit far."""
LEAST_MARGIN: Mapping[str, float] = {"sharpness_x": 0.4, "sharpness_y": 0.4, "level": 0.25, "clipped": 0.04}
"""The least distance from median to limit: 0.25 of the level are 19 % of the light."""
SAME_SIZE = 1.1
"""Sharpness is judged where the diagonal is within this factor of those trained on; elsewhere it tells nothing. Another
aspect than theirs by more than this factor is another shape of the part, once it is fitted to the network."""
SQUEEZED = "squeezed"

BELOW = {"sharpness_x": "blurred along rows", "sharpness_y": "blurred along columns", "level": "dark"}
ABOVE = {"level": "bright", "clipped": "overexposed"}
"""What a measure beyond its limit is called; a picture sharper or less clipped than usual has no fault."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which a frame is unlike the training images."""

    what: str
    """blurred along rows, blurred along columns, dark, bright, overexposed, squeezed, lens spot"""
    value: float
    limit: float | None = None
    """None of a lens spot, whose value is its share of the frame"""
    box: tuple[int, int, int, int] | None = None
    """x, y, width, height of a lens spot, in frame pixels"""

    def to_json(self) -> dict[str, Any]:
        """As records have it."""
        found: dict[str, Any] = {"what": self.what, "value": round(self.value, 4)}
        if self.limit is not None:
            found["limit"] = round(self.limit, 4)
        if self.box is not None:
            found["box"] = dict(zip(("x", "y", "width", "height"), self.box, strict=True))
        return found


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """What was measured in one frame."""

    values: tuple[float, ...]
    """Of MEASURES. Sharpness: log2 of fine over coarse contrast at two scales, lower = more blurred; level: log2 of the
    mean grey level + 4; clipped: share of the pixels at 250 or more."""
    diagonal: float
    """Of the region looked at, pixels"""
    aspect: float
    """Of that region, width over height"""
    cells: NDArray[np.float32]
    """(GRID, GRID) mean grey level of each cell"""
    details: NDArray[np.float32]
    """(GRID, GRID) mean contrast between neighbouring samples within each cell, grey levels"""


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityLimits:
    """What is usual, by the training images."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    """Of MEASURES; a value equal to its limit is within"""
    diagonals: tuple[float, float]
    """The least and largest of the training images"""
    n: int
    """Training images measured"""
    usual_spots: tuple[int, ...] = (0,) * GRID
    """Of each row of cells, the columns' bits, column 0 the lowest: where the training images themselves show something
    that stays, such as a fixture; no lens spot is looked for there."""
    aspects: tuple[float, float] | None = None
    """The least and largest width over height of the training images; None where the network sees the part in its own
    shape whatever the frame's, and in bundles of before"""

    def __post_init__(self) -> None:
        n = len(MEASURES)
        numbers = (*self.low, *self.high, *self.diagonals, *(self.aspects or ()))
        if len(self.low) != n or len(self.high) != n or not all(map(math.isfinite, numbers)):
            raise ConfigError(f"limits of picture quality are {self.low} and {self.high}, expected {n} numbers each")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"limits of picture quality are {self.low} and {self.high}, expected low <= high")
        if len(self.usual_spots) != GRID or not all(0 <= bits < 1 << GRID for bits in self.usual_spots):
            raise ConfigError(f"usual_spots are {self.usual_spots}, expected {GRID} numbers of {GRID} bits")

    def faults(self, quality: FrameQuality) -> tuple[Fault, ...]:
        """How a frame is unlike the training images; empty where it is not."""
        smallest, largest = self.diagonals
        comparable = smallest / SAME_SIZE <= quality.diagonal <= largest * SAME_SIZE
        found = []
        for name, value, low, high in zip(MEASURES, quality.values, self.low, self.high, strict=True):
            if name.startswith("sharpness") and not comparable:
                continue
            if value < low and name in BELOW:
                found.append(Fault(BELOW[name], value, low))
            elif value > high and name in ABOVE:
                found.append(Fault(ABOVE[name], value, high))
        if self.aspects is not None:
            narrowest, widest = self.aspects[0] / SAME_SIZE, self.aspects[1] * SAME_SIZE
            if not narrowest <= quality.aspect <= widest:
                found.append(Fault(SQUEEZED, quality.aspect, narrowest if quality.aspect < narrowest else widest))
        return tuple(found)

    def spots(self) -> NDArray[np.bool_]:
        """(GRID, GRID): usual_spots as a mask."""
        rows = np.array(self.usual_spots, dtype=np.uint64)[:, None]
        mask: NDArray[np.bool_] = (rows >> np.arange(GRID, dtype=np.uint64)) & np.uint64(1) == 1
        return mask

    def to_json(self) -> dict[str, Any]:
        """As the manifest's calibration has it."""
        return {
            "low": dict(zip(MEASURES, self.low, strict=True)),
            "high": dict(zip(MEASURES, self.high, strict=True)),
            "diagonals": list(self.diagonals),
            "n": self.n,
            "usual_spots": list(self.usual_spots),
            **({} if self.aspects is None else {"aspects": list(self.aspects)}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> QualityLimits | None:
        """Of a manifest's calibration; None for None, as in bundles of before. Raises ConfigError."""
        if values is None:
            return None
        aspects = values.get("aspects")
        try:
            return cls(
                low=tuple(float(values["low"][name]) for name in MEASURES),
                high=tuple(float(values["high"][name]) for name in MEASURES),
                diagonals=(float(values["diagonals"][0]), float(values["diagonals"][1])),
                n=int(values["n"]),
                usual_spots=tuple(int(bits) for bits in values["usual_spots"]),
                aspects=None if aspects is None else (float(aspects[0]), float(aspects[1])),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ConfigError(
                f"limits of picture quality cannot be used: {error!r}; export the bundle again"
            ) from error


def measured(frame: Frame, roi: tuple[int, int, int, int] | None = None) -> FrameQuality | None:
    """The quality of a frame, (H, W) or (H, W, 3) BGR uint8, within a region x, y, width, height; None of one that is
    too small to tell."""
    if roi is not None:
        x, y, width, height = roi
        frame = frame[y : y + height, x : x + width]
    rows, columns = frame.shape[:2]
    if min(rows, columns) < SMALLEST_SIDE:
        return None
    cv2 = require("cv2", extra="camera", purpose="checks of picture quality")
    looked = np.ascontiguousarray(frame[:: max(1, rows // SAMPLED), :: max(1, columns // SAMPLED)])
    grey = _grey(cv2, looked)
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    mean = float(counts @ np.arange(256)) / grey.size
    clipped = float(counts[CLIPPED_FROM:].sum()) / grey.size
    contrast = np.zeros(grey.shape, dtype=np.uint8)
    contrast[:, 1:] = cv2.absdiff(grey[:, 1:], grey[:, :-1])
    cells, details = (
        cv2.resize(plane.astype(np.float32), (GRID, GRID), interpolation=cv2.INTER_AREA) for plane in (grey, contrast)
    )
    values = (*_sharpness(cv2, frame), math.log2(mean + BLACK), clipped)
    return FrameQuality(values, math.hypot(rows, columns), columns / rows, cells, details)


def limits_of(
    qualities: Sequence[FrameQuality | None], usual_spots: NDArray[np.bool_] | None = None
) -> QualityLimits | None:
    """The limits that training images give; None of too few that could be measured. usual_spots: (GRID, GRID).

    Each limit lies K robust deviations from the median: the larger of 1.4826 times the median absolute deviation on
    its side, and the distance of the 5 % quantile over 1.645.
    """
    known = [quality for quality in qualities if quality is not None]
    if len(known) < LEAST_IMAGES:
        return None
    values = np.array([quality.values for quality in known])
    least = np.array([LEAST_MARGIN[name] for name in MEASURES])
    median = np.median(values, axis=0)
    margins = []
    for side in (median - values, values - median):
        deviation = 1.4826 * np.array([np.median(column[column >= 0.0]) for column in side.T])
        tail = np.quantile(side, 1.0 - USUAL_SHARE, axis=0) / USUAL_SIGMAS
        margins.append(np.maximum(K * np.maximum(deviation, tail), least))
    diagonals, aspects = [quality.diagonal for quality in known], [quality.aspect for quality in known]
    mask = np.zeros((GRID, GRID), dtype=bool) if usual_spots is None else usual_spots
    return QualityLimits(
        low=tuple(map(float, median - margins[0])),
        high=tuple(map(float, median + margins[1])),
        diagonals=(min(diagonals), max(diagonals)),
        aspects=(min(aspects), max(aspects)),
        n=len(known),
        usual_spots=tuple(int(sum(1 << int(column) for column in np.flatnonzero(row))) for row in mask),
    )


def told(names: Sequence[str], faults: Sequence[Sequence[Fault]], most: int = 3) -> str | None:
    """What a person is told of images that differ: "3 of 300 images differ in picture quality, ..."; None for none.

    faults: of each image. most: images named.
    """
    differing = [(name, of) for name, of in zip(names, faults, strict=True) if of]
    if not differing:
        return None
    counts = Counter(what for _, of in differing for what in {fault.what for fault in of})
    kinds = ", ".join(f"{n} {what}" for what, n in counts.most_common())
    named = "; ".join(f"{name} ({', '.join(fault.what for fault in of)})" for name, of in differing[:most])
    more = "; ..." if len(differing) > most else ""
    return f"{len(differing)} of {len(names)} images differ in picture quality ({kinds}): {named}{more}"


def _grey(cv2: Any, frame: Frame) -> Frame:
    grey: Frame = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    return grey


def _sharpness(cv2: Any, frame: Frame) -> tuple[float, float]:
    """Along rows and along columns: log2 of contrast at a lag of 1 pixel over that at 4, and of 2 over 8, summed.

    A ratio of contrasts changes little with what is shown and how brightly; blur takes from the finer first.
    """
    starts = np.linspace(0, len(frame) - BAND_ROWS, BANDS).round().astype(int)
    bands = _grey(cv2, np.concatenate([frame[start : start + BAND_ROWS] for start in starts]))
    values = bands.reshape(BANDS, BAND_ROWS, -1)
    some = np.ascontiguousarray(values[:, :ROWS_COMPARED])
    along_rows = [_contrast(cv2, some[:, :, lag:], some[:, :, :-lag]) for lag in (1, 2, 4, 8)]
    along_columns = [_contrast(cv2, values[:, lag:], values[:, :-lag]) for lag in (1, 2, 4, 8)]
    of_rows, of_columns = (math.log2(fine * finer / (coarse * coarser))
                           for fine, finer, coarse, coarser in (along_rows, along_columns))  # fmt: skip
    return of_rows, of_columns


def _contrast(cv2: Any, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean squared difference in squared grey levels, and QUANTISATION."""
    width = a.shape[-1]
    squared = cv2.norm(
        np.ascontiguousarray(a).reshape(-1, width), np.ascontiguousarray(b).reshape(-1, width), cv2.NORM_L2SQR
    )
    return float(squared) / a.size + QUANTISATION
