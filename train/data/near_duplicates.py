"""Near-duplicates among a run's images: the same view twice, as a camera over a resting belt gives it.

Two images are near-duplicates if no cell of a few pixels differs by more than a few grey levels once a change of the
whole image's brightness is taken off. A coarse hash would call a part with a small defect the duplicate of a part
without one; a largest difference does not.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from train.data.image_store import ImageStore, keep_only
from train.data.photograph_store import PhotographStore

__all__ = [
    "cell_means",
    "connected_duplicates",
    "duplicate_groups",
    "earlier_duplicates",
    "largest_difference",
    "without_duplicates",
]

CHUNK = 1024
"""Images whose cells are computed at a time."""

CELLS = 32
"""Cells along the longer side at the most."""
CELL_PX = 4
"""Pixels along a cell's side at the least: the mean of 4x4 keeps a quarter of the sensor's noise."""

LARGEST_DIFFERENCE = 6.0
"""Grey levels of 255. By arithmetic, noise of 5 grey levels a pixel moves the largest of 1024 differences of
4x4 cells by 1.8 x 3.3 = 6. Tried on synthetic images alone; a defect fainter than this in every cell is a duplicate."""

INDEX_CELLS = 4
"""Cells along each side for the search: their means differ by no more than those of the cells inside them."""


def cell_means(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean grey level of each cell less that of the whole image, (N, rows, columns) float32.

    images: (N, H, W, C) uint8. Cells are squares of whole pixels.
    """
    height, width = images.shape[1:3]
    side = max(CELL_PX, -(-max(height, width) // CELLS))
    grey = images.astype(np.float32).mean(axis=3)
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2)
    n_rows, n_columns = np.diff([*rows, height]), np.diff([*columns, width])
    means = sums / (n_rows[:, None] * n_columns)
    return np.asarray(means - grey.mean(axis=(1, 2))[:, None, None], dtype=np.float32)


def largest_difference(means: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest difference of any cell, grey levels: (N,), for cell means (N, rows, columns) or one of them."""
    return np.asarray(np.abs(means - others).max(axis=(-2, -1)), dtype=np.float32)


def earlier_duplicates(means: NDArray[np.float32], *, limit: float = LARGEST_DIFFERENCE) -> NDArray[np.int64]:
    """For each image the earlier one it duplicates, or -1: (N,).

    means: (N, rows, columns) of cell_means. An image that is itself a duplicate has none: chains of small changes
    do not swallow a large one.
    """
    near_to = _search(means, limit)
    duplicate_of = np.full(len(means), -1, dtype=np.int64)
    for index in range(len(means)):
        if duplicate_of[index] >= 0:
            continue
        near = near_to(index)
        later = near[(near > index) & (duplicate_of[near] < 0)]
        same = later[largest_difference(means[later], means[index]) <= limit]
        duplicate_of[same] = index
    return duplicate_of


def connected_duplicates(means: NDArray[np.float32], *, limit: float = LARGEST_DIFFERENCE) -> NDArray[np.int64]:
    """The first of the images that each is linked with by a chain of near-duplicates, itself where it has none: (N,).

    means: (N, rows, columns) of cell_means.
    """
    near_to = _search(means, limit)
    first_of = np.full(len(means), -1, dtype=np.int64)
    for index in range(len(means)):
        if first_of[index] >= 0:
            continue
        first_of[index] = index
        linked = [index]
        while linked:
            latest = linked.pop()
            near = near_to(latest)
            unlinked = near[first_of[near] < 0]
            found = unlinked[largest_difference(means[unlinked], means[latest]) <= limit]
            first_of[found] = index
            linked.extend(found.tolist())
    return first_of


def duplicate_groups(store: ImageStore) -> NDArray[np.int64]:
    """(N,) equal numbers for images linked by chains of near-duplicates. Takes 4 kB of memory an image."""
    if isinstance(store, PhotographStore):
        return connected_duplicates(np.concatenate([_means_of_photograph(item) for item in store.photographs]))
    return connected_duplicates(_means_of_store(store))


def without_duplicates(
    store: ImageStore, names: list[str]
) -> tuple[ImageStore, NDArray[np.int64], list[tuple[str, str]]]:
    """The store without near-duplicates of earlier images, the indices kept, and (name, name of the earlier one).

    The store given must not be used after. Takes 4 kB of memory an image.
    """
    duplicate_of = earlier_duplicates(_means_of_store(store))
    kept = np.flatnonzero(duplicate_of < 0)
    dropped = [(names[index], names[duplicate_of[index]]) for index in np.flatnonzero(duplicate_of >= 0)]
    return keep_only(store, kept), kept, dropped


def _search(means: NDArray[np.float32], limit: float) -> Callable[[int], NDArray[np.int64]]:
    """What names the images that may be near-duplicates of the one of an index, itself among them."""
    n_images, n_rows, n_columns = means.shape
    row_edges = np.linspace(0, n_rows, min(INDEX_CELLS, n_rows) + 1).astype(int)[:-1]
    column_edges = np.linspace(0, n_columns, min(INDEX_CELLS, n_columns) + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(means, row_edges, axis=1), column_edges, axis=2)
    n_cells = np.diff([*row_edges, n_rows])[:, None] * np.diff([*column_edges, n_columns])
    coarse = (sums / n_cells).reshape(n_images, -1)
    neighbors = require("sklearn.neighbors", extra="train", purpose="near-duplicate searches")
    tree = neighbors.KDTree(coarse, metric="chebyshev")
    return lambda index: np.asarray(tree.query_radius(coarse[index : index + 1], limit)[0], dtype=np.int64)


def _means_of_store(store: ImageStore) -> NDArray[np.float32]:
    return np.concatenate([cell_means(chunk.permute(0, 2, 3, 1).numpy()) for chunk in store.chunks(CHUNK)])


def _means_of_photograph(photograph: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(1, CELLS, CELLS) of a photograph (h, w) of any size, which is stretched."""
    cv2 = require("cv2", extra="camera", purpose="near-duplicate searches")
    side = CELLS * CELL_PX
    return cell_means(cv2.resize(photograph, (side, side), interpolation=cv2.INTER_AREA)[None, :, :, None])
