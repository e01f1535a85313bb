"""The picture quality of one source over its frames: lens spots, and when bad pictures begin and end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_runtime.model.image_quality import Fault, QualityLimits
from edge_runtime.scoring.result import Result
from edge_runtime.watching.lens_spot import LensSpotWatch, Spot

__all__ = ["PictureChange", "PictureWatch"]

STREAK = 10
"""Frames in a row that differ from those trained on, or do not, before a status record says so: one may be chance."""


@dataclass(frozen=True, slots=True)
class PictureChange:
    """That a source's pictures became bad, or good again."""

    faults: tuple[Fault, ...]
    """Of the last frame; empty where they are good again"""
    frames: int
    """So many in a row"""

    def __str__(self) -> str:
        if not self.faults:
            return f"the last {self.frames} pictures are as those trained on"
        kinds = ", ".join(fault.what for fault in self.faults)
        return f"the last {self.frames} pictures are not as those trained on ({kinds}); look at lens, light and mount"


class PictureWatch:
    """Sees each scored frame of one source, in order. In the thread that scores."""

    def __init__(self, limits: QualityLimits | None) -> None:
        self.expect(limits)

    def expect(self, limits: QualityLimits | None) -> None:
        """Judge from now on by another bundle's limits; None, of a bundle that has none, judges nothing."""
        self._lens = None if limits is None else LensSpotWatch(limits.spots())
        self._bad, self._n_other = False, 0

    def judged(self, result: Result, frame_shape: tuple[int, ...]) -> tuple[Result, PictureChange | None]:
        """The result, with a lens spot among its faults where one is there; and what changed with this frame."""
        if self._lens is None or result.picture is None or result.faults is None:
            return result, None
        spot = self._lens.add(result.picture)
        if spot is not None:
            result = replace(result, faults=(*result.faults, _fault(spot, result, frame_shape)))
        return result, self._change(result.faults or ())

    def _change(self, faults: tuple[Fault, ...]) -> PictureChange | None:
        self._n_other = self._n_other + 1 if bool(faults) is not self._bad else 0
        if self._n_other < STREAK:
            return None
        self._bad, self._n_other = bool(faults), 0
        return PictureChange(faults, STREAK)


def _fault(spot: Spot, result: Result, frame_shape: tuple[int, ...]) -> Fault:
    left, top, columns, rows = result.picture_region or (0, 0, frame_shape[1], frame_shape[0])
    x, y, width, height = spot.box
    box = left + round(x * columns), top + round(y * rows), round(width * columns), round(height * rows)
    return Fault("lens spot", spot.share, box=box)
