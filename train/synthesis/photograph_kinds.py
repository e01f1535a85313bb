"""The kinds of defects on whole photographs: what becomes of which pixels. Called by photograph_defects.py."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.synthesis.scene import Frame, nearest_value
from train.synthesis.shapes import Grey, blurred, box, ragged, smooth_noise, wander

__all__ = ["AREA_SHARES", "PHOTOGRAPH_KINDS", "Piece", "Scene", "Spot", "area_of", "channelled", "spot_of"]

AREA_SHARES = (0.001, 0.03)
"""Smallest and largest defect, as a share of the frame."""
LEAST_AREAS = (4, 9)
"""The same bounds in pixels, for frames so small that the shares come to less."""
PALETTE_DISTANCE = 24.0
"""Grey levels between a stain and what it lies on, at least."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a defect is drawn from."""

    frame: Frame
    others: Sequence[Frame]
    places: NDArray[np.intp]
    """(P, 2) row and column, where a defect's centre may lie; empty: anywhere"""
    values: NDArray[np.uint8] | None
    """(2, C) of a two-valued photograph"""
    shares: tuple[float, float] = AREA_SHARES
    """Smallest and largest defect, as a share of the frame"""

    @property
    def exact(self) -> bool:
        """Whether the photograph has its two values and no other, as no scaled scan has."""
        frame, values = self.frame, self.values
        return values is not None and bool((frame[:, :, None, :] == values).all(axis=3).any(axis=2).all())

    @property
    def areas(self) -> tuple[int, int]:
        """Least and most pixels of a defect."""
        n_pixels = self.frame.shape[0] * self.frame.shape[1]
        least, most = (max(a, round(share * n_pixels)) for a, share in zip(LEAST_AREAS, self.shares, strict=True))
        return min(least, n_pixels), most

    @property
    def side(self) -> int:
        """The shorter side, pixels."""
        return min(self.frame.shape[:2])

    def place(self, rng: np.random.Generator) -> tuple[float, float]:
        """x, y."""
        if len(self.places):
            row, column = self.places[int(rng.integers(len(self.places)))]
            return float(column), float(row)
        height, width = self.frame.shape[:2]
        return rng.random() * width, rng.random() * height


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the photograph and what it becomes."""

    window: tuple[slice, slice]
    """rows, columns"""
    shape: Grey
    """(h, w) 0..1, how far it becomes the content"""
    content: NDArray[np.float32]
    """(h, w, C)"""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a defect of an area comes to lie: all kinds but lines start from one."""

    window: tuple[slice, slice]
    centre: tuple[float, float]
    """x, y in the frame"""
    shape: Grey
    """(h, w)"""
    was: NDArray[np.float32]
    """(h, w, C), what the window shows"""

    @property
    def before(self) -> NDArray[np.float32]:
        """(C,) mean under the shape."""
        mean: NDArray[np.float32] = np.tensordot(self.shape, self.was, 2) / max(float(self.shape.sum()), 1e-6)
        return mean


def pasted(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A box or an irregular patch of another photograph, or of another place of the same one, turned a little."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.5)
    other = bool(scene.others) and rng.random() < 0.5
    source = scene.others[int(rng.integers(len(scene.others)))] if other else scene.frame
    # Now and then the same place of another photograph: what is wrong is that it lies or looks a little different.
    start = spot.centre if other and rng.random() < 0.3 else _place_in(source, scene, rng)
    patch = _cut(source, start, spot, scene, turn=rng.uniform(-0.35, 0.35), flip=None)
    return Piece(spot.window, spot.shape, _relit(patch, scene, rng))


def scar(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A long thin box of another place or photograph, at any angle."""
    spot = spot_of(scene, rng, 0.5 * area_of(scene, rng), stretch=12.0, least_stretch=4.0, boxed=True)
    source = scene.others[int(rng.integers(len(scene.others)))] if scene.others and rng.random() < 0.5 else scene.frame
    patch = _cut(source, _place_in(source, scene, rng), spot, scene, turn=rng.uniform(0.0, 2 * math.pi), flip=None)
    return Piece(spot.window, spot.shape, _relit(patch, scene, rng))


def scratch(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A thin dark or bright line, straight or bent."""
    height, width = scene.frame.shape[:2]
    thickness = max(1, round(scene.side * math.exp(rng.uniform(math.log(0.003), math.log(0.014)))))
    length = float(np.clip(area_of(scene, rng) / thickness, 0.06 * scene.side, 0.9 * scene.side))
    angle = rng.uniform(0, 2 * math.pi)
    x, y = scene.place(rng)
    canvas = np.zeros((height, width), dtype=np.float32)
    bend = rng.uniform(0.0, 0.1)
    # Both ways from the middle, so that a bent line passes there too; a line begins three pixels on from its start.
    wander(canvas, (x, y), 0.5 * length, angle, bend, rng, thickness)
    back = x + 6.0 * math.cos(angle), y + 6.0 * math.sin(angle)
    wander(canvas, back, 0.5 * length, angle + math.pi, bend, rng, thickness)
    if scene.values is None:
        canvas = blurred(canvas, rng.uniform(0.45, 0.7))
        canvas /= max(float(canvas.max()), 1e-6)
    window = slice(0, height), slice(0, width)
    was = scene.frame.astype(np.float32)
    spot = Spot(window, (x, y), canvas, was)
    if scene.values is not None:
        return Piece(window, canvas, _filled(spot, _farther(spot, scene.values)))
    step = math.copysign(rng.uniform(30.0, 130.0), rng.random() - 0.5)
    base = was if rng.random() < 0.5 else _filled(spot, spot.before)
    return Piece(window, canvas, base + np.float32(step))


def stain(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A blob in a colour that the photograph has elsewhere, with a soft edge and clouds in it."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0, boxed=False)
    if scene.values is not None:
        return Piece(spot.window, spot.shape, _filled(spot, _farther(spot, scene.values)))
    height, width = scene.frame.shape[:2]
    rows, columns = rng.integers(height, size=32), rng.integers(width, size=32)
    smooth = cv2.blur(scene.frame, (3, 3)).reshape(height, width, -1)
    palette = smooth[rows, columns].astype(np.float32)
    far = palette[np.abs(palette - spot.before).mean(axis=1) > PALETTE_DISTANCE]
    if not len(far):
        return None
    radius = math.sqrt(float(spot.shape.sum()) / math.pi)
    edge = blurred(spot.shape, max(0.5, radius * rng.uniform(0.1, 0.35)))
    clouds = 1.0 + 0.15 * smooth_noise(spot.shape.shape, max(3.0, radius), rng)
    opacity = np.clip(rng.uniform(0.45, 1.0) * edge * clouds, 0.0, 1.0).astype(np.float32)
    return Piece(spot.window, opacity, _filled(spot, far[int(rng.integers(len(far)))]))


def missing(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region that its surroundings have taken: in-painted, closed over, or as the background is."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    hole = (spot.shape > 0.1).astype(np.uint8)
    around = (cv2.dilate(hole, np.ones((5, 5), dtype=np.uint8)) - hole) > 0
    was = spot.was.astype(np.uint8)
    choice = rng.random()
    if scene.values is not None and choice < 0.6:  # open, short, bite, spur: as etching goes wrong
        across = 2 * max(1, round(scene.side * rng.uniform(0.005, 0.02))) + 1
        change = cv2.erode if rng.random() < 0.5 else cv2.dilate
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across))
        return Piece(spot.window, spot.shape, channelled(change(was, kernel)))
    if not around.any():
        return None
    if choice < 0.45 and scene.values is None:
        return Piece(spot.window, spot.shape, channelled(cv2.inpaint(was, hole, 3.0, cv2.INPAINT_TELEA)))
    if choice < 0.6 and len(scene.places) and scene.values is None:
        background = np.concatenate([scene.frame[0], scene.frame[-1], scene.frame[:, 0], scene.frame[:, -1]])
        return Piece(spot.window, spot.shape, _filled(spot, np.median(background, axis=0)))
    # The colour of one place of the rim, as if this went on: where the region crosses an edge, it shows.
    ring = spot.was[around]
    return Piece(spot.window, spot.shape, _filled(spot, ring[int(rng.integers(len(ring)))]))


def displaced(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region that is shifted, or mirrored in its place."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    x, y = spot.centre
    if rng.random() < 0.4:
        mirror = (-1.0, 1.0) if rng.random() < 0.5 else (1.0, -1.0)
        return Piece(spot.window, spot.shape, _cut(scene.frame, (x, y), spot, scene, turn=0.0, flip=mirror))
    angle, far = rng.uniform(0, 2 * math.pi), max(1.0, scene.side * rng.uniform(0.015, 0.08))
    start = x + far * math.cos(angle), y + far * math.sin(angle)
    return Piece(spot.window, spot.shape, _cut(scene.frame, start, spot, scene, turn=0.0, flip=None))


def degraded(scene: Scene, rng: np.random.Generator) -> Piece | None:
    """A region that is blurred, or has noise on it."""
    spot = spot_of(scene, rng, area_of(scene, rng), stretch=2.0)
    grain = rng.uniform(0.0, 0.012) * scene.side
    if rng.random() < 0.5:
        sigma = max(1.5, scene.side * rng.uniform(0.012, 0.035))
        smooth = channelled(cv2.GaussianBlur(spot.was, (0, 0), sigma))
        return Piece(spot.window, spot.shape, smooth if scene.values is None else nearest_value(smooth, scene.values))
    channels = spot.was.shape[2] if rng.random() < 0.3 else 1
    noise = rng.standard_normal((*spot.shape.shape, channels), dtype=np.float32)
    if grain > 0.5:
        noise = channelled(cv2.GaussianBlur(noise, (0, 0), grain))
    noise *= rng.uniform(15.0, 60.0) / max(float(noise.std()), 1e-6)
    if scene.values is not None:
        noisy = spot.was + noise * np.float32(255.0 / 60.0)
        return Piece(spot.window, spot.shape, nearest_value(noisy, scene.values))
    return Piece(spot.window, spot.shape, spot.was + noise)


PHOTOGRAPH_KINDS: dict[str, Callable[[Scene, np.random.Generator], Piece | None]] = {
    kind.__name__: kind for kind in (pasted, scar, scratch, stain, missing, displaced, degraded)
}
"""Every kind by its name; None stands for a draw that came to nothing."""


def area_of(scene: Scene, rng: np.random.Generator) -> float:
    """Pixels, log-uniform."""
    least, most = scene.areas
    return least * (most / least) ** rng.random()


def spot_of(
    scene: Scene,
    rng: np.random.Generator,
    area: float,
    *,
    stretch: float,
    least_stretch: float = 1.0,
    boxed: bool | None = None,
) -> Spot:
    """A place and a shape of about this area, up to `stretch` times as long as wide; boxed None: half of them."""
    height, width = scene.frame.shape[:2]
    x, y = scene.place(rng)
    length = math.sqrt(least_stretch * (stretch / least_stretch) ** rng.random())
    boxed = rng.random() < 0.5 if boxed is None else boxed
    half = math.sqrt(area / (4.0 if boxed else math.pi))
    sizes = (half * length, half / length) if rng.random() < 0.5 else (half / length, half * length)
    reach = math.ceil(1.5 * max(sizes)) + 6
    column, row = int(x), int(y)
    window = (
        slice(max(0, row - reach), min(height, row + reach + 1)),
        slice(max(0, column - reach), min(width, column + reach + 1)),
    )
    local = x - window[1].start, y - window[0].start
    was = scene.frame[window].astype(np.float32)
    angle = rng.uniform(0, math.pi) if least_stretch > 1.0 else rng.uniform(-0.35, 0.35)
    shape = box(was.shape[:2], local, sizes, angle) if boxed else ragged(was.shape[:2], local, sizes, rng)
    return Spot(window, (x, y), shape, was)


def _place_in(source: Frame, scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """x, y in another photograph, at a place where this one may have defects: parts lie alike, mostly."""
    (height, width), (rows, columns) = scene.frame.shape[:2], source.shape[:2]
    x, y = scene.place(rng)
    return x * columns / width, y * rows / height


def _cut(
    source: Frame,
    start: tuple[float, float],
    spot: Spot,
    scene: Scene,
    *,
    turn: float,
    flip: tuple[float, float] | None,
) -> NDArray[np.float32]:
    """What a photograph shows around (x, y), turned by radians and mirrored, for the spot's window: (h, w, C)."""
    across, down = flip or (1.0, 1.0)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]) * [across, down]
    local = np.array([spot.centre[0] - spot.window[1].start, spot.centre[1] - spot.window[0].start])
    shift = np.array(start) - rotation @ local
    height, width = spot.shape.shape
    sampling = cv2.INTER_LINEAR if scene.values is None else cv2.INTER_NEAREST
    matrix = np.column_stack([rotation, shift])
    cut = cv2.warpAffine(
        source, matrix, (width, height), flags=sampling | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
    )
    return channelled(cut)


def _relit(patch: NDArray[np.float32], scene: Scene, rng: np.random.Generator) -> NDArray[np.float32]:
    """As another light would show it; a two-valued photograph knows no light."""
    if scene.values is not None:
        return patch
    lit: NDArray[np.float32] = patch * np.float32(math.exp(rng.normal(0.0, 0.12))) + np.float32(rng.normal(0.0, 10.0))
    return lit


def channelled(image: NDArray[Any]) -> NDArray[np.float32]:
    """(h, w, C) float32: OpenCV drops the axis of a single channel."""
    return image.reshape(*image.shape[:2], -1).astype(np.float32)


def _filled(spot: Spot, colour: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.broadcast_to(np.asarray(colour, dtype=np.float32), spot.was.shape)


def _farther(spot: Spot, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of two values the one that the spot shows less of."""
    farther: NDArray[np.uint8] = values[int(np.abs(values - spot.before).sum(axis=1).argmax())]
    return farther
