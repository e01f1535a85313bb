"""From a frame to the network's inputs, and from their maps back to the frame: both by the same region, mask, tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import Masking, View
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import ConfigError
from edge_runtime.model.alignment import Placement
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.tiling import Tiling

__all__ = ["Geometry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Where the network's inputs lie in frames. Never changes; may be used from any thread."""

    preprocess: Preprocess
    masking: Masking | None = None
    """None leaves out nothing"""
    placement: Placement | None = None
    """Where the view lies in the one frame that this is of; None without an alignment, and before a frame is known"""

    @classmethod
    def of(cls, bundle: Bundle, view: View) -> Geometry:
        """The bundle's, with the view's region and mask; raises ConfigError where the mask does not fit."""
        preprocess = bundle.preprocess
        if view.roi is not None:
            preprocess = replace(preprocess, roi=view.roi)
        if view.mask is None:
            return cls(preprocess=preprocess)
        if preprocess.align is not None:
            raise ConfigError(
                "the bundle's view follows the part, and a mask of the frame does not; leave the mask out, and "
                "keep what must not be seen out of the region of interest"
            )
        golden = Golden.from_npz(bundle.files["golden.npz"])
        usual = np.median(golden.inputs, axis=0).astype(np.uint8)
        return cls(preprocess=preprocess, masking=Masking(preprocess, view.mask, usual))

    @classmethod
    def of_input(cls, height: int, width: int) -> Geometry:
        """Of a frame that is one network input, all of it."""
        return cls(preprocess=Preprocess(height=height, width=width))

    def placed(self, frame: Frame) -> Geometry:
        """Of this frame alone: with the place of its view, where there is an alignment. Raises FrameError."""
        placement = self.preprocess.place(frame)
        return self if placement is None else replace(self, placement=placement)

    def inputs(self, frame: Frame) -> tuple[Frame, Tiling, NDArray[np.intp] | None]:
        """The network inputs (S, height, width, channels) that a frame is scored by, the T tiles' places, and which of
        them the S are, None for all. Raises FrameError where shape or dtype differ."""
        if self.masking is None:
            return *self.preprocess.tiles(frame, self.placement), None
        return *self.masking.tiles(frame), self.masking.scored

    def heatmap(self, anomaly_maps: NDArray[np.float32], frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The tiles' maps (T, h, w), stitched, in the frame's coordinates: (H, W) float32.

        Zero where masked and outside the view. Raises FrameError where a frame of this shape has other tiles.
        """
        heat = self.preprocess.map_to_frame(anomaly_maps, frame_shape, self.placement)
        if self.masking is not None and self.masking.mask.shape == heat.shape:
            heat[~self.masking.mask] = 0.0
        return heat
