"""Where the part lies in a frame, by its own outline, and the view that follows it.

One definition for training, calibration, verification and device: OpenCV and numpy, no network. The outline is found on
a copy of at most 320 pixels a side. Coordinates are continuous, in pixels of the frame: 0, 0 is the outer corner of its
first pixel, whose middle is .5, .5. Angles are radians from the frame's x axis towards its y axis, which points down.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require

__all__ = ["ALIGNED", "Alignment", "NoPose", "Placement", "Pose", "part_pose", "unwarped", "warped"]

Frame = NDArray[np.uint8]
Mode = Literal["centre", "turn"]
NoPose = Literal["no_part", "several_parts", "part_at_border", "mask_scatters"]
"""Why a frame has no pose: nothing stands out from the border's colour; another part of a quarter of the largest's area
or more; the part reaches the frame's edge; what stands out falls into pieces."""

ALIGNED = "aligned"
NO_AXIS = "no_axis"
BEYOND = "part_beyond_view"

LONGEST_SIDE = 320
"""Pixels of the copy that the outline is found on, at most; frames are halved until then."""
SIDE_OF_BLUR = 128
"""Pixels of the copy for each that means are taken over to both sides: grain and texture must not break the outline."""
BORDER_SHARE = 50
"""The border whose colour is the background is this part of the shorter side, at least 2 pixels."""
LEAST_CONTRAST = 8
"""Grey levels between the means of part and background; below, grain is what was split."""
LEAST_SEPARATION = 0.65
"""Of the distances' variance, the share between part and background (Otsu 1979). Plain Gaussian grain gives .64."""
LEAST_AREA = 0.002
"""Of the frame."""
LARGEST_AREA = 0.95
PIECE = 0.25
"""Of the largest piece's area: from here on another one is a part of its own."""
LEAST_IN_ONE = 0.8
"""Of what stands out, the share that the largest piece must hold."""
MOST_AT_BORDER = 0.02
"""Of the frame's outermost pixels that the part may cover: a speck of dirt is none of it."""
LEAST_ELONGATION = 1.03
"""Long axis to short one, by standard deviations: below, a shape's axis is the mask's noise."""

LARGEST_STEP = 1.6
"""Pixels of the frame for one of the view, below which the warp interpolates; frames are halved until then, so that
grain does not alias."""
SUBPIXEL_BITS = 5
SUBPIXELS = 1 << SUBPIXEL_BITS
"""Steps of a pixel that coordinates are rounded to, as OpenCV's integer interpolation takes them."""
FINE_BITS = 10
"""Of each of those steps, while coordinates are added up."""
FARTHEST = 1 << 14
"""Pixels from the frame's corner, beyond which coordinates are clipped: sums of two must fit 16 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """Where a part lies, how it is turned, and how far it reaches."""

    x: float
    y: float
    """Centre of the outline's area"""
    angle: float
    """Of the long axis, towards the end with the longer tail: along it the third moment is not negative"""
    elongation: float
    """Long axis to short one, by standard deviations, >= 1"""
    skew: float
    """Third moment along the long axis, standardised, >= 0; near 0 either end may be the one"""
    area: float
    """Share of the frame, holes filled"""
    reach: tuple[float, float]
    """Greatest distance of the outline from its centre down or up, and to a side, pixels"""
    turned_reach: tuple[float, float]
    """The same across the long axis, and along it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the view lies in one frame."""

    code: str
    """aligned, part_beyond_view where the part is aligned but larger than the view, no_axis where it is centred and not
    turned since it has no long axis, or the NoPose for which the view lies at the frame's middle"""
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    """Affine, from the view's coordinates in pixels of the network's input to the frame's"""

    def corners(self, height: int, width: int) -> NDArray[np.float64]:
        """The corners of a view of so many pixels in the frame: (4, 2) x, y."""
        corners = np.array([(0, 0, 1), (width, 0, 1), (width, height, 1), (0, height, 1)], dtype=np.float64)
        found: NDArray[np.float64] = corners @ np.array(self.matrix).T
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignment:
    """A view of one size that follows the part; fitted on the training frames, stored in the manifest."""

    mode: Mode
    """centre: the view's middle lies on the part's; turn: its columns run along the part's long axis as well"""
    height: float
    """Of the view, pixels of the (cut) frame."""
    width: float
    frame: tuple[int, int]
    """Rows and columns of the whole frames that height and width were measured in; in frames of another size they
    scale with the longer side."""

    def __post_init__(self) -> None:
        if self.mode not in ("centre", "turn"):
            raise ConfigError(f"align mode is {self.mode!r}, expected 'centre' or 'turn'")
        for name, value in (("height", self.height), ("width", self.width)):
            if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
                raise ConfigError(f"align {name} is {value}, expected pixels of the frame, above 0")
        if not (len(self.frame) == 2 and all(isinstance(side, int) for side in self.frame) and min(self.frame) >= 1):
            raise ConfigError(f"align frame is {self.frame}, expected rows and columns, whole pixels of at least 1")

    def __str__(self) -> str:
        turned = "centred on the part and turned along it" if self.mode == "turn" else "centred on the part"
        rows, columns = self.frame
        return f"{self.height:.0f}x{self.width:.0f} pixels of frames of {rows}x{columns}, {turned}"

    def place(self, frame: Frame, size: tuple[int, int], whole: tuple[int, ...]) -> Placement:
        """Where the view of `size` (rows, columns of the network's input) lies in a (cut) frame.

        whole: the shape of the frame before it was cut.

        A frame without a pose has the plain view at its middle, not turned: the network sees the frame at the scale
        that it knows, and the placement's code says why.
        """
        rows, columns = frame.shape[:2]
        scale = max(whole[:2]) / max(self.frame)
        height, width = scale * self.height, scale * self.width
        pose = part_pose(frame)
        if not isinstance(pose, Pose):
            return Placement(code=pose, matrix=_matrix(columns / 2, rows / 2, 0.0, (height, width), size))
        code, turned = ALIGNED, self.mode == "turn"
        if turned and pose.elongation < LEAST_ELONGATION:
            code, turned = NO_AXIS, False
        down, aside = pose.turned_reach if turned else pose.reach
        if 2 * down > height or 2 * aside > width:
            code = BEYOND
        angle = pose.angle if turned else 0.0
        return Placement(code=code, matrix=_matrix(pose.x, pose.y, angle, (height, width), size))

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for the manifest."""
        return {**asdict(self), "frame": list(self.frame)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Alignment:
        """Read back; raises ConfigError for unknown keys and for values out of range."""
        known = set(cls.__dataclass_fields__)
        if not isinstance(values, dict) or set(values) != known:
            raise ConfigError(f"align is {values}, expected null or an object with {sorted(known)}")
        return cls(**{**values, "frame": tuple(values["frame"])})


def part_pose(frame: Frame) -> Pose | NoPose:
    """The pose of the one part in a frame, or why it has none.

    frame: (H, W) or (H, W, 3) uint8. The part is what differs from the colour of the frame's border.
    """
    cv2 = _cv2()
    small, factor = frame, 1
    while max(small.shape[:2]) > LONGEST_SIDE:
        small, factor = _halved(small), 2 * factor
    mask = _part_mask(small)
    if isinstance(mask, str):
        return mask
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outline = max(contours, key=len)
    cv2.drawContours(mask, [outline], -1, 1, -1)
    moments = cv2.moments(mask, binaryImage=True)
    area = moments["m00"]
    if not LEAST_AREA * mask.size <= area <= LARGEST_AREA * mask.size:
        return "no_part"
    x, y = moments["m10"] / area, moments["m01"] / area
    angle, elongation, skew = _axis(moments)
    away = outline[:, 0, :].astype(np.float64) - (x, y)
    axes = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    # Outlines run through the middle of their pixels: half a pixel more.
    aside, down = (factor * (np.abs(away).max(axis=0) + 0.5)).tolist()
    along, across = (factor * (np.abs(away @ axes).max(axis=0) + 0.5)).tolist()
    return Pose(
        x=factor * (x + 0.5),
        y=factor * (y + 0.5),
        angle=angle,
        elongation=elongation,
        skew=skew,
        area=area / mask.size,
        reach=(down, aside),
        turned_reach=(across, along),
    )


def warped(frame: Frame, placement: Placement, size: tuple[int, int]) -> Frame:
    """The view of a frame: (rows, columns) of `size`, channels as the frame's, uint8; what lies outside the frame
    repeats its edge.

    OpenCV's floating-point warps round differently from version to version. This one averages pairs of pixels first,
    where the view shrinks the frame, and then interpolates in integers at coordinates that are worked out here.
    """
    cv2 = _cv2()
    matrix = np.array(placement.matrix)
    step = min(math.hypot(*matrix[:, 0]), math.hypot(*matrix[:, 1]))  # pixels of the frame for one of the view
    while step >= LARGEST_STEP and min(frame.shape[:2]) > 1:
        frame, matrix, step = _halved(frame), matrix / 2, step / 2
    row, column = (np.arange(side, dtype=np.float64) + 0.5 for side in size)
    whole, parts = np.empty((*size, 2), dtype=np.int16), []
    for axis, (across, down, first) in enumerate(matrix):
        fixed = _fixed(down * row + first - 0.5 + 0.5 / SUBPIXELS)[:, None] + _fixed(across * column)
        fixed >>= FINE_BITS
        whole[:, :, axis] = fixed >> SUBPIXEL_BITS
        parts.append((fixed & (SUBPIXELS - 1)).astype(np.uint16))
    part = parts[1] << SUBPIXEL_BITS | parts[0]
    view: Frame = cv2.remap(frame, whole, part, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return view


def unwarped(
    view_map: NDArray[np.float32], placement: Placement, size: tuple[int, int], frame_shape: tuple[int, int]
) -> NDArray[np.float32]:
    """A map over the view, at any resolution, in the frame's coordinates: frame_shape float32, zero outside the view.

    size: rows and columns of the view that the placement is of.
    """
    cv2 = _cv2()
    if view_map.shape != size:
        view_map = cv2.resize(view_map, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    matrix = np.array(placement.matrix)
    # From pixel indices of the view to those of the frame: half a pixel on, through the placement, half a pixel back.
    matrix[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    mapped: NDArray[np.float32] = cv2.warpAffine(
        np.ascontiguousarray(view_map, dtype=np.float32),
        matrix,
        (frame_shape[1], frame_shape[0]),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return mapped


def _fixed(coordinates: NDArray[np.float64]) -> NDArray[np.int32]:
    """Pixels as whole fine steps."""
    steps = np.rint(np.clip(coordinates, -FARTHEST, FARTHEST - 1) * (SUBPIXELS << FINE_BITS))
    return steps.astype(np.int32)


def _part_mask(small: Frame) -> NDArray[np.uint8] | NoPose:
    """(h, w) 1 where the part is, its holes open; or why there is none."""
    cv2 = _cv2()
    height, width = small.shape[:2]
    edge = max(2, min(height, width) // BORDER_SHARE)
    colours = small.reshape(height, width, -1)
    n_channels = colours.shape[2]
    sides = (colours[:edge], colours[-edge:], colours[:, :edge], colours[:, -edge:])
    background = np.median(np.concatenate([side.reshape(-1, n_channels) for side in sides]), axis=0)
    distance = cv2.absdiff(colours, np.full_like(colours, np.rint(background).astype(np.uint8))).reshape(colours.shape)
    distance = reduce(cv2.max, cv2.split(distance))
    distance = _smoothed(distance, 2 * max(1, round(max(height, width) / SIDE_OF_BLUR)) + 1)
    level, _ = cv2.threshold(distance, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if not _stands_out(distance, int(level)):
        return "no_part"
    mask = (distance > level).astype(np.uint8)
    n_labels, labels, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    areas = boxes[1:, cv2.CC_STAT_AREA]
    largest = 1 + int(areas.argmax())
    if n_labels > 2 and np.partition(areas, -2)[-2] >= PIECE * areas.max():
        return "several_parts"
    if areas.max() < LEAST_IN_ONE * areas.sum():
        return "mask_scatters"
    part: NDArray[np.uint8] = (labels == largest).astype(np.uint8)
    outermost = np.concatenate((part[0], part[-1], part[:, 0], part[:, -1]))
    if outermost.mean() > MOST_AT_BORDER:
        return "part_at_border"
    return part


def _smoothed(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Means over squares, twice, rounded down. In integers: the end of a part that looks much the same from both must
    not depend on how a machine rounds."""
    cv2 = _cv2()
    sums = cv2.boxFilter(image, cv2.CV_16U, (side, side), normalize=False)
    sums = cv2.boxFilter(sums, cv2.CV_32S, (side, side), normalize=False)
    smoothed: NDArray[np.uint8] = (sums // side**4).astype(np.uint8)
    return smoothed


def _stands_out(distance: NDArray[np.uint8], level: int) -> bool:
    """Whether a split at the level leaves two kinds of pixels, and not the halves of one."""
    counts = np.bincount(distance.ravel(), minlength=256).astype(np.float64)
    values = np.arange(256, dtype=np.float64)
    inside = counts[level + 1 :].sum()
    outside = counts[: level + 1].sum()
    if not (inside and outside):
        return False
    contrast = (counts @ values - (near := counts[: level + 1] @ values[: level + 1])) / inside - near / outside
    total = inside + outside
    variance = (counts @ values**2) / total - ((counts @ values) / total) ** 2
    between = inside * outside / total**2 * contrast**2
    return bool(contrast >= LEAST_CONTRAST and between >= LEAST_SEPARATION * variance)


def _axis(moments: dict[str, float]) -> tuple[float, float, float]:
    """Angle, elongation and skew by the central moments of an outline's area."""
    area = moments["m00"]
    xx, xy, yy = (moments[name] / area for name in ("mu20", "mu11", "mu02"))
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    middle, apart = (xx + yy) / 2, math.hypot((xx - yy) / 2, xy)
    long, short = middle + apart, max(middle - apart, 1e-6)
    c, s = math.cos(angle), math.sin(angle)
    third = (
        c**3 * moments["mu30"]
        + 3 * c**2 * s * moments["mu21"]
        + 3 * c * s**2 * moments["mu12"]
        + s**3 * moments["mu03"]
    ) / area
    if third < 0:
        angle += math.pi
    return angle, math.sqrt(long / short), abs(third) / max(long, 1e-6) ** 1.5


def _matrix(
    x: float, y: float, angle: float, box: tuple[float, float], size: tuple[int, int]
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """From the view's pixels, rows and columns of `size`, to a box of so many pixels around x, y, turned."""
    c, s = math.cos(angle), math.sin(angle)
    down, aside = box[0] / size[0], box[1] / size[1]
    return (
        (c * aside, -s * down, x - (c * box[1] - s * box[0]) / 2),
        (s * aside, c * down, y - (s * box[1] + c * box[0]) / 2),
    )


def _halved(frame: Frame) -> Frame:
    """Each two by two pixels as their mean, rounded; an odd last row or column is left out."""
    cv2 = _cv2()
    rows, columns = (max(1, side // 2) for side in frame.shape[:2])
    even = np.ascontiguousarray(frame[: 2 * rows, : 2 * columns])
    halved: Frame = cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA)
    return halved


def _cv2() -> Any:
    return require("cv2", extra="camera", purpose="finding parts and warping views")
