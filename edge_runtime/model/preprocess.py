"""From a camera frame to the network's input: one definition for training, calibration, verification and device.

A frame is (H, W, 3) uint8 in BGR order, as OpenCV gives it, or (H, W) / (H, W, 1) grey. It becomes one or more tiles,
the network's inputs, each `Preprocess.input_shape` uint8; scaling to [0, 1] happens inside the exported graph.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, FrameError
from edge_runtime.extras import require
from edge_runtime.image_files.levels import Levels, check_levels
from edge_runtime.model.alignment import Alignment, Placement, unwarped, warped
from edge_runtime.model.self_reference import BARS, MASK, N_CHANNELS, self_referenced
from edge_runtime.model.tiling import MOST_TILED_PIXELS, Tiling

__all__ = ["LETTERBOX_GREY", "Frame", "Preprocess"]

LETTERBOX_GREY = 114
"""Grey level of letterbox bars: mid-grey, so that a bar is neither the darkest nor the brightest thing in view."""

ADDED_FIELDS = {"scale": 1.0, "overlap": 0, "self_reference": "none", "align": None, "levels": None}
"""Settings that manifests may lack, those from before tiling the first three, and what they stand for there."""

Frame = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """How a frame becomes the network's input; written by training, stored in the manifest."""

    height: int
    """Rows of the network's input, pixels."""
    width: int
    """Columns of the network's input, pixels."""
    channels: Literal[1, 3] = 1
    """Of the frame, before any are derived. 1: grey, to which colour frames are converted; 3: BGR."""
    fit: Literal["stretch", "letterbox", "tile"] = "stretch"
    """stretch fills the input and may change the aspect ratio; letterbox keeps it and adds bars of grey 114; tile
    keeps it too, scales by `scale` whatever the frame's size, and cuts overlapping tiles of height x width."""
    scale: float = 1.0
    """With tile: pixels of the scaled frame for one of the frame's, 0.5 halves both sides. 1 otherwise."""
    overlap: int = 0
    """With tile: pixels that neighbouring tiles share at least, less than a tile's smaller side. 0 otherwise."""
    self_reference: Literal["none", "row_column"] = "none"
    """row_column: four channels in place of one grey, see edge_runtime/model/self_reference.py."""
    interpolation: Literal["area", "linear", "nearest"] = "area"
    """area averages when it shrinks (no aliasing) and is bilinear when it enlarges."""
    roi: tuple[int, int, int, int] | None = None
    """x, y, width, height in frame pixels, cut out first; None takes the whole frame."""
    align: Alignment | None = None
    """A view that follows the part, stretched onto the input; None takes all of the (cut) frame."""

    levels: Levels | None = None
    """Of 16-bit images those that become black and white, before all else: `as_frame` in edge_runtime/model/images.py,
    which whoever decodes calls. None takes the range of the type, 0 to 65535."""

    def __post_init__(self) -> None:
        if not (isinstance(self.height, int) and isinstance(self.width, int)):
            raise ConfigError(f"network input is {self.height}x{self.width}, expected whole pixels")
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"network input is {self.height}x{self.width}, expected at least 1x1")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels is {self.channels}, expected 1 (grey) or 3 (BGR)")
        if self.fit not in ("stretch", "letterbox", "tile"):
            raise ConfigError(f"fit is {self.fit!r}, expected 'stretch', 'letterbox' or 'tile'")
        self._check_tiles()
        self._check_alignment()
        if self.self_reference not in ("none", "row_column"):
            raise ConfigError(f"self_reference is {self.self_reference!r}, expected 'none' or 'row_column'")
        if self.self_reference != "none" and self.channels != 1:
            raise ConfigError(
                f"self_reference is {self.self_reference!r} with {self.channels} channels, expected 1: medians are "
                "taken of grey; set channels to 1, colour frames are then converted"
            )
        if self.interpolation not in ("area", "linear", "nearest"):
            raise ConfigError(f"interpolation is {self.interpolation!r}, expected 'area', 'linear' or 'nearest'")
        if self.roi is not None and not (
            len(self.roi) == 4
            and all(isinstance(number, int) for number in self.roi)
            and min(self.roi[:2]) >= 0
            and min(self.roi[2:]) >= 1
        ):
            raise ConfigError(
                f"roi is {self.roi}, expected x, y >= 0 and width, height >= 1 in frame pixels, whole numbers"
            )
        if self.levels is not None:
            check_levels(self.levels, "levels")

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one network input, derived channels counted."""
        return self.height, self.width, self.channels if self.self_reference == "none" else N_CHANNELS

    def __call__(self, frame: Frame) -> Frame:
        """The network's input for one frame: (height, width, channels) uint8, C-contiguous. Not with fit tile.

        frame: (H, W), (H, W, 1) or (H, W, 3) BGR, uint8. Raises FrameError for anything else, and for a region
        of interest that leaves the frame; ConfigError with fit tile, where a frame gives several inputs.
        """
        if self.fit == "tile":
            raise ConfigError("fit is 'tile': a frame gives several network inputs; call tiles(frame)")
        network_input: Frame = self.tiles(frame)[0][0]
        return network_input

    def place(self, frame: Frame) -> Placement | None:
        """Where the view lies in one frame; None unless there is an alignment. frame and errors as for a call."""
        if self.align is None:
            return None
        return self.align.place(self.cut(frame), (self.height, self.width), frame.shape)

    def tiles(self, frame: Frame, placement: Placement | None = None) -> tuple[Frame, Tiling]:
        """The network's inputs for one frame, (T, height, width, channels) uint8, C-contiguous, and where they lie.

        T is 1 unless fit is tile. frame and errors as for a call. placement: what `place` gave for the frame, found
        where None. Medians are taken over the whole scaled frame.
        """
        scaled = self.scaled(frame, placement)
        tiling = self._tiling(*scaled.shape[:2])
        return self.tiles_of(scaled, tiling), tiling

    def cut(self, frame: Frame) -> Frame:
        """The region of interest of a frame, (h, w) or (h, w, 3); frame and errors as for a call."""
        frame = self._checked(frame)
        if self.roi is None:
            return frame
        x, y, width, height = self.roi
        rows, columns = frame.shape[:2]
        if y + height > rows or x + width > columns:
            raise FrameError(
                f"region of interest {x},{y},{width},{height} reaches beyond the frame of {columns}x{rows} pixels: X+W "
                f"may be {columns} and Y+H {rows} at the most; name another with --roi, or use frames of its size"
            )
        return frame[y : y + height, x : x + width]

    def scaled(self, frame: Frame, placement: Placement | None = None) -> Frame:
        """The frame cut, converted and resized, or its view warped, before channels are derived and tiles cut:
        (h, w, 1 or 3) uint8. placement: as for tiles."""
        placement = placement or self.place(frame)
        frame = self.cut(frame)
        if self.channels == 1 and frame.ndim == 3:
            frame = _cv2().cvtColor(frame, _cv2().COLOR_BGR2GRAY)
        if placement is None:
            resized = self._resize(frame, *self._scaled_size(*frame.shape[:2]))
        else:
            resized = warped(frame, placement, (self.height, self.width))
        return resized if resized.ndim == 3 else np.repeat(resized[:, :, None], self.channels, axis=2)

    def tiles_of(self, scaled: Frame, tiling: Tiling) -> Frame:
        """The network's inputs, (T, height, width, channels), of a frame from `scaled`; pure integer arithmetic."""
        if self.self_reference == "row_column":
            scaled = self_referenced(scaled[:, :, 0])
        return tiling.cut(self._bars_added(scaled, tiling) if self.fit == "letterbox" else self._reflected(scaled))

    def tiling(self, frame_shape: tuple[int, ...]) -> Tiling:
        """Where the network's inputs lie in the scaled frame, of a whole frame's shape."""
        _, _, width, height = self.roi or (0, 0, frame_shape[1], frame_shape[0])
        return self._tiling(*self._scaled_size(height, width))

    def content_box(self, frame_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Where the (cut) frame lies in the network's input: top, left, height, width in input pixels.

        With fit tile it starts at 0, 0 and may be larger than one input.
        """
        height, width = self._scaled_size(*frame_shape[:2])
        if self.fit == "tile":
            return 0, 0, height, width
        return (self.height - height) // 2, (self.width - width) // 2, height, width

    def map_to_frame(
        self, anomaly_map: NDArray[np.float32], frame_shape: tuple[int, ...], placement: Placement | None = None
    ) -> NDArray[np.float32]:
        """The anomaly map in frame coordinates: (H, W) float32, zero outside the region of interest and the view.

        anomaly_map: (h, w) float32 over the network's input, or (T, h, w) over the tiles of the frame, at any
        resolution; tiles are stitched (Tiling.stitch). frame_shape: shape of the frame that was scored. placement: with
        an alignment what `place` gave for that frame.
        """
        frame_height, frame_width = frame_shape[:2]
        x, y, roi_width, roi_height = self.roi or (0, 0, frame_width, frame_height)
        tiling = self.tiling(frame_shape)
        maps = anomaly_map[None] if anomaly_map.ndim == 2 else anomaly_map
        if len(maps) != len(tiling):
            raise FrameError(
                f"{len(maps)} anomaly maps came for a frame of {frame_height} rows by {frame_width} columns, expected "
                f"one for each of its {len(tiling)} tiles; pass the shape of the frame that was scored"
            )
        if self.align is not None:
            if placement is None:
                raise FrameError("the map is of an aligned view, and where that lay is not told; pass the placement")
            content = unwarped(maps[0], placement, (self.height, self.width), (roi_height, roi_width))
        elif self.fit == "tile":
            content = tiling.stitch(maps)
        else:
            content = self._without_bars(maps[0], (roi_height, roi_width))
        if content.shape != (roi_height, roi_width):
            content = _cv2().resize(
                np.ascontiguousarray(content), (roi_width, roi_height), interpolation=_cv2().INTER_LINEAR
            )
        mapped = np.zeros((frame_height, frame_width), dtype=np.float32)
        mapped[y : y + roi_height, x : x + roi_width] = content
        return mapped

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for manifest and config; `align` and `levels` only where there are some."""
        values = asdict(self)
        del values["align"], values["levels"]
        if self.levels is not None:
            values["levels"] = list(self.levels)
        if self.align is not None:
            values["align"] = self.align.to_json()
        values["roi"] = list(self.roi) if self.roi is not None else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocess:
        """The settings read back; raises ConfigError for unknown keys and for values out of range.

        scale, overlap, self_reference, align and levels may be missing: see ADDED_FIELDS.
        """
        known = set(cls.__dataclass_fields__)
        if set(values) | set(ADDED_FIELDS) != known:
            raise ConfigError(f"preprocess has keys {sorted(values)}, expected {sorted(known)}")
        values = {**ADDED_FIELDS, **values}
        roi, align, levels = values["roi"], values["align"], values["levels"]
        return cls(
            **{
                **values,
                "roi": tuple(roi) if roi is not None else None,
                "align": Alignment.from_json(align) if align is not None else None,
                "levels": tuple(levels) if levels is not None else None,
            }
        )

    def _check_tiles(self) -> None:
        if not (isinstance(self.scale, int | float) and math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"scale is {self.scale}, expected a number above 0; 1 keeps the frame's own pixels")
        smaller_side = min(self.height, self.width)
        if not (isinstance(self.overlap, int) and 0 <= self.overlap < smaller_side):
            raise ConfigError(
                f"overlap is {self.overlap}, expected whole pixels from 0 to {smaller_side - 1}, less than the smaller "
                f"side of a tile of {self.height}x{self.width}"
            )
        if self.fit != "tile" and (self.scale != 1 or self.overlap != 0):
            raise ConfigError(
                f"fit is {self.fit!r} with scale {self.scale} and overlap {self.overlap}, which it does not use; "
                "set fit to 'tile' or leave them at 1 and 0"
            )

    def _check_alignment(self) -> None:
        if self.align is None:
            return
        if self.fit != "stretch":
            raise ConfigError(
                f"fit is {self.fit!r} with an alignment, expected 'stretch': the view has a height and a width of its "
                "own, which fill the input"
            )
        if self.interpolation != "area":
            raise ConfigError(
                f"interpolation is {self.interpolation!r} with an alignment, expected 'area': the view is averaged and "
                "warped in one way alone"
            )

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the scaled frame, of the cut frame's."""
        if self.fit == "stretch":
            return self.height, self.width
        if self.fit == "tile":
            scaled = max(1, round(height * self.scale)), max(1, round(width * self.scale))
            if scaled[0] * scaled[1] > MOST_TILED_PIXELS:
                raise FrameError(f"a frame of {height}x{width} scaled by {self.scale:g} is too large to cut in tiles")
            return scaled
        scale = min(self.height / height, self.width / width)
        return (
            max(1, min(self.height, round(height * scale))),
            max(1, min(self.width, round(width * scale))),
        )

    def _tiling(self, height: int, width: int) -> Tiling:
        tile = self.height, self.width
        if self.fit == "tile":
            return Tiling.covering((height, width), tile, self.overlap)
        bars = (self.height - height) // 2, (self.width - width) // 2
        return Tiling(
            height=height,
            width=width,
            tile_height=self.height,
            tile_width=self.width,
            positions=((-bars[0], -bars[1]),),
        )

    def _bars_added(self, scaled: Frame, tiling: Tiling) -> Frame:
        if scaled.shape == self.input_shape:
            return scaled
        canvas = np.empty(self.input_shape, dtype=np.uint8)
        canvas[:] = LETTERBOX_GREY if self.self_reference == "none" else BARS
        canvas[tiling.inside(0)[1]] = scaled
        return canvas

    def _reflected(self, scaled: Frame) -> Frame:
        """Continued below and to the right up to one tile: texture goes on, and no edge stands where the frame ends."""
        rows, columns = max(0, self.height - scaled.shape[0]), max(0, self.width - scaled.shape[1])
        if not (rows or columns):
            return scaled
        padded = np.pad(scaled, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
        if self.self_reference == "row_column":
            padded[scaled.shape[0] :, :, MASK] = 0
            padded[:, scaled.shape[1] :, MASK] = 0
        return padded

    def _without_bars(self, anomaly_map: NDArray[np.float32], cut_shape: tuple[int, int]) -> NDArray[np.float32]:
        top, left, height, width = self.content_box(cut_shape)
        rows = anomaly_map.shape[0] / self.height
        columns = anomaly_map.shape[1] / self.width
        return anomaly_map[
            round(top * rows) : max(round((top + height) * rows), round(top * rows) + 1),
            round(left * columns) : max(round((left + width) * columns), round(left * columns) + 1),
        ]

    def _checked(self, frame: Frame) -> Frame:
        expected = "(H, W, 3) uint8 BGR or (H, W) uint8 grey"
        if not isinstance(frame, np.ndarray):
            raise FrameError(f"frame is a {type(frame).__name__}, expected a numpy array, {expected}")
        if frame.dtype != np.uint8:
            raise FrameError(f"frame is {frame.dtype}, expected {expected}; scale it to 0..255 before scoring")
        if frame.ndim == 3 and frame.shape[2] == 1:
            frame = frame[:, :, 0]
        if frame.ndim not in (2, 3) or (frame.ndim == 3 and frame.shape[2] != 3) or 0 in frame.shape:
            hint = "convert BGRA before scoring" if frame.ndim == 3 and frame.shape[2] == 4 else "check the source"
            raise FrameError(f"frame is {frame.shape}, expected {expected}; {hint}")
        return frame

    def _resize(self, frame: Frame, height: int, width: int) -> Frame:
        if frame.shape[:2] == (height, width):
            return frame
        cv2 = _cv2()
        shrinks = height <= frame.shape[0] and width <= frame.shape[1]
        flags = {
            "area": cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            "linear": cv2.INTER_LINEAR,
            "nearest": cv2.INTER_NEAREST,
        }
        resized: Frame = cv2.resize(
            np.ascontiguousarray(frame), (width, height), interpolation=flags[self.interpolation]
        )
        return resized


def _cv2() -> Any:
    """OpenCV, imported at first use so that the runtime's import stays numpy alone."""
    return require("cv2", extra="camera", purpose="resizing and colour conversion")
