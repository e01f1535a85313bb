"""From a frame to the network's inputs, and from their maps back to the frame: both by the same region, mask, tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import Masking, View
from edge_runtime.bundle.golden import Golden
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.tiling import Tiling

__all__ = ["Geometry"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """Where the network's inputs lie in frames. Never changes; may be used from any thread."""

    preprocess: Preprocess
    masking: Masking | None = None
    """None leaves out nothing"""

    @classmethod
    def of(cls, bundle: Bundle, view: View) -> Geometry:
        """The bundle's, with the view's region and mask; raises ConfigError where the mask does not fit."""
        preprocess = bundle.preprocess
        if view.roi is not None:
            preprocess = replace(preprocess, roi=view.roi)
        if view.mask is None:
            return cls(preprocess=preprocess)
        golden = Golden.from_npz(bundle.files["golden.npz"])
        usual = np.median(golden.inputs, axis=0).astype(np.uint8)
        return cls(preprocess=preprocess, masking=Masking(preprocess, view.mask, usual))

    @classmethod
    def of_input(cls, height: int, width: int) -> Geometry:
        """Of a frame that is one network input, all of it."""
        return cls(preprocess=Preprocess(height=height, width=width))

    def inputs(self, frame: Frame) -> tuple[Frame, Tiling, NDArray[np.intp] | None]:
        """The network inputs (S, height, width, channels) that a frame is scored by, the T tiles' places, and which of
        them the S are, None for all. Raises FrameError where shape or dtype differ."""
        if self.masking is None:
            return *self.preprocess.tiles(frame), None
        return *self.masking.tiles(frame), self.masking.scored

    def heatmap(self, anomaly_maps: NDArray[np.float32], frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The tiles' maps (T, h, w), stitched, in the frame's coordinates: (H, W) float32, zero where masked.

        Raises FrameError where a frame of this shape has other tiles.
        """
        heat = self.preprocess.map_to_frame(anomaly_maps, frame_shape)
        if self.masking is not None and self.masking.mask.shape == heat.shape:
            heat[~self.masking.mask] = 0.0
        return heat
