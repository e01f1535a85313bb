"""What a detector found in one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import FrameError
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize
from edge_runtime.model.image_quality import Fault, FrameQuality
from edge_runtime.model.tiling import Tiling
from edge_runtime.scoring.geometry import Geometry
from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.scoring.regions import Region, mask_of, regions_of, without_small

__all__ = ["Result"]


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class Result:
    """What one frame was found to be."""

    score: float
    """Fused anomaly score, higher = more anomalous; 0 is the median training image, 1 the calibrated limit."""
    threshold: float
    """The score above which a frame is anomalous."""
    is_anomaly: bool
    """Whether the score lies above it, and the frame is not `too_small`"""
    criteria: dict[str, float]
    """Raw criteria by name, as the bundle's manifest lists them: of each, the largest over the frame's tiles."""
    latents: NDArray[np.float32]
    """(T, D) codes of the tiles, or (T, D, h, w) where the network has one at every site; 0 of tiles not scored."""
    anomaly_maps: NDArray[np.float32]
    """(T, h, w), of each tile, >= 0, higher = more anomalous; heatmap stitches them over the frame."""
    tiling: Tiling
    """Where the T tiles lie; one tile unless the bundle's preprocessing cuts frames into several."""
    geometry: Geometry
    """What the frame was scored with: region, mask, tiles, and the view's place in this frame where it was aligned."""
    heat_scale: HeatScale
    """The colours of the map, of the bundle that scored; regions lie above its peak."""
    latency_ms: dict[str, float]
    """Milliseconds for preprocess, infer and post, all tiles together."""
    size: DefectSize = MEASURED_IN_PIXELS
    """How large a pixel is, and from which area on a region counts"""
    too_small: bool = False
    """Whether the score lies above the threshold and all that the map shows is smaller than size.min_area"""
    faults: tuple[Fault, ...] | None = None
    """How the picture differs from those trained on; None where the bundle does not say what these were like"""
    picture: FrameQuality | None = None
    """What the faults are by; None where nothing could be measured"""
    picture_region: tuple[int, int, int, int] | None = None
    """x, y, width, height of what was measured of the frame; None: all of it"""
    bad_is_unknown: bool = False
    """Whether a picture with faults may not count as normal"""

    @property
    def unknown(self) -> bool:
        """Whether the frame is neither normal nor anomalous: its picture is bad, and such are not to be trusted.

        A score above the threshold stays what it is: no fault of a picture hides an anomaly.
        """
        return self.bad_is_unknown and bool(self.faults) and not self.is_anomaly

    def __repr__(self) -> str:
        """Score, decision and criteria in a line, without the arrays."""
        found = "anomaly" if self.is_anomaly else "normal, all too small" if self.too_small else "normal"
        criteria = ", ".join(f"{name} {value:.4g}" for name, value in self.criteria.items())
        return f"<Result {found}: score {self.score:.4g}, threshold {self.threshold:g}; {criteria}>"

    @property
    def latent(self) -> NDArray[np.float32]:
        """(D,) or (D, h, w): the code of the one tile. Raises FrameError where there are several; see latents."""
        code: NDArray[np.float32] = self.latents[self._only_tile("latents")]
        return code

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """(h, w) over the one network input. Raises FrameError where there are several; see anomaly_maps."""
        only: NDArray[np.float32] = self.anomaly_maps[self._only_tile("anomaly_maps")]
        return only

    def heatmap(self, frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The anomaly maps, stitched, in the frame's coordinates: (H, W) float32, zero where masked
        and outside an aligned view.

        frame_shape: of the frame that was scored; raises FrameError where one of this shape has other tiles.
        """
        return self.geometry.heatmap(self.anomaly_maps, frame_shape)

    def shown_heatmap(self, frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """heatmap for people to look at: of a frame above the threshold without regions that are too small."""
        heat = self.heatmap(frame_shape)
        return without_small(heat, self.heat_scale.peak, self.size) if self.is_anomaly or self.too_small else heat

    def regions(self, frame_shape: tuple[int, ...]) -> list[Region]:
        """Where an anomalous frame is anomalous, in its pixels, the brightest first, 16 at most; of a normal one none.

        frame_shape: as for heatmap.
        """
        if not self.is_anomaly:
            return []
        return regions_of(self.heatmap(frame_shape), self.heat_scale.peak, self.size)

    def mask(self, frame_shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """(H, W) uint8, 255 where an anomalous frame is anomalous, in the regions that are large enough; of a normal
        one 0 everywhere. frame_shape: as for heatmap."""
        if not self.is_anomaly:
            return np.zeros(frame_shape[:2], dtype=np.uint8)
        return mask_of(self.heatmap(frame_shape), self.heat_scale.peak, self.size)

    def _only_tile(self, all_of_them: str) -> int:
        if len(self.tiling) != 1:
            raise FrameError(
                f"the frame was scored in {len(self.tiling)} tiles, expected one; use {all_of_them} with tiling, or "
                "heatmap for one map over the frame"
            )
        return 0
