"""Heatmaps for people: the anomaly map as colours over the frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.model.defect_size import DefectSize
from edge_runtime.model.preprocess import Frame

__all__ = ["check_size", "enlarged_overlay", "overlay", "peak_of"]

OVERLAY_ALPHA = 0.6
"""Weight of the colour where the map is at its brightest: the image stays readable below."""

SEEN_SIDE = 256
"""Pixels: smaller images are enlarged to it, so that a person sees their heatmap."""


def overlay(frame: Frame, heat: NDArray[np.float32], brightest: float) -> Frame:
    """The frame with the anomaly map over it: (H, W, 3) BGR uint8; where the map is zero the frame is unchanged.

    frame: (H, W) or (H, W, 3) BGR uint8; heat: (H, W) float32 squared errors. brightest: map value that gets the
    full colour; keep it the same for images that are compared.
    """
    cv2 = require("cv2", extra="camera", purpose="heatmaps")
    base = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
    # Squared errors span decades; their root is what the eye compares.
    level = np.sqrt(np.clip(heat / max(brightest, 1e-12), 0.0, 1.0))
    colours = cv2.applyColorMap((255.0 * level).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = (OVERLAY_ALPHA * level)[:, :, None]
    blended: Frame = ((1.0 - alpha) * base + alpha * colours).astype(np.uint8)
    return blended


def enlarged_overlay(frame: Frame, heat: NDArray[np.float32], brightest: float) -> Frame:
    """overlay, of an image that is enlarged by whole factors where it is tiny."""
    cv2 = require("cv2", extra="camera", purpose="heatmaps")
    factor = max(1, SEEN_SIDE // max(frame.shape[:2]))
    if factor > 1:
        size = (frame.shape[1] * factor, frame.shape[0] * factor)
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST)
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST)
    return overlay(frame, heat, brightest)


PEAK_QUANTILE = "0.99"


def peak_of(calibration: Mapping[str, Any]) -> float:
    """p99 of the training images' brightest map pixels, from a run's or bundle's calibration; 1 where it has none."""
    return float(calibration.get("anomaly_map_peak", {}).get(PEAK_QUANTILE, 1.0))


def check_size(size: DefectSize, calibration: Mapping[str, Any], model: object) -> None:
    """Raise ConfigError where a smallest area is asked that cannot be told: without a scale for mm2, or without the
    usual peak of the map, above which regions lie. calibration: of the run or bundle; model: its name."""
    if size.least_px is not None and PEAK_QUANTILE not in calibration.get("anomaly_map_peak", {}):
        raise ConfigError(
            f"a smallest area of {size.min_area} was asked, and {model} keeps no usual peak of its anomaly map, by "
            "which regions are found; leave --min-area out, or train and export it again"
        )
