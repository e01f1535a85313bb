"""Parts at any angle and place: photographs of aligned parts, turned and shifted on their own background.

The background behind a part is painted in from around it; the part is cut out by its outline, which must therefore
stand out from the border of the photograph. A defect outside the outline stays where it was, with its mask turned.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.images import read_image, write_image
from edge_runtime.model.preprocess import Frame

__all__ = ["outline", "turned", "turned_copy"]

BORDER_PARTS = 50
"""One part of the shorter side is the rim whose median colour is taken for the background's."""

INPAINT_SCALE = 0.25
"""The background behind a part is smooth: painted in on a smaller photograph it takes a tenth of the time."""

LARGEST_RADIUS = 0.48
"""Of the shorter side; a larger part is made smaller, so that it stays inside at every angle."""

MARGIN = 3
"""Pixels between a part and the border."""


def turned_copy(places: Sequence[tuple[str, Path]], folder: Path) -> None:
    """Write turned copies of photographs, as PNG, and of their masks; nothing where the folder is there already.

    places: path below the folder and the file, masks as ground_truth/KIND/NAME_mask.png. A photograph's turn follows
    from its path. Raises DataError where a photograph shows no part.
    """
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    masks = {place.rpartition("_mask")[0]: file for place, file in places if place.startswith("ground_truth/")}
    for place, file in places:
        if place.startswith("ground_truth/"):
            continue
        name = Path(place).with_suffix("")
        mask = masks.get(f"ground_truth/{name.relative_to(name.parts[0]).as_posix()}")
        rng = np.random.default_rng(int(hashlib.sha256(place.encode()).hexdigest()[:8], 16))
        try:
            frame, turned_mask = turned(read_image(file), rng, None if mask is None else read_image(mask))
        except DataError as error:
            raise DataError(f"{file}: {error}") from error
        _write(partial / name.with_suffix(".png"), frame)
        if turned_mask is not None:
            _write(partial / "ground_truth" / name.parts[1] / f"{name.name}_mask.png", turned_mask)
    partial.rename(folder)


def turned(
    frame: Frame, rng: np.random.Generator, mask: NDArray[np.uint8] | None = None
) -> tuple[Frame, NDArray[np.uint8] | None]:
    """The frame with its part turned by 0 to 360 degrees and shifted anywhere it fits, and the mask turned along.

    frame: (H, W) or (H, W, 3) BGR uint8; returns (H, W, 3). mask: (H, W), of a defect. Raises DataError where no part
    stands out.
    """
    image = np.repeat(frame[:, :, None], 3, axis=2) if frame.ndim == 2 else frame
    height, width = image.shape[:2]
    part = outline(image)
    rows, columns = np.nonzero(part)
    if not rows.size:
        raise DataError("no part stands out from the background; only photographs of one part can be turned")
    background = _background(image, part, rng)
    row, column = rows.mean(), columns.mean()
    radius = np.hypot(rows - row, columns - column).max()
    angle = rng.uniform(0, 360)
    scale = min(1.0, LARGEST_RADIUS * min(height, width) / radius)
    right = rng.uniform(-1, 1) * max(0, width / 2 - radius * scale - MARGIN)
    down = rng.uniform(-1, 1) * max(0, height / 2 - radius * scale - MARGIN)
    matrix = cv2.getRotationMatrix2D((column, row), angle, scale)
    matrix[:, 2] += width / 2 + right - column, height / 2 + down - row
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    wider = cv2.dilate(part, np.ones((3, 3), np.uint8)).astype(np.float32)
    share = cv2.GaussianBlur(cv2.warpAffine(wider, matrix, (width, height)), (0, 0), 1.2)[:, :, None]
    pasted = np.clip(background * (1 - share) + moved * share, 0, 255).astype(np.uint8)
    if mask is None:
        return pasted, None
    return pasted, cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST).astype(np.uint8)


def outline(image: Frame) -> NDArray[np.uint8]:
    """The largest thing that differs from the border's colour, holes filled: (H, W), 1 on the part, 0 around.

    image: (H, W, 3) BGR uint8.
    """
    height, width = image.shape[:2]
    rim = max(2, min(height, width) // BORDER_PARTS)
    sides = (image[:rim], image[-rim:], image[:, :rim], image[:, -rim:])
    colour = np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0)
    distance = cv2.GaussianBlur(np.abs(image.astype(np.float32) - colour).max(axis=2), (0, 0), 2)
    limit, _ = cv2.threshold(np.clip(distance, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    above = (distance > limit).astype(np.uint8)
    n, labels, statistics, _ = cv2.connectedComponentsWithStats(above)
    filled = np.zeros_like(above)
    if n > 1:
        largest = (labels == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax()).astype(np.uint8)
        contours, _ = cv2.findContours(largest, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(filled, contours, -1, 1, -1)
    return filled


def _background(image: Frame, part: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """The photograph as it is around the part, painted in behind it, with the grain of the rest: (H, W, 3)."""
    height, width = image.shape[:2]
    behind = cv2.dilate(part, np.ones((9, 9), np.uint8))
    scale = INPAINT_SCALE
    small = cv2.inpaint(
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA),
        cv2.resize(behind, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST),
        5,
        cv2.INPAINT_TELEA,
    )
    painted = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    grain = image.astype(np.float32) - cv2.GaussianBlur(image, (0, 0), 3)
    deviation = grain[behind == 0].std() if (behind == 0).any() else 2.0
    return np.where(behind[:, :, None] > 0, painted + rng.normal(0, deviation, (height, width, 1)), image)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
