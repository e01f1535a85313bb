"""How well anomaly maps mark the pixels that masks mark: AUROC, AP and AUPRO, in memory that does not grow with images.

Called by `edge-aae evaluate`. Needs no torch.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BackendError, DataError
from edge_runtime.files import finite_or_none
from edge_runtime.metrics import auroc_of_counts, average_precision_of_counts
from edge_runtime.model.images import list_images, read_image
from edge_runtime.scoring.evaluation import Row, ScoredImage
from edge_runtime.scoring.image_items import Item

__all__ = [
    "AUPRO_FPR_LIMIT",
    "Masks",
    "PixelCounts",
    "PixelMetrics",
    "PixelTally",
    "SmallDefects",
    "find_masks",
    "read_defect_mask",
]

logger = logging.getLogger(__name__)

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]

AUPRO_FPR_LIMIT = 0.3
"""Bergmann et al. 2020 (Uninformed Students, arXiv 1911.02357, section 4): maps with more false positives than that
no longer say where, and count for nothing."""

BIN_BITS = 18
"""A float32 is sorted into bins by its sign, exponent and first 9 bits of mantissa: values that differ by less than
0.2 % may share a bin and then count as tied. 2^18 bins are 6 MiB a group, for any number of pixels and any range."""
N_BINS = 1 << BIN_BITS
SIGN = np.uint32(1 << 31)

MARKED_FROM = 128
"""Grey level from which a mask's pixel is marked: below lie the edges that compression and resizing leave."""

GROUND_TRUTH = "ground_truth"
"""Folder of masks beside a folder of test images, the MVTec convention."""


@dataclass(frozen=True, slots=True)
class PixelMetrics:
    """Localisation over all pixels of normal images and of anomalous ones that have a mask; NaN where not defined."""

    n_images: int
    n_regions: int
    """Connected marked regions, 8 neighbours"""
    anomalous_share: float
    """Of all pixels: what chance gets as average precision"""
    auroc: float
    """P(value of a marked > value of an unmarked pixel), ties count half"""
    average_precision: float
    aupro: float
    """Area under the per-region overlap up to AUPRO_FPR_LIMIT, divided by it: 0 to 1"""

    def to_json(self) -> dict[str, Any]:
        """The metrics as JSON values, null where not defined."""
        return {name: finite_or_none(getattr(self, name)) for name in self.__dataclass_fields__}


class PixelCounts:
    """Histograms of map values over marked and unmarked pixels; add images, join groups, take metrics."""

    def __init__(self) -> None:
        self.n_images = 0
        self.n_regions = 0
        self._marked = np.zeros(N_BINS, dtype=np.int64)
        self._unmarked = np.zeros(N_BINS, dtype=np.int64)
        self._overlap = np.zeros(N_BINS)
        # Sum over regions of the share of the region in each bin: a region weighs one, however large it is.

    def add(self, heat: Map, mask: Mask) -> None:
        """Count one image.

        heat: (H, W) float32 anomaly map in frame coordinates, higher = more anomalous; mask: (H, W) bool, nothing
        marked for a normal image. Raises BackendError for a map that is not finite, DataError for another shape.
        """
        if heat.shape != mask.shape:
            raise DataError(f"anomaly map is {heat.shape}, mask is {mask.shape}; masks are in the pixels of the image")
        if not np.isfinite(heat).all():
            raise BackendError("the anomaly map holds values that are not finite; run `edge-aae verify` on the bundle")
        bins = _bins(heat)
        self.n_images += 1
        self._unmarked += np.bincount(bins[~mask], minlength=N_BINS)
        if not mask.any():
            return
        marked = bins[mask]
        n_labels, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions = labels[mask]
        sizes = np.bincount(regions, minlength=n_labels)
        self.n_regions += n_labels - 1
        self._marked += np.bincount(marked, minlength=N_BINS)
        self._overlap += np.bincount(marked, weights=1.0 / sizes[regions], minlength=N_BINS)

    def joined(self, other: PixelCounts) -> PixelCounts:
        """The counts of both, as if all images had been added to one."""
        both = PixelCounts()
        both.n_images = self.n_images + other.n_images
        both.n_regions = self.n_regions + other.n_regions
        both._marked = self._marked + other._marked
        both._unmarked = self._unmarked + other._unmarked
        both._overlap = self._overlap + other._overlap
        return both

    def metrics(self) -> PixelMetrics:
        """What the counts come to; metrics are NaN where no pixel is marked, or every one is."""
        n_marked, n_unmarked = int(self._marked.sum()), int(self._unmarked.sum())
        n_pixels = n_marked + n_unmarked
        defined = n_marked > 0 and n_unmarked > 0
        marked, unmarked = self._marked[::-1], self._unmarked[::-1]
        return PixelMetrics(
            n_images=self.n_images,
            n_regions=self.n_regions,
            anomalous_share=n_marked / n_pixels if n_pixels else math.nan,
            auroc=float(auroc_of_counts(marked, unmarked)) if defined else math.nan,
            average_precision=float(average_precision_of_counts(marked, unmarked)) if defined else math.nan,
            aupro=self._aupro() if defined else math.nan,
        )

    def _aupro(self) -> float:
        """Area under the per-region overlap (PRO) over the false positive rate, from 0 to the limit, normalised.

        At each threshold PRO is the share of a region's pixels above it, mean over all regions of all images, and the
        false positive rate the share of all unmarked pixels above it: Bergmann et al. 2020, arXiv 1911.02357 section 4.
        Between thresholds the curve is straight.
        """
        overlap = np.concatenate(([0.0], np.cumsum(self._overlap[::-1]) / self.n_regions))
        rate = np.concatenate(([0.0], np.cumsum(self._unmarked[::-1]) / self._unmarked.sum()))
        # The rate ends at 1, so a point beyond the limit is always there.
        beyond = int(np.searchsorted(rate, AUPRO_FPR_LIMIT, side="right"))
        at_limit = np.interp(AUPRO_FPR_LIMIT, rate[beyond - 1 : beyond + 1], overlap[beyond - 1 : beyond + 1])
        rate = np.append(rate[:beyond], AUPRO_FPR_LIMIT)
        overlap = np.append(overlap[:beyond], at_limit)
        area = (np.diff(rate) * (overlap[1:] + overlap[:-1]) / 2).sum()
        return float(area / AUPRO_FPR_LIMIT)


@dataclass(frozen=True, slots=True)
class Masks:
    """The masks of the images that are evaluated."""

    folders: tuple[Path, ...]
    of_image: dict[str, Path]
    """By the item's name"""
    missing: list[str]
    """Names of anomalous images below a folder with masks that have none"""


@dataclass(slots=True)
class SmallDefects:
    """What masks mark that is smaller than what was asked to count."""

    least_px: float
    regions: int = 0
    """Connected marked regions, 8 neighbours, that are smaller"""
    images: int = 0
    """Images of which every marked region is smaller"""
    flagged: int = 0
    """Of these, how many come out anomalous all the same: maps are coarser than masks"""

    def add(self, mask: Mask, *, is_anomaly: bool) -> None:
        """Count one anomalous image's mask, (H, W) bool."""
        n_labels, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        small = boxes[1:, cv2.CC_STAT_AREA] < self.least_px
        self.regions += int(small.sum())
        if n_labels > 1 and small.all():
            self.images += 1
            self.flagged += is_anomaly


class PixelTally:
    """Pixel counts by group while images are scored; `add` is what score_items calls for each."""

    def __init__(self, masks: Masks, least_px: float | None = None) -> None:
        """least_px: pixels of the smallest region that counts; None counts none as small."""
        self.masks = masks
        self.small_defects = None if least_px is None else SmallDefects(least_px)
        self._normal = PixelCounts()
        self._of_group: dict[str | None, PixelCounts] = {}

    def add(self, row: Row, scored: ScoredImage) -> None:
        """Count a normal image, or an anomalous one that has a mask; others say nothing about pixels.

        Raises DataError for a mask that cannot be read or has another size than its image.
        """
        if row.item.anomalous is False:
            heat = scored.heatmap()
            self._normal.add(heat, np.zeros(heat.shape, dtype=bool))
        elif row.item.anomalous and row.item.name in self.masks.of_image:
            heat = scored.heatmap()
            counts = self._of_group.setdefault(row.item.group, PixelCounts())
            mask = read_defect_mask(self.masks.of_image[row.item.name], heat.shape)
            counts.add(heat, mask)
            if self.small_defects is not None:
                self.small_defects.add(mask, is_anomaly=row.is_anomaly)

    def metrics_of(self, rows: Sequence[Row]) -> PixelMetrics | None:
        """Of all normal images with the groups of the anomalous rows; None where none of these groups has a mask."""
        groups = {row.item.group for row in rows if row.item.anomalous} & set(self._of_group)
        if not groups:
            return None
        counts = self._normal
        for group in groups:
            counts = counts.joined(self._of_group[group])
        return counts.metrics()


def find_masks(items: Sequence[Item], paths: Sequence[Path], folder: Path | None = None) -> Masks | None:
    """The masks of the items: DEFECT/NAME_mask.png or DEFECT/NAME.png for the image DEFECT/NAME.jpg.

    paths: what was named to be evaluated; each folder among them is looked up in the folder `ground_truth` beside it,
    where there is one. folder: where the masks of the one folder among the paths are looked for instead.
    Raises DataError for a named folder that is missing or holds no mask of any anomalous image, and where it could
    belong to several folders or none.
    """
    named = folder is not None
    of_folder = [
        (path, own)
        for path in dict.fromkeys(paths)
        if (own := [(item, item.file) for item in items if item.file and item.file.is_relative_to(path)])
        and path.is_dir()
    ]
    if folder is not None and not folder.is_dir():
        raise DataError(f"no folder of masks at {folder}")
    if folder is not None and len(of_folder) != 1:
        raise DataError(
            f"masks in {folder} belong to the images of one folder, came {len(of_folder)}: "
            f"{', '.join(map(str, paths))}; evaluate one at a time"
        )
    searched: list[Path] = []
    of_image: dict[str, Path] = {}
    missing: list[str] = []
    for path, own in of_folder:
        masks_folder = folder or Path(os.path.abspath(path)).parent / GROUND_TRUTH
        if not masks_folder.is_dir():
            continue
        searched.append(masks_folder)
        # Reversed, so that of two masks with one name the first in natural order stays.
        masks = {file.relative_to(masks_folder).with_suffix(""): file for file in reversed(list_images(masks_folder))}
        for item, file in own:
            stem = file.relative_to(path).with_suffix("")
            mask = masks.get(stem.with_name(f"{stem.name}_mask"), masks.get(stem))
            if mask is not None:
                of_image[item.name] = mask
            elif item.anomalous:
                missing.append(item.name)
    if any(item.anomalous and item.name in of_image for item in items):
        return Masks(tuple(searched), of_image, missing)
    if not searched:
        return None
    expected = Path(missing[0]).with_suffix(".png") if missing else Path("DEFECT/NAME.png")
    reason = f"{', '.join(map(str, searched))} has no mask of any anomalous image, such as {expected}"
    if named:
        raise DataError(reason)
    logger.warning("no pixel metrics: %s", reason)
    return None


def read_defect_mask(path: Path, frame_shape: tuple[int, ...]) -> Mask:
    """The marked pixels of a mask: (H, W) bool, the frame's height and width.

    Marked are values from 128 up; in a mask that has none, which then holds class numbers, all values but 0.
    Raises DataError where the file cannot be read or has another size than the frame.
    """
    image = read_image(path)
    if image.shape[:2] != frame_shape[:2]:
        raise DataError(
            f"mask {path} is {image.shape[0]}x{image.shape[1]}, its image is {frame_shape[0]}x{frame_shape[1]}; "
            "masks are in the pixels of the image"
        )
    values = image if image.ndim == 2 else image.max(axis=2)
    mask: Mask = values >= (MARKED_FROM if values.max() >= MARKED_FROM else 1)
    return mask


def _bins(values: Map) -> NDArray[np.int64]:
    """The bin of each value; greater values never have smaller bins. values: float32, finite, any shape."""
    # Adding zero turns -0 into 0. The bits of a positive float32 are in its order; those of a negative one reversed.
    bits = (np.ascontiguousarray(values, dtype=np.float32) + np.float32(0.0)).view(np.uint32)
    ordered = np.where(bits & SIGN, ~bits, bits | SIGN)
    bins: NDArray[np.int64] = (ordered >> np.uint32(32 - BIN_BITS)).astype(np.int64)
    return bins
