"""The picture quality of training images: measured as they are read, its limits, and which images differ."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from edge_runtime.model.image_quality import MEASURES, Fault, FrameQuality, QualityLimits, limits_of, measured, told
from edge_runtime.model.preprocess import Frame
from edge_runtime.watching.lens_spot import UsualSpots

__all__ = ["PictureQualities", "tell_differing"]

logger = logging.getLogger(__name__)

NOTHING = np.zeros((0, 0), dtype=np.float32)


class PictureQualities:
    """The quality of each training image, in their order; a few numbers an image are kept."""

    def __init__(self) -> None:
        self._found: list[FrameQuality | None] = []
        self._spots = UsualSpots()

    def __len__(self) -> int:
        return len(self._found)

    def add(self, frame: Frame, roi: tuple[int, int, int, int] | None) -> None:
        """Measure the next image as it was read, within the region of interest."""
        quality = measured(frame, roi)
        if quality is not None:
            self._spots.add(quality)
            quality = replace(quality, cells=NOTHING, details=NOTHING)
        self._found.append(quality)

    def keep_only(self, kept: Iterable[int]) -> None:
        """Leave out all images but these, by index."""
        self._found = [self._found[index] for index in kept]

    def limits(self) -> QualityLimits | None:
        """What is usual; None of too few images that could be measured."""
        return limits_of(self._found, self._spots.mask())

    def faults(self, limits: QualityLimits) -> list[tuple[Fault, ...]]:
        """How each image differs from what is usual."""
        return [() if quality is None else limits.faults(quality) for quality in self._found]

    def rows(self, names: Sequence[str], limits: QualityLimits) -> tuple[list[str], list[list[object]]]:
        """A table of the images that differ: what of, and their measures."""
        header = ["name", "differs", *MEASURES]
        rows: list[list[object]] = []
        for name, quality, faults in zip(names, self._found, self.faults(limits), strict=True):
            if quality is not None and faults:
                values = [f"{value:.4f}" for value in quality.values]
                rows.append([name, "; ".join(fault.what for fault in faults), *values])
        return header, rows


def tell_differing(names: Sequence[str], qualities: PictureQualities) -> None:
    """Warn of images whose picture quality is not that of the others, by name."""
    limits = qualities.limits()
    line = None if limits is None else told(names, qualities.faults(limits))
    if line is not None:
        logger.warning("%s; they are trained on as they are (image_quality.csv lists them)", line)
