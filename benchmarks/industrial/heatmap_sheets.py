"""Sheets to look at: defects of a set, and what the product's heatmaps make of them, with the masks' outlines."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.industrial.cells import Cell, Split, lay_out
from benchmarks.industrial.product_road import Failure, Road
from edge_runtime.errors import DataError
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame
from train.evaluation.pixel_metrics import read_defect_mask

__all__ = ["jpeg_within", "write_sheet"]

COLUMNS = 5
PANEL_SIDE = 240
"""Pixels of the longer side of a photograph on a sheet."""
CAPTION, MARGIN = 16, 4
OUTLINE = (80, 255, 80)
LARGEST_BYTES = 200_000
QUALITIES = (90, 80, 70, 60)


def write_sheet(cell: Cell, folder: Path, n: int, file: Path, *, limit_s: float) -> None:
    """Write a JPEG of n tested defects, spread over their kinds: the photograph above, its heatmap and mask below.

    folder: the cell's, with model.aae or run. Raises DataError where there is no model, or it cannot be evaluated.
    """
    assert cell.variant.tree is not None, "only a product draws heatmaps"
    model = next((path for path in (folder / "model.aae", folder / "run") if path.exists()), None)
    if model is None:
        raise DataError(f"{cell.name}: no model in {folder}; heatmaps need it, take the result away and run again")
    shown = _spread(cell.split(), n)
    work = folder / "heatmaps"
    shutil.rmtree(work, ignore_errors=True)
    lay_out(shown, dict(cell.photographs.masks), work)
    try:
        Road(tree=cell.variant.tree, folder=work, limit_s=limit_s).run(
            "evaluate", model.resolve(), "test", "--bootstrap", "0", "--heatmaps", "overlays"
        )
    except Failure as failure:
        raise DataError(f"{cell.name}: no heatmaps, {failure}") from failure
    tiles = []
    for kind, files in shown.defects.items():
        for photograph in files:
            overlay = read_image(work / "overlays" / kind / f"{photograph.name}.png")
            mask = cell.photographs.masks.get(photograph)
            tiles.append(_tile(photograph, overlay, mask, f"{kind} {photograph.stem}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(jpeg_within(_grid(tiles), LARGEST_BYTES))


def jpeg_within(image: Frame, n_bytes: int) -> bytes:
    """The image as a JPEG of at most so many bytes: of a lower quality, then smaller."""
    while True:
        for quality in QUALITIES:
            _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if encoded.size <= n_bytes:
                return encoded.tobytes()
        if max(image.shape[:2]) < 2:
            raise DataError(f"no JPEG fits into {n_bytes} bytes")
        smaller = round(0.8 * image.shape[1]), round(0.8 * image.shape[0])
        image = cv2.resize(image, smaller, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _spread(split: Split, n: int) -> Split:
    """Defects at even distances in the row of all, and one normal photograph, without which nothing is evaluated."""
    every = [(kind, file) for kind, files in split.defects.items() for file in files]
    chosen = [
        every[index] for index in np.unique(np.linspace(0, len(every) - 1, min(n, len(every))).round().astype(int))
    ]
    defects = {kind: tuple(file for of_kind, file in chosen if of_kind == kind) for kind, _ in chosen}
    return Split(train=(), mixed_in=(), good=split.good[:1], defects=defects)


def _tile(photograph: Path, overlay: Frame, mask: Path | None, caption: str) -> Frame:
    frame = read_image(photograph)
    image = cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR) if frame.ndim == 2 else frame
    height, width = image.shape[:2]
    scale = PANEL_SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    above, below = (cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (image, overlay))
    if mask is not None:
        marked = cv2.resize(read_defect_mask(mask, image.shape).astype(np.uint8), size, interpolation=cv2.INTER_AREA)
        contours, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(below, contours, -1, OUTLINE, 1)
    label = np.full((CAPTION, size[0], 3), 255, np.uint8)
    cv2.putText(label, caption, (1, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (40, 40, 40), 1, cv2.LINE_AA)
    return np.vstack([label, above, below])


def _grid(tiles: Sequence[Frame]) -> Frame:
    height = max(tile.shape[0] for tile in tiles) + MARGIN
    width = max(tile.shape[1] for tile in tiles) + MARGIN
    columns = min(COLUMNS, len(tiles))
    sheet = np.full((-(-len(tiles) // columns) * height, columns * width, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet
