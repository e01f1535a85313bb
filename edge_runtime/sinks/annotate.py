"""A frame as people look at it: the map in colours over it, boxes, score and time."""

from __future__ import annotations

from typing import Any

from edge_runtime.extras import require
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.heatmap import overlay
from edge_runtime.scoring.result import Result

__all__ = ["annotated"]

LEAST_SIDE = 240
"""Smaller frames are enlarged, so that the text can be read."""

BAR = 24
"""Height of the strip below the picture, pixels."""

RED, GREEN, WHITE, AMBER = (60, 60, 230), (90, 200, 90), (255, 255, 255), (60, 180, 240)


def annotated(frame: Frame, result: Result, record: dict[str, Any]) -> Frame:
    """(H, W, 3) BGR uint8: the frame, of an anomalous one its map and regions, and a line of text below.

    Where a scale or a smallest area is in force, each region has its area beside it.

    Drawn by what the result was scored with, whatever the run scores with by now.
    """
    cv2 = require("cv2", extra="camera", purpose="pictures")
    image = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame.copy()
    heat = result.shown_heatmap(frame.shape)
    factor = max(1, -(-LEAST_SIDE // min(image.shape[:2])))
    if factor > 1:
        size = (image.shape[1] * factor, image.shape[0] * factor)
        image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_NEAREST)
    if result.is_anomaly:
        image = overlay(image, heat, result.heat_scale)
        for region in result.regions(frame.shape):
            left, top = factor * region.x, factor * region.y
            corner = left + factor * region.width - 1, top + factor * region.height - 1
            cv2.rectangle(image, (left, top), corner, RED, 1)
            if result.size:
                _label(image, region.size, left, top)
    image = cv2.copyMakeBorder(image, 0, BAR, 0, 0, cv2.BORDER_CONSTANT)
    colour = RED if result.is_anomaly else AMBER if result.unknown else GREEN
    text = f"{result.score:.2f} / {result.threshold:.2f}"
    place = (6, image.shape[0] - 8)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    moment = str(record.get("t_capture") or record.get("peak_time") or "")[:19].replace("T", " ")
    (width, _), _ = cv2.getTextSize(moment, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    if width + 110 < image.shape[1]:
        place = (image.shape[1] - width - 6, image.shape[0] - 8)
        cv2.putText(image, moment, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4, WHITE, 1, cv2.LINE_AA)
    drawn: Frame = image
    return drawn


def _label(image: Frame, text: str, left: int, top: int) -> None:
    """Text above a box that begins there, or within it where the picture ends, not beyond the right edge."""
    cv2 = require("cv2", extra="camera", purpose="pictures")
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)
    place = (max(0, min(left, image.shape[1] - width)), top - 3 if top > height + 3 else top + height + 3)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.35, RED, 1, cv2.LINE_AA)
