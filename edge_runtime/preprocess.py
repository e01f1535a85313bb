"""From a camera frame to the network's input: one definition for training, calibration, verification and device.

A frame is (H, W, 3) uint8 in BGR order, as OpenCV gives it, or (H, W) / (H, W, 1) grey. The network's input
is (height, width, channels) uint8; scaling to [0, 1] happens inside the exported graph.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, FrameError
from edge_runtime.extras import require

__all__ = ["Preprocess", "as_frame", "LETTERBOX_GREY"]

LETTERBOX_GREY = 114
"""Grey level of letterbox bars: mid-grey, so that a bar is neither the darkest nor the brightest thing in view."""

UINT16_TO_UINT8 = 257
"""65535 / 255: the whole range of a 16-bit image maps to the whole range of an 8-bit one, whatever it holds."""

Frame = NDArray[np.uint8]


def as_frame(image: NDArray[Any]) -> Frame:
    """A decoded image as a frame: (H, W) grey or (H, W, 3) BGR, uint8.

    image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16, as cv2.imdecode gives it with
    IMREAD_UNCHANGED. Range follows dtype: 16 bit are scaled by 1/257 even where only 12 bits are used. Alpha is
    dropped. Raises FrameError for other shapes and dtypes.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, :3]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise FrameError(f"image is {image.shape}, expected (H, W), (H, W, 3) BGR or (H, W, 4) BGRA")
    if image.dtype == np.uint16:
        return (image // UINT16_TO_UINT8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise FrameError(f"image is {image.dtype}, expected uint8 or uint16; convert it before use")
    return np.ascontiguousarray(image)


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocess:
    """How a frame becomes the network's input; written by training, stored in the manifest."""

    height: int
    """Rows of the network's input, pixels."""
    width: int
    """Columns of the network's input, pixels."""
    channels: Literal[1, 3] = 1
    """1: grey; 3: BGR."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """stretch fills the input and may change the aspect ratio; letterbox keeps it and adds bars of grey 114."""
    interpolation: Literal["area", "linear", "nearest"] = "area"
    """area averages when it shrinks (no aliasing) and is bilinear when it enlarges."""
    roi: tuple[int, int, int, int] | None = None
    """x, y, width, height in frame pixels, cut out first; None takes the whole frame."""

    def __post_init__(self) -> None:
        if not (isinstance(self.height, int) and isinstance(self.width, int)):
            raise ConfigError(f"network input is {self.height}x{self.width}, expected whole pixels")
        if self.height < 1 or self.width < 1:
            raise ConfigError(f"network input is {self.height}x{self.width}, expected at least 1x1")
        if self.channels not in (1, 3):
            raise ConfigError(f"channels is {self.channels}, expected 1 (grey) or 3 (BGR)")
        if self.fit not in ("stretch", "letterbox"):
            raise ConfigError(f"fit is {self.fit!r}, expected 'stretch' or 'letterbox'")
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

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one network input."""
        return self.height, self.width, self.channels

    def __call__(self, frame: Frame) -> Frame:
        """The network's input for one frame: (height, width, channels) uint8, C-contiguous.

        frame: (H, W), (H, W, 1) or (H, W, 3) BGR, uint8. Raises FrameError for anything else, and for a region
        of interest that leaves the frame.
        """
        frame = self._cut(self._checked(frame))
        if self.channels == 1 and frame.ndim == 3:
            frame = _cv2().cvtColor(frame, _cv2().COLOR_BGR2GRAY)
        top, left, height, width = self.content_box(frame.shape)
        resized = self._resize(frame, height, width)
        if resized.ndim == 2:
            resized = np.repeat(resized[:, :, None], self.channels, axis=2)
        if (height, width) == (self.height, self.width):
            return np.ascontiguousarray(resized)
        canvas = np.full(self.input_shape, LETTERBOX_GREY, dtype=np.uint8)
        canvas[top : top + height, left : left + width] = resized
        return canvas

    def content_box(self, frame_shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Where the (cut) frame lies in the network's input: top, left, height, width in input pixels."""
        frame_height, frame_width = frame_shape[:2]
        if self.fit == "stretch":
            return 0, 0, self.height, self.width
        scale = min(self.height / frame_height, self.width / frame_width)
        height = max(1, min(self.height, round(frame_height * scale)))
        width = max(1, min(self.width, round(frame_width * scale)))
        return (self.height - height) // 2, (self.width - width) // 2, height, width

    def map_to_frame(self, anomaly_map: NDArray[np.float32], frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The anomaly map in frame coordinates: (H, W) float32, zero outside the region of interest.

        anomaly_map: (h, w) float32 over the network's input. frame_shape: shape of the frame that was scored.
        """
        frame_height, frame_width = frame_shape[:2]
        x, y, roi_width, roi_height = self.roi or (0, 0, frame_width, frame_height)
        top, left, height, width = self.content_box((roi_height, roi_width))
        rows = anomaly_map.shape[0] / self.height
        columns = anomaly_map.shape[1] / self.width
        content = anomaly_map[
            round(top * rows) : max(round((top + height) * rows), round(top * rows) + 1),
            round(left * columns) : max(round((left + width) * columns), round(left * columns) + 1),
        ]
        mapped = np.zeros((frame_height, frame_width), dtype=np.float32)
        mapped[y : y + roi_height, x : x + roi_width] = _cv2().resize(
            np.ascontiguousarray(content), (roi_width, roi_height), interpolation=_cv2().INTER_LINEAR
        )
        return mapped

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, for the manifest and the run's config."""
        values = asdict(self)
        values["roi"] = list(self.roi) if self.roi is not None else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Preprocess:
        """The settings read back; raises ConfigError for unknown keys and for values out of range."""
        known = set(cls.__dataclass_fields__)
        if set(values) != known:
            raise ConfigError(f"preprocess has keys {sorted(values)}, expected {sorted(known)}")
        roi = values["roi"]
        return cls(**{**values, "roi": tuple(roi) if roi is not None else None})

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

    def _cut(self, frame: Frame) -> Frame:
        if self.roi is None:
            return frame
        x, y, width, height = self.roi
        if y + height > frame.shape[0] or x + width > frame.shape[1]:
            raise FrameError(
                f"frame is {frame.shape[0]} rows by {frame.shape[1]} columns, region of interest "
                f"x={x} y={y} width={width} height={height} leaves it; use frames of the size trained on"
            )
        return frame[y : y + height, x : x + width]

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
