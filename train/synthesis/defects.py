"""Synthetic defects on a user's own photographs: what a network that has seen no defect learns to find.

Each kind is a function of a whole scaled grey photograph. Shapes come from smooth noise and random walks, textures from
the training photographs themselves, after CutPaste (Li et al. 2021, arXiv 2104.04015) and NSA (Schlueter et al. 2022,
arXiv 2109.15222); no other images are needed. Called by train/strategies/patch.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from train.synthesis.shapes import Grey, blurred, oval, ragged, smooth_noise, wander

__all__ = ["KINDS", "Defect", "DefectKind", "SynthesisSettings", "draw_defect"]

SHAPE_LEVEL = 0.3
"""Of a soft shape: what lies above counts as defect."""
BAND_SHARE = 0.35
"""A region larger than this share of the photograph is as much background as defect: its border alone is marked."""
LEAST_PIXELS = 4
"""A defect smaller than this after all is drawn again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SynthesisSettings:
    """How large and how visible synthetic defects are."""

    faintest: float = 0.05
    """Least change of brightness, as a natural logarithm: 5 %."""
    strongest: float = 1.2
    """Largest change: exp(-1.2) leaves 30 % of the brightness."""
    dark_share: float = 0.7
    """Of the defects that change brightness: darker ones. Holes and cracks swallow light."""
    smallest: float = 1.3
    """Radius of the smallest spot, pixels of the scaled photograph."""
    largest: float = 0.16
    """Radius of the largest spot, as a share of the photograph's shorter side."""

    def __post_init__(self) -> None:
        if not 0.0 < self.faintest < self.strongest:
            raise ConfigError(f"contrasts are {self.faintest} to {self.strongest}, expected 0 < faintest < strongest")
        if not 0.0 <= self.dark_share <= 1.0:
            raise ConfigError(f"dark share is {self.dark_share}, expected a share between 0 and 1")
        if self.smallest <= 0.0 or not 0.0 < self.largest <= 1.0:
            raise ConfigError(
                f"spots reach from {self.smallest} pixels to {self.largest} of the shorter side, expected above 0"
            )


@dataclass(frozen=True, slots=True)
class Defect:
    """A photograph with a defect in it."""

    grey: Grey
    mask: NDArray[np.bool_]
    """(H, W) where the defect is"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a defect is drawn from."""

    grey: Grey
    sources: Sequence[NDArray[np.uint8]]
    """Photographs that patches may be cut from, (h, w) each"""
    ease: float
    """1: strong contrasts alone; 0: all down to the faintest"""
    settings: SynthesisSettings

    def contrast(self, rng: np.random.Generator, most: float | None = None) -> float:
        """A change of log brightness, signed; log-uniform in its size."""
        settings = self.settings
        high = settings.strongest if most is None else most
        low = min(settings.faintest * (1.0 + 3.0 * self.ease), 0.5 * high)
        size = low * (high / low) ** rng.random()
        return -size if rng.random() < settings.dark_share else size

    @property
    def side(self) -> int:
        """The shorter side, pixels."""
        return min(self.grey.shape)


def draw_defect(
    grey: NDArray[np.uint8],
    sources: Sequence[NDArray[np.uint8]],
    kinds: Sequence[DefectKind],
    rng: np.random.Generator,
    settings: SynthesisSettings,
    ease: float = 0.0,
) -> Defect:
    """The photograph (H, W) with one defect of a kind drawn from `kinds`, grey levels still as float.

    sources: photographs for kinds that paste; ease: see Scene. A defect that came out smaller than LEAST_PIXELS, or
    hardly changed anything, is drawn again, at most ten times.
    """
    scene = Scene(grey.astype(np.float32), sources, ease, settings)
    for _ in range(10):
        defect = KINDS[kinds[int(rng.integers(len(kinds)))]](scene, rng)
        if defect.mask.sum() >= LEAST_PIXELS and _visible(scene, defect):
            break
    return Defect(np.clip(defect.grey, 0.0, 255.0), defect.mask)


def spots(scene: Scene, rng: np.random.Generator) -> Defect:
    """One to three small round or oval spots: holes, inclusions, drops."""
    shape = np.zeros_like(scene.grey)
    largest = max(scene.settings.smallest * 1.5, scene.settings.largest * 0.5 * scene.side)
    for _ in range(1 if rng.random() < 0.75 else int(rng.integers(2, 4))):
        radius = scene.settings.smallest * (largest / scene.settings.smallest) ** rng.random()
        np.maximum(shape, oval(scene.grey.shape, _place(scene, rng), radius, rng), out=shape)
    return _lit(scene, shape, _at_least(scene.contrast(rng), 0.12), rng)


def crack(scene: Scene, rng: np.random.Generator) -> Defect:
    """A thin line that wanders, as cracks do, sometimes with a branch."""
    shape = np.zeros_like(scene.grey)
    for branch in range(1 if rng.random() < 0.7 else 2):
        start = _place(scene, rng)
        length = scene.side * rng.uniform(0.12, 0.9) / (1 + branch)
        wander(shape, start, length, rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 0.5), rng)
    return _lit(scene, blurred(shape, rng.uniform(0.3, 0.9)), _at_least(scene.contrast(rng), 0.12), rng)


def scratches(scene: Scene, rng: np.random.Generator) -> Defect:
    """One to five straight or slightly bent lines side by side."""
    shape = np.zeros_like(scene.grey)
    angle, start = rng.uniform(0, 2 * math.pi), np.array(_place(scene, rng))
    for _ in range(int(rng.integers(1, 6))):
        offset = rng.normal(0, 0.06 * scene.side, 2)
        wander(shape, start + offset, scene.side * rng.uniform(0.15, 0.7), angle + rng.normal(0, 0.1), 0.03, rng)
    return _lit(scene, blurred(shape, rng.uniform(0.3, 0.7)), _at_least(scene.contrast(rng), 0.1), rng)


def chip(scene: Scene, rng: np.random.Generator) -> Defect:
    """A piece broken off the photograph's edge or corner: dark, bright, flat, or with other texture showing."""
    height, width = scene.grey.shape
    depth = scene.side * rng.uniform(0.04, 0.28)
    along = depth * rng.uniform(0.8, 3.0)
    edge = rng.integers(4)
    corner = rng.random() < 0.35
    x = (0 if corner else rng.random()) * width if edge < 2 else (0, width)[edge - 2]
    y = (0, height)[edge] if edge < 2 else (0 if corner else rng.random()) * height
    sizes = (along, depth) if edge < 2 else (depth, along)
    return _filled(scene, ragged(scene.grey.shape, (x, y), sizes, rng), rng)


def crater(scene: Scene, rng: np.random.Generator) -> Defect:
    """A ragged patch inside the photograph that is broken out, burnt or filled with something else."""
    size = scene.side * rng.uniform(0.05, 0.28)
    sizes = size * rng.uniform(0.5, 1.0), size * rng.uniform(0.5, 1.0)
    return _filled(scene, ragged(scene.grey.shape, _place(scene, rng), sizes, rng), rng)


def shading(scene: Scene, rng: np.random.Generator) -> Defect:
    """A large area that is a little lighter or darker, with an irregular, sharp or soft border."""
    region = _region(scene, rng)
    changed = scene.grey * np.exp(_at_least(scene.contrast(rng, most=0.7), 0.06) * region)
    return Defect(changed, _region_mask(region))


def smear(scene: Scene, rng: np.random.Generator) -> Defect:
    """An area whose grain is wiped out or doubled, and its brightness with it."""
    region = _region(scene, rng)
    detail = scene.grey - cv2.GaussianBlur(scene.grey, (0, 0), rng.uniform(1.5, 5.0))
    factor = rng.uniform(-0.95, -0.4) if rng.random() < 0.6 else rng.uniform(0.6, 2.0)
    changed = (scene.grey + factor * detail * region) * np.exp(scene.contrast(rng, most=0.3) * region)
    return Defect(changed, _region_mask(region))


def blotches(scene: Scene, rng: np.random.Generator) -> Defect:
    """A cloud of uneven brightness inside a region: corrosion, dirt, dried liquid."""
    region = _region(scene, rng)
    cloud = smooth_noise(scene.grey.shape, rng.uniform(3.0, 14.0), rng)
    changed = scene.grey * np.exp(_at_least(scene.contrast(rng, most=0.8), 0.1) * region * (0.3 + cloud))
    return Defect(changed, _region_mask(region))


def pasted(scene: Scene, rng: np.random.Generator) -> Defect:
    """A piece of a training photograph, turned, scaled and blended in; its brightness kept or matched."""
    size = scene.side * rng.uniform(0.06, 0.35)
    shape = ragged(scene.grey.shape, _place(scene, rng), (size * rng.uniform(0.4, 1), size * rng.uniform(0.4, 1)), rng)
    return Defect(*_textured(scene, shape, rng))


def noisy(scene: Scene, rng: np.random.Generator) -> Defect:
    """A patch with fine noise or blur of its own: porous, etched, out of grain."""
    size = scene.side * rng.uniform(0.05, 0.3)
    shape = ragged(scene.grey.shape, _place(scene, rng), (size, size * rng.uniform(0.4, 1)), rng)
    spread = float(scene.grey.std()) + 2.0
    noise = blurred(rng.standard_normal(scene.grey.shape, dtype=np.float32), rng.uniform(0.3, 1.5))
    noise *= spread * rng.uniform(0.4, 1.6) / max(float(noise.std()), 1e-6)
    if rng.random() < 0.4:
        noise = cv2.GaussianBlur(scene.grey, (0, 0), rng.uniform(1.0, 3.0)) - scene.grey
    changed = scene.grey + shape * noise + shape * scene.grey * (math.exp(scene.contrast(rng, most=0.2)) - 1.0)
    return Defect(changed, shape > SHAPE_LEVEL)


DefectKind = str
KINDS: dict[DefectKind, Callable[[Scene, np.random.Generator], Defect]] = {
    kind.__name__: kind for kind in (spots, crack, scratches, chip, crater, shading, smear, blotches, pasted, noisy)
}
"""Every kind by its name."""


def _lit(scene: Scene, shape: Grey, contrast: float, rng: np.random.Generator) -> Defect:
    """Brighter or darker within a shape; now and then with a rim of the opposite sign, as light throws on an edge."""
    exponent = contrast * shape
    if rng.random() < 0.3:
        rim = cv2.dilate(shape, np.ones((3, 3), dtype=np.uint8)) - shape
        exponent = exponent - 0.4 * contrast * rim
    return Defect(scene.grey * np.exp(exponent), shape > SHAPE_LEVEL)


def _filled(scene: Scene, shape: Grey, rng: np.random.Generator) -> Defect:
    """A shape filled with a flat tone, with noise on it, or with texture from elsewhere, its border lit or not."""
    choice = rng.random()
    if choice < 0.35:
        return _lit(scene, shape, _at_least(scene.contrast(rng), 0.1), rng)
    if choice < 0.6:
        return Defect(*_textured(scene, shape, rng))
    mean = float(scene.grey.mean())
    tone = mean * math.exp(_at_least(scene.contrast(rng), 0.1))
    cloud = smooth_noise(scene.grey.shape, rng.uniform(2.0, 10.0), rng) * (rng.uniform(0.02, 0.25) * mean)
    return Defect(scene.grey + shape * (tone + cloud - scene.grey), shape > SHAPE_LEVEL)


def _textured(scene: Scene, shape: Grey, rng: np.random.Generator) -> tuple[Grey, NDArray[np.bool_]]:
    """Texture of a training photograph within a shape: (photograph, mask)."""
    source = scene.sources[int(rng.integers(len(scene.sources)))].astype(np.float32) if scene.sources else scene.grey
    height, width = scene.grey.shape
    factor = rng.uniform(0.6, 1.8)
    turn = cv2.getRotationMatrix2D(
        (source.shape[1] / 2, source.shape[0] / 2), rng.uniform(20.0, 160.0) * rng.choice([-1.0, 1.0]), factor
    )
    turn[:, 2] += (width - source.shape[1]) / 2 + rng.normal(0, 0.1) * width, (height - source.shape[0]) / 2
    patch = cv2.warpAffine(source, turn, (width, height), borderMode=cv2.BORDER_REFLECT)
    weight = float(shape.sum()) + 1e-6
    own, other = float((shape * scene.grey).sum()) / weight, float((shape * patch).sum()) / weight
    # Brightness kept from the source, matched to where it goes, or anything between and a little beyond.
    shift = (own - other) * rng.uniform(0.0, 1.0) if rng.random() < 0.5 else own - other
    shift += own * (math.exp(scene.contrast(rng, most=0.3)) - 1.0) * (rng.random() < 0.6)
    opacity = rng.uniform(0.5 + 0.3 * scene.ease, 1.0)
    return scene.grey + opacity * shape * (patch + shift - scene.grey), shape > SHAPE_LEVEL


def _region(scene: Scene, rng: np.random.Generator) -> Grey:
    """A large irregular soft region, 0..1, 4 to 60 % of the photograph; where smooth noise passes a level."""
    height, width = scene.grey.shape
    field = smooth_noise(scene.grey.shape, scene.side * rng.uniform(0.35, 1.2), rng)
    field += np.float32(rng.uniform(0.0, 0.35)) * smooth_noise(scene.grey.shape, rng.uniform(2.0, 8.0), rng)
    if rng.random() < 0.6:  # around a place, so that one region stands out
        x, y = _place(scene, rng)
        rows, columns = np.ogrid[:height, :width]
        distance = np.hypot((rows - y) / rng.uniform(0.5, 1.5), (columns - x) / rng.uniform(0.5, 1.5))
        field -= (2.5 * distance / scene.side).astype(np.float32)
    level = float(np.quantile(field[::2, ::2], 1.0 - rng.uniform(0.04, 0.6)))
    softness = 0.03 * (1.0 / 0.03) ** rng.random() * 0.6
    region: Grey = np.clip(0.5 + (field - level) / (2 * softness), 0.0, 1.0)
    return region


def _region_mask(region: Grey) -> NDArray[np.bool_]:
    mask = region > 0.5
    if mask.mean() <= BAND_SHARE:
        return mask
    cross = np.ones((9, 9), dtype=np.uint8)
    inside = mask.astype(np.uint8)
    band: NDArray[np.bool_] = (cv2.dilate(inside, cross) - cv2.erode(inside, cross)) > 0
    return band


def _place(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """x, y anywhere in the photograph."""
    height, width = scene.grey.shape
    return rng.random() * width, rng.random() * height


def _at_least(contrast: float, least: float) -> float:
    return math.copysign(max(abs(contrast), least), contrast)


def _visible(scene: Scene, defect: Defect) -> bool:
    """Whether the defect changed what it marks by more than half a grey level on average."""
    changed = np.abs(np.clip(defect.grey, 0, 255) - scene.grey)
    return float(changed[defect.mask].mean()) > 0.5
