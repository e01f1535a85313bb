"""Soft shapes that synthetic defects have: smooth noise, ragged patches, ovals, wandering lines.

Called by defects.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["blurred", "oval", "ragged", "smooth_noise", "wander"]

Grey = NDArray[np.float32]
"""(H, W)"""


def smooth_noise(shape: tuple[int, ...], wavelength: float, rng: np.random.Generator) -> Grey:
    """Noise with features of about `wavelength` pixels and finer ones on top: (H, W) float32, mean 0, deviation 1."""
    height, width = shape
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(3):
        step = max(wavelength / 2**octave, 1.0)
        rows, columns = math.ceil(height / step) + 2, math.ceil(width / step) + 2
        grid = rng.standard_normal((rows, columns), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(0.5**octave)
    centred: Grey = (total - total.mean()) / max(float(total.std()), 1e-6)
    return centred


def ragged(
    shape: tuple[int, ...], center: tuple[float, float], sizes: tuple[float, float], rng: np.random.Generator
) -> Grey:
    """A soft shape 0..1 with a ragged outline around (x, y), of half sizes (x, y) in pixels."""
    height, width = shape
    rows, columns = np.ogrid[:height, :width]
    angle = rng.uniform(-0.6, 0.6)
    dx, dy = columns - center[0], rows - center[1]
    u = (dx * math.cos(angle) + dy * math.sin(angle)) / max(sizes[0], 1.0)
    v = (dy * math.cos(angle) - dx * math.sin(angle)) / max(sizes[1], 1.0)
    power = rng.uniform(1.0, 4.0)  # from a rhombus to nearly a rectangle
    distance = (np.abs(u) ** power + np.abs(v) ** power) ** (1.0 / power)
    outline = distance.astype(np.float32) - 1.0
    rough = max(3.0, min(sizes) * rng.uniform(0.3, 1.0))
    outline += np.float32(rng.uniform(0.05, 0.4)) * smooth_noise(shape, rough, rng)
    softness = rng.uniform(0.5, 2.0) / max(min(sizes), 1.0)
    return np.clip(0.5 - outline / (2 * softness), 0.0, 1.0)


def oval(shape: tuple[int, ...], center: tuple[float, float], radius: float, rng: np.random.Generator) -> Grey:
    """A soft oval, 0..1."""
    height, width = shape
    rows, columns = np.ogrid[:height, :width]
    angle, stretch = rng.uniform(0, math.pi), rng.uniform(0.55, 1.0)
    dx, dy = columns - center[0], rows - center[1]
    u = dx * math.cos(angle) + dy * math.sin(angle)
    v = (dy * math.cos(angle) - dx * math.sin(angle)) / stretch
    softness = rng.uniform(0.5, 1.0 + 0.3 * radius)
    return np.clip(0.5 - (np.hypot(u, v) - radius) / (2 * softness), 0.0, 1.0).astype(np.float32)


def wander(
    canvas: Grey,
    start: Sequence[float] | NDArray[np.float64],
    length: float,
    angle: float,
    bend: float,
    rng: np.random.Generator,
) -> None:
    """Draw a line that changes direction a little every three pixels, by `bend` radians, and its width too."""
    n_steps = max(2, round(length / 3.0))
    angles = angle + np.cumsum(rng.normal(0.0, bend, n_steps))
    points = np.cumsum(np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3.0, axis=0) + np.asarray(start)
    thick = rng.random() < 0.4
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(canvas, [fixed.reshape(-1, 1, 2)], False, 1.0, 2 if thick else 1, cv2.LINE_8, 4)


def blurred(shape: Grey, sigma: float) -> Grey:
    """The shape (H, W) float32 under a Gaussian of this standard deviation, pixels; its range stays."""
    return np.asarray(cv2.GaussianBlur(shape, (0, 0), sigma), dtype=np.float32)
