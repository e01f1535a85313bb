"""The pose of a part by its outline, and the view that follows it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, FrameError
from edge_runtime.model.alignment import Alignment, Placement, Pose, part_pose, unwarped, warped
from edge_runtime.model.preprocess import Preprocess
from tests.turned_part import BACKGROUND, PART, defect_place, part_frame

TURN = Alignment(mode="turn", height=80.0, width=160.0, frame=(240, 300))
CENTRE = Alignment(mode="centre", height=170.0, width=170.0, frame=(240, 300))
SIZE = (40, 80)
GRAIN = 12
"""Grey levels of grain and of corners that fall between pixels"""


def pose_of(frame: NDArray[np.uint8]) -> Pose:
    pose = part_pose(frame)
    assert isinstance(pose, Pose), pose
    return pose


def aligned(align: Alignment = TURN, size: tuple[int, int] = SIZE, **settings: Any) -> Preprocess:
    return Preprocess(height=size[0], width=size[1], align=align, **settings)


@pytest.mark.parametrize("angle", [0, 30, 90, 135, 180, 250, 359])
def test_a_part_is_found_at_its_angle_thin_end_first(angle: int) -> None:
    straight, turned = pose_of(part_frame(0)), pose_of(part_frame(angle, (140.0, 125.0)))
    apart = math.degrees(turned.angle - straight.angle) - angle
    assert (apart + 180) % 360 - 180 == pytest.approx(0.0, abs=1.0)
    assert math.degrees(straight.angle) % 360 == pytest.approx(180.0, abs=0.5)  # the longer tail is the thin end
    assert turned.area == pytest.approx(straight.area, rel=0.02)
    assert turned.turned_reach == pytest.approx(straight.turned_reach, abs=3.0)


def test_the_centre_moves_with_the_part() -> None:
    first, second = pose_of(part_frame(40, (120.0, 110.0))), pose_of(part_frame(40, (151.0, 103.0)))
    assert (second.x - first.x, second.y - first.y) == pytest.approx((31.0, -7.0), abs=0.3)


def test_the_pose_of_a_large_frame_is_in_its_own_pixels() -> None:
    small = pose_of(part_frame(40, (150.0, 120.0)))
    large = pose_of(part_frame(40, (600.0, 480.0), shape=(960, 1200, 3), scale=4.0))
    assert (large.x, large.y) == pytest.approx((4 * small.x, 4 * small.y), abs=2.0)
    assert large.angle == pytest.approx(small.angle, abs=0.01)
    assert large.reach == pytest.approx([4 * reach for reach in small.reach], rel=0.05)


def test_a_grey_frame_has_the_pose_of_the_same_frame_in_three_equal_channels() -> None:
    grey = part_frame(70, shape=(240, 300))
    assert part_pose(grey) == part_pose(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))


def test_a_dark_part_on_a_bright_ground_is_found_likewise() -> None:
    bright, dark = pose_of(part_frame(20)), pose_of(255 - part_frame(20))
    assert replace(dark, angle=0.0) == replace(bright, angle=0.0)


def grain(level: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(0).normal(120, level, (240, 300)).clip(0, 255).astype(np.uint8)


def two_parts() -> NDArray[np.uint8]:
    return np.concatenate((part_frame(90), part_frame(90)), axis=1)


def at_the_border() -> NDArray[np.uint8]:
    return part_frame(0, (30.0, 120.0))


def specks() -> NDArray[np.uint8]:
    frame = np.full((240, 300), 60, dtype=np.uint8)
    for row in range(30, 220, 40):
        for column in range(30, 280, 40):
            frame[row : row + 8, column : column + 8] = 200
    frame[20:60, 20:60] = 200
    return frame


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(np.full((240, 300, 3), 90, dtype=np.uint8), "no_part", id="plain"),
        pytest.param(grain(), "no_part", id="grain"),
        pytest.param(np.zeros((1, 1), dtype=np.uint8), "no_part", id="one pixel"),
        pytest.param(two_parts(), "several_parts", id="two"),
        pytest.param(at_the_border(), "part_at_border", id="border"),
        pytest.param(specks(), "mask_scatters", id="specks"),
    ],
)
def test_a_frame_without_a_pose_says_why(frame: NDArray[np.uint8], code: str) -> None:
    assert part_pose(frame) == code
    preprocess = aligned()
    placement = preprocess.place(frame)
    assert placement is not None
    assert placement.code == code
    # The plain view at the frame's middle, not turned.
    corners = placement.corners(*SIZE)
    assert corners.mean(axis=0) == pytest.approx((frame.shape[1] / 2, frame.shape[0] / 2))
    assert corners[1][1] == pytest.approx(corners[0][1])
    assert preprocess(frame).shape == (*SIZE, 1)


@pytest.mark.parametrize("angle", [17, 100, 222, 300])
@pytest.mark.parametrize("channels", [1, 3])
def test_turned_parts_look_alike_to_the_network(angle: int, channels: Any) -> None:
    preprocess = aligned(channels=channels)
    straight = preprocess(part_frame(0)).astype(float)
    view = preprocess(part_frame(angle, (147.3, 118.8), seed=1)).astype(float)
    assert np.abs(view - straight).mean() < 4.0
    assert view[20, 40] == pytest.approx(PART, abs=GRAIN)  # the part fills the middle
    assert view[0, 0] == pytest.approx(BACKGROUND, abs=GRAIN)


def test_a_centred_view_does_not_turn() -> None:
    preprocess = aligned(CENTRE, (85, 85))
    first, second = preprocess(part_frame(0, (130.0, 110.0))), preprocess(part_frame(0, (160.4, 121.9)))
    assert np.abs(first.astype(float) - second).mean() < 4.0
    assert preprocess.place(part_frame(90)) != preprocess.place(part_frame(0))  # its centre lies elsewhere
    upright = preprocess.place(part_frame(90))
    assert upright is not None
    assert upright.matrix[0][1] == 0.0 == upright.matrix[1][0]


def test_frames_of_another_size_give_the_same_view() -> None:
    preprocess = aligned()
    small = preprocess(part_frame(33)).astype(float)
    large = preprocess(part_frame(33, (450.0, 360.0), shape=(720, 900, 3), scale=3.0)).astype(float)
    assert np.abs(small - large).mean() < 4.0


def test_the_region_of_interest_is_cut_first() -> None:
    frame = part_frame(25, (190.0, 130.0))
    frame[:, :30] = 255  # something else in view
    whole, cut = aligned(), aligned(roi=(40, 10, 250, 220))
    placement = cut.place(frame)
    assert placement is not None
    assert placement.code == "aligned"
    assert np.abs(cut(frame).astype(float) - whole(part_frame(25, (190.0, 130.0)))).mean() < 4.0


def test_a_part_larger_than_the_view_is_said() -> None:
    placement = aligned().place(part_frame(10, scale=1.2))
    assert placement is not None
    assert placement.code == "part_beyond_view"


def test_a_round_part_is_centred_and_not_turned() -> None:
    frame = np.full((240, 300), 60, dtype=np.uint8)
    cv2.circle(frame, (140, 110), 35, 200, -1)
    placement = aligned().place(frame)
    assert placement is not None
    assert placement.code == "no_axis"
    assert placement.corners(*SIZE).mean(axis=0) == pytest.approx((140.5, 110.5), abs=0.2)


@pytest.mark.parametrize("size", [SIZE, (80, 160), (30, 60), (120, 240)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_warp_is_bilinear_interpolation_at_the_places_it_states(size: tuple[int, int], channels: int) -> None:
    """Against OpenCV's own, in floating point, where the view does not shrink the frame."""
    frame = cv2.GaussianBlur(part_frame(0, defect=True), (0, 0), 2.0)
    frame = frame if channels == 3 else np.ascontiguousarray(frame[:, :, 0])
    placement = Preprocess(height=size[0], width=size[1], align=TURN).place(part_frame(50))
    assert placement is not None
    rows, columns = np.indices(size) + 0.5
    (xx, xy, x0), (yx, yy, y0) = placement.matrix
    x, y = xx * columns + xy * rows + x0 - 0.5, yx * columns + yy * rows + y0 - 0.5
    smooth = cv2.remap(
        frame.astype(np.float32),
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        None,
        cv2.BORDER_REPLICATE,
    )
    assert np.abs(warped(frame, placement, size).astype(float) - smooth).max() < 8.0


def test_a_map_goes_back_to_where_it_came_from() -> None:
    """Warped and back, the defect lies where it was drawn; outside the view the map is zero."""
    middle = (141.0, 124.0)
    preprocess = aligned(size=(80, 160))
    for angle in (0, 40, 130, 260):
        frame = part_frame(angle, middle, defect=True)
        placement = preprocess.place(frame)
        anomaly_map = (preprocess(frame)[:, :, 0] > 220).astype(np.float32)
        heat = preprocess.map_to_frame(anomaly_map, frame.shape, placement)
        assert heat.shape == (240, 300)
        rows, columns = np.nonzero(heat > 0.5)
        x, y = defect_place(angle, middle)
        assert (columns.mean() + 0.5, rows.mean() + 0.5) == pytest.approx((x, y), abs=1.0)
        assert heat[:10].max() == 0.0
        assert heat.sum() == pytest.approx(100.0, rel=0.3)  # a defect of 10 by 10


def test_a_coarse_map_covers_the_view_and_nothing_else() -> None:
    placement = Placement(code="aligned", matrix=((2.0, 0.0, 20.0), (0.0, 2.0, 10.0)))
    heat = unwarped(np.ones((4, 8), dtype=np.float32), placement, SIZE, (240, 300))
    assert heat[12:88, 22:178].min() == pytest.approx(1.0)
    assert heat[:8].max() == 0.0
    assert heat[:, 182:].max() == 0.0


def test_a_map_without_its_placement_is_refused() -> None:
    with pytest.raises(FrameError, match="aligned view"):
        aligned().map_to_frame(np.ones(SIZE, np.float32), (240, 300, 3))


def test_a_manifest_keeps_the_alignment_and_has_no_key_without_one() -> None:
    assert Preprocess.from_json(aligned().to_json()) == aligned()
    assert aligned().to_json()["align"] == {"mode": "turn", "height": 80.0, "width": 160.0, "frame": [240, 300]}
    plain = Preprocess(height=8, width=8)
    assert "align" not in plain.to_json()
    assert Preprocess.from_json({**plain.to_json(), "align": None}) == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "spin"}, "'centre' or 'turn'"),
        ({"height": 0.0}, "align height is 0.0, expected pixels of the frame, above 0"),
        ({"width": math.nan}, "align width is nan"),
        ({"frame": (0, 5)}, "rows and columns"),
        ({"frame": (5,)}, "rows and columns"),
    ],
)
def test_a_setting_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(TURN, **change)


@pytest.mark.parametrize("values", [{"mode": "turn"}, {**TURN.to_json(), "x": 1}, "turn", []])
def test_an_unknown_alignment_of_a_manifest_is_refused(values: Any) -> None:
    with pytest.raises(ConfigError, match="align is"):
        Alignment.from_json(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fit": "letterbox"}, "fit is 'letterbox' with an alignment, expected 'stretch'"),
        ({"fit": "tile"}, "fit is 'tile' with an alignment"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest' with an alignment, expected 'area'"),
    ],
)
def test_an_alignment_goes_with_plain_preprocessing_alone(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        aligned(**settings)


def test_a_view_far_outside_the_frame_repeats_its_edge() -> None:
    frame = part_frame(0)
    placement = Placement(code="aligned", matrix=((1.0, 0.0, 1e9), (0.0, 1.0, -1e9)))
    assert (warped(frame, placement, SIZE) == frame[0, -1]).all()
