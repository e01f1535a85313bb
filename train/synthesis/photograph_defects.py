"""Synthetic defects on whole photographs, grey or colour: by what they are found, views and detectors are weighed.

They rank views and detectors, and the head of `features` learns from them; `patch` has defects.py. Even in kind,
log-uniform in size, each visible, each marked exactly. After CutPaste (Li et al. 2021, arXiv 2104.04015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from train.synthesis.photograph_kinds import AREA_SHARES, PHOTOGRAPH_KINDS, Piece, Scene
from train.synthesis.scene import Frame, Mask, evident_foreground, index_of_nearest, nearest_value, two_values
from train.synthesis.structure_kinds import STRUCTURE_KINDS

__all__ = ["DefectiveCopies", "defective_copies", "with_defect"]

LEAST_CHANGE = 8.0
"""Mean absolute change inside the mask, grey levels: what changes less is drawn again."""
SEEN_CHANGE = 4
"""Grey levels: a pixel of a soft edge that changes less is left as it was."""
TRIES = 12
"""Of a kind, before the next kind's turn."""


class DefectiveCopies(NamedTuple):
    """Photographs with one defect each."""

    frames: NDArray[np.uint8]
    """(n, H, W, C)"""
    masks: NDArray[np.bool_]
    """(n, H, W), where the defects are"""
    sources: NDArray[np.intp]
    """(n,) of which photograph each is a copy"""
    kinds: list[str]
    """(n,) names of STRUCTURE_KINDS"""


def defective_copies(
    frames: Sequence[Frame],
    n: int,
    seed: int,
    *,
    parts: Sequence[Mask] | None = None,
    kinds_of: Sequence[Sequence[str]] | None = None,
) -> DefectiveCopies:
    """Copies of photographs (H, W, C) of one size with one defect each; photographs and kinds take even turns.

    parts: where each photograph shows its part, see with_defect. kinds_of: the names of STRUCTURE_KINDS that each
    photograph may have; None for PHOTOGRAPH_KINDS. The first copies of one seed are the same for any n.
    Draw them before the views that are to be compared, so that all of these see the same defects. Raises DataError.
    """
    if not len(frames) or n < 1:
        raise DataError(f"{n} defective copies of {len(frames)} photographs asked for, expected at least one of each")
    shapes = {frame.shape for frame in frames}
    if len(shapes) > 1:
        raise DataError(f"photographs are of sizes {sorted(shapes)}, expected one size; scale them first")
    if parts is not None and len(parts) != len(frames):
        raise DataError(f"{len(parts)} masks of parts came for {len(frames)} photographs, expected one each")
    sources = _turns(len(frames), n, np.random.default_rng([seed, 0]))
    names = tuple(PHOTOGRAPH_KINDS)
    turns = _turns(len(names), n, np.random.default_rng([seed, 1]))
    allowed = [names if kinds_of is None else tuple(kinds_of[source]) for source in sources]
    kinds = [of_it[turn % len(of_it)] for turn, of_it in zip(turns, allowed, strict=True)]
    copies = np.empty((n, *frames[0].shape), dtype=np.uint8)
    masks = np.empty((n, *frames[0].shape[:2]), dtype=np.bool_)
    for position, source in enumerate(sources):
        others = [frame for index, frame in enumerate(frames) if index != source]
        scene = _scene(frames[source], others, None if parts is None else parts[source])
        found = _drawn(scene, kinds[position], np.random.default_rng([seed, 2, position]), allowed[position])
        copies[position], masks[position], kinds[position] = found
    return DefectiveCopies(copies, masks, sources, kinds)


def with_defect(
    frame: Frame,
    others: Sequence[Frame],
    rng: np.random.Generator,
    *,
    part: Mask | None = None,
    kinds: Sequence[str] = tuple(PHOTOGRAPH_KINDS),
    shares: tuple[float, float] = AREA_SHARES,
) -> tuple[Frame, Mask]:
    """A copy of the photograph (H, W, 1 or 3) with one defect, and where this is, (H, W).

    others: photographs that patches may come from, of the same number of channels and any size. part: True where
    defects may lie; None takes what stands out from an even background, else the whole frame. Outside the mask
    nothing changes. Two-valued photographs keep to their two values, with hard edges. Raises ConfigError.
    """
    scene = _scene(frame, others, part, shares)
    found, mask, _ = _drawn(scene, kinds[int(rng.integers(len(kinds)))], rng, kinds)
    return found, mask


def _scene(
    frame: Frame, others: Sequence[Frame], part: Mask | None, shares: tuple[float, float] = AREA_SHARES
) -> Scene:
    for other in others:
        if _checked(other).shape[2] != frame.shape[2]:
            raise ConfigError(f"another photograph is {other.shape}, expected {frame.shape[2]} channels as the first")
    values = two_values(_checked(frame))
    if values is None and others and bool((frame == frame[0, 0]).all()):  # a blank one among binary scans
        values = two_values(others[0])
    if part is None and values is None:  # what a scan leaves free can be as wrong as what it fills
        part = evident_foreground(frame)
    if part is not None and part.shape != frame.shape[:2]:
        raise ConfigError(f"the part's mask is {part.shape}, expected {frame.shape[:2]} as the photograph")
    places = np.empty((0, 2), dtype=np.intp) if part is None else np.argwhere(part)
    return Scene(frame, others, places, values, shares)


def _checked(frame: Frame) -> Frame:
    if frame.ndim != 3 or frame.shape[2] not in (1, 3) or frame.dtype != np.uint8 or not frame.size:
        raise ConfigError(f"photograph is {frame.shape} {frame.dtype}, expected (H, W, 1) or (H, W, 3) uint8")
    return frame


def _turns(n_items: int, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """(n,) indices, each item once before any comes again, every round shuffled anew."""
    rounds = [rng.permutation(n_items) for _ in range(math.ceil(n / n_items))]
    return np.concatenate(rounds)[:n].astype(np.intp)


def _drawn(scene: Scene, kind: str, rng: np.random.Generator, kinds: Sequence[str]) -> tuple[Frame, Mask, str]:
    """Photograph, mask and kind: the one asked for, or another of `kinds` where it leaves nothing to see."""
    others = [name for name in kinds if name != kind]
    for name in (kind, *rng.permutation(others)):
        for _ in range(TRIES):
            piece = STRUCTURE_KINDS[name](scene, rng)
            found = None if piece is None else _applied(scene, piece)
            if found is not None:
                return *found, str(name)
    return *_blot(scene, rng), "stain"


def _applied(scene: Scene, piece: Piece) -> tuple[Frame, Mask] | None:
    """The piece in its place and the mask of what changed; None where that is not to be seen, or too small or large."""
    was = scene.frame[piece.window]
    shape = piece.shape if scene.values is None else (piece.shape > 0.5).astype(np.float32)
    inside = shape > 0.02
    content = np.clip(piece.content, 0.0, 255.0)
    if scene.values is not None and scene.exact:
        content = nearest_value(content, scene.values)
    changed = np.clip(np.round(was + shape[..., None] * (content - was)), 0, 255).astype(np.uint8)
    difference = np.abs(changed.astype(np.int16) - was)
    seen = (difference.max(axis=2) >= SEEN_CHANGE) & inside
    # Pixels inside that happen to be as before belong to the defect all the same.
    across = max(3, 2 * round(0.006 * scene.side) + 1)
    closed = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((across, across), dtype=np.uint8))
    mask = (closed > 0) & inside
    least, most = scene.areas
    if not least <= mask.sum() <= most or float(difference[mask].mean()) < LEAST_CHANGE:
        return None
    return _replaced(scene, piece.window, mask, changed)


def _replaced(scene: Scene, window: tuple[slice, slice], mask: Mask, content: NDArray[np.uint8]) -> tuple[Frame, Mask]:
    frame, whole = scene.frame.copy(), np.zeros(scene.frame.shape[:2], dtype=np.bool_)
    frame[window][mask] = content[mask]
    whole[window] = mask
    return frame, whole


def _blot(scene: Scene, rng: np.random.Generator) -> tuple[Frame, Mask]:
    """A small square in the opposite tone: what can be drawn on anything."""
    height, width = scene.frame.shape[:2]
    x, y = scene.place(rng)
    half = round(0.5 * math.sqrt(scene.areas[0]))
    row, column = min(int(y), height - 1), min(int(x), width - 1)
    window = (
        slice(max(0, row - half), min(height, row + half + 1)),
        slice(max(0, column - half), min(width, column + half + 1)),
    )
    was = scene.frame[window]
    content = np.where(was < 128, 255, 0).astype(np.uint8)
    if scene.values is not None:
        content = scene.values[::-1][index_of_nearest(was, scene.values)]
    return _replaced(scene, window, np.ones(was.shape[:2], dtype=np.bool_), content)
