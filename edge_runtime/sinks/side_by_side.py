"""One picture of several panels, side by side: a frame, and what detectors see in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.heatmap import HeatScale, enlarged_overlay
from edge_runtime.sinks.annotate import BAR, GREEN, RED, WHITE

__all__ = ["SeenFrame", "side_by_side"]

LEAST_WIDTH = 260
"""Pixels of a panel: what is narrower gets black beside it, so that the caption can be read."""

MOST_SIDE = 960
"""Pixels: larger frames are shrunk to it, so that three panels fit on a screen and on the disk."""

FONT_SCALE = 0.45


@dataclass(frozen=True, slots=True)
class SeenFrame:
    """What a detector sees in the frame."""

    caption: str
    is_anomaly: bool
    heat: NDArray[np.float32]
    """(H, W) of the frame"""
    scale: HeatScale
    """Each detector's own, for maps of two networks have none in common"""


def side_by_side(frame: Frame, caption: str, seen: Sequence[SeenFrame]) -> Frame:
    """(height, width, 3) BGR uint8: the frame, then the frame under each map, each above its caption.

    frame: (H, W) or (H, W, 3) BGR uint8.
    """
    plain = _panel(frame, np.zeros(frame.shape[:2], dtype=np.float32), HeatScale(), caption, WHITE)
    others = [_panel(frame, one.heat, one.scale, one.caption, RED if one.is_anomaly else GREEN) for one in seen]
    return np.concatenate([plain, *others], axis=1)


def _panel(
    frame: Frame, heat: NDArray[np.float32], scale: HeatScale, caption: str, colour: tuple[int, int, int]
) -> Frame:
    cv2 = require("cv2", extra="camera", purpose="pictures")
    height, width = frame.shape[:2]
    if max(height, width) > MOST_SIDE:
        factor = MOST_SIDE / max(height, width)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
    image = enlarged_overlay(frame, heat, scale)
    beside = max(0, LEAST_WIDTH - image.shape[1])
    image = cv2.copyMakeBorder(image, 0, BAR, 0, beside, cv2.BORDER_CONSTANT)
    text = _fitting(caption, image.shape[1] - 12)
    place = (6, image.shape[0] - 8)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, colour, 1, cv2.LINE_AA)
    drawn: Frame = image
    return drawn


def _fitting(caption: str, width: int) -> str:
    """The caption, or as much of its end as has room: names differ at their ends. OpenCV draws ASCII alone."""
    cv2 = require("cv2", extra="camera", purpose="pictures")
    text = caption.encode("ascii", errors="replace").decode("ascii")
    while len(text) > 1 and cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)[0][0] > width:
        text = text[1:]
    return text
