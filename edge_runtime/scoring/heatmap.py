"""Heatmaps for people: the anomaly map as colours over the frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.model.defect_size import DefectSize
from edge_runtime.model.preprocess import Frame

__all__ = ["HeatScale", "check_size", "enlarged_overlay", "overlay", "scale_of"]

OVERLAY_ALPHA = 0.6
"""Weight of the colour from half its range on: the image stays readable below."""
FAINTEST = 0.25
"""Of the colour map, where colour begins: below it is black, which would darken the image."""
BRUSH = 0.012
"""Of the frame's longer side: so broad is what a single pixel of the map colours, that a person sees it."""
LEAST_REACH = 0.05
"""Of the peak: where normal images are all alike, a little more than usual is not the full colour."""

SEEN_SIDE = 256
"""Pixels: smaller images are enlarged to it, so that a person sees their heatmap."""


@dataclass(frozen=True, slots=True)
class HeatScale:
    """Which values of a map have which colour; of one model, so that its images compare."""

    usual: float = 0.0
    """The brightest pixel of the median normal image: up to it there is no colour, for distances have no zero"""
    peak: float = 1.0
    """That of the 99th of 100 normal images: regions lie above it"""
    bright: float | None = None
    """That of the 95th: half the colour; None: at the peak, as for bundles of before"""

    def shade(self, heat: NDArray[np.floating]) -> NDArray[np.float32]:
        """0, no colour, to 1, the full one, of a map (H, W)."""
        half = self.peak if self.bright is None else self.bright
        reach = 2.0 * max(half - self.usual, LEAST_REACH * abs(half), 1e-12)
        shades: NDArray[np.float32] = np.clip((heat - self.usual) / reach, 0.0, 1.0).astype(np.float32)
        return shades


def overlay(frame: Frame, heat: NDArray[np.float32], scale: HeatScale, brush: int | None = None) -> Frame:
    """The frame with the anomaly map over it: (H, W, 3) BGR uint8; where the map is usual the frame is unchanged.

    frame: (H, W) or (H, W, 3) BGR uint8; heat: (H, W) float32. brush: pixels that one of the map colours; None: BRUSH.
    """
    cv2 = require("cv2", extra="camera", purpose="heatmaps")
    base = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
    level = scale.shade(heat)
    brush = round(BRUSH * max(level.shape)) if brush is None else brush
    if brush > 1:
        level = cv2.dilate(level, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (brush, brush)))
    colours = cv2.applyColorMap((255.0 * (FAINTEST + (1.0 - FAINTEST) * level)).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = (OVERLAY_ALPHA * np.minimum(1.0, 2.0 * level))[:, :, None]
    blended: Frame = ((1.0 - alpha) * base + alpha * colours).astype(np.uint8)
    return blended


def enlarged_overlay(frame: Frame, heat: NDArray[np.float32], scale: HeatScale) -> Frame:
    """overlay, of an image that is enlarged by whole factors where it is tiny."""
    cv2 = require("cv2", extra="camera", purpose="heatmaps")
    factor = max(1, SEEN_SIDE // max(frame.shape[:2]))
    if factor > 1:
        size = (frame.shape[1] * factor, frame.shape[0] * factor)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST)
    return overlay(frame, heat, scale, brush=0 if factor > 1 else None)  # enlarged pixels are seen as they are


MEDIAN, BRIGHT_QUANTILE, PEAK_QUANTILE = "0.5", "0.95", "0.99"


def scale_of(calibration: Mapping[str, Any]) -> HeatScale:
    """By the training images' brightest map pixels, from a run's or bundle's calibration; 0 to 1 where it has none."""
    peaks = calibration.get("anomaly_map_peak", {})
    bright = peaks.get(BRIGHT_QUANTILE)
    usual, peak = float(peaks.get(MEDIAN, 0.0)), float(peaks.get(PEAK_QUANTILE, 1.0))
    return HeatScale(usual, peak, None if bright is None else float(bright))


def check_size(size: DefectSize, calibration: Mapping[str, Any], model: object) -> None:
    """Raise ConfigError where a smallest area is asked that cannot be told: without a scale for mm2, or without the
    usual peak of the map, above which regions lie. calibration: of the run or bundle; model: its name."""
    if size.least_px is not None and PEAK_QUANTILE not in calibration.get("anomaly_map_peak", {}):
        raise ConfigError(
            f"a smallest area of {size.min_area} was asked, and {model} keeps no usual peak of its anomaly map, by "
            "which regions are found; leave --min-area out, or train and export it again"
        )
