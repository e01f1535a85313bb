"""Kinds of defects that a head learns beside those that views are ranked by: parts too thick, bent or of another tone.

Called by photograph_defects.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthesis.photograph_kinds import PHOTOGRAPH_KINDS, Piece, Scene, area_of, channelled, spot_of
from train.synthesis.shapes import smooth_noise

__all__ = ["STRUCTURE_KINDS"]

THICKNESS = (0.006, 0.03)
"""By which parts grow or shrink, of the frame's shorter side"""
BEND = (0.008, 0.03)
"""By which pixels are moved, of the frame's shorter side"""
TONE = (20.0, 90.0)
"""By which a tone changes, grey levels"""


def thickened(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region whose bright parts have grown, or shrunk: bridges, bulges, breaks and bites."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    across = 2 * max(1, round(0.5 * scene.side * _log_uniform(THICKNESS, rng))) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
    grow = cv2.dilate if rng.random() < 0.5 else cv2.erode
    return Piece(spot.window, spot.shape, channelled(grow(spot.was, kernel)))


def warped(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region that is bent."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    height, width = spot.shape.shape
    far = max(1.5, scene.side * _log_uniform(BEND, rng))
    scale = max(3.0, math.sqrt(float(spot.shape.sum())) * rng.uniform(0.2, 0.5))
    moves = [_to_peak(smooth_noise((height, width), scale, rng), far) for _ in range(2)]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    sampling = cv2.INTER_LINEAR if scene.values is None else cv2.INTER_NEAREST
    bent = cv2.remap(spot.was, columns + moves[0], rows + moves[1], sampling, borderMode=cv2.BORDER_REFLECT)
    return Piece(spot.window, spot.shape, channelled(bent))


def toned(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region of another brightness or colour, its structure as it was; a two-valued photograph knows none."""
    if scene.values is not None:
        return None
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    channels = spot.was.shape[2]
    step = np.full(channels, 1.0) if rng.random() < 0.5 else rng.normal(size=channels)
    step *= _log_uniform(TONE, rng) * rng.choice([-1.0, 1.0]) / max(float(np.abs(step).max()), 1e-6)
    return Piece(spot.window, spot.shape, spot.was + step.astype(np.float32))


STRUCTURE_KINDS: dict[str, Callable[[Scene, np.random.Generator], Piece | None]] = {
    **PHOTOGRAPH_KINDS,
    **{kind.__name__: kind for kind in (thickened, warped, toned)},
}
"""Every kind by its name, as PHOTOGRAPH_KINDS."""


def _log_uniform(ends: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = ends
    return float(low * (high / low) ** rng.random())


def _to_peak(noise: NDArray[np.float32], peak: float) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = (noise * np.float32(peak / max(float(np.abs(noise).max()), 1e-6))).astype(np.float32)
    return scaled
