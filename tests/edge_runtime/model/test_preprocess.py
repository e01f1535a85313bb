"""From a frame to the network's input and back: ranges, channels, geometry, by hand-worked pixels."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, FrameError, MissingExtraError
from edge_runtime.model.preprocess import LETTERBOX_GREY, Preprocess

Frame = NDArray[np.uint8]

GREY_OF_BLUE, GREY_OF_GREEN, GREY_OF_RED = 29, 150, 76
"""255 x 0.114, 0.587 and 0.299: the luma weights of ITU-R BT.601."""


def ramp(*shape: int) -> Frame:
    """Pixels that all differ, as far as a byte goes."""
    return np.arange(np.prod(shape), dtype=np.int64).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_nearly_black_frame_keeps_its_range(channels: Any) -> None:
    frame = np.tile(np.array([[0, 1], [1, 0]], dtype=np.uint8), (8, 8))
    network_input = Preprocess(height=16, width=16, channels=channels)(frame)
    assert network_input.dtype == np.uint8
    np.testing.assert_array_equal(network_input, np.repeat(frame[:, :, None], channels, axis=2))


def test_the_input_is_height_width_channels_and_contiguous() -> None:
    preprocess = Preprocess(height=3, width=5, channels=3)
    network_input = preprocess(np.asfortranarray(ramp(9, 10, 3))[::-1])
    assert network_input.shape == preprocess.input_shape == (3, 5, 3)
    assert network_input.flags.c_contiguous


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("interpolation", ["area", "linear", "nearest"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (3, 20, 3), (1, 1), (1, 300)])
def test_every_setting_gives_the_promised_shape(
    fit: Any, interpolation: Any, channels: Any, shape: tuple[int, ...]
) -> None:
    preprocess = Preprocess(height=6, width=10, channels=channels, fit=fit, interpolation=interpolation)
    network_input = preprocess(np.full(shape, 200, dtype=np.uint8))
    assert network_input.shape == (6, 10, channels)
    assert set(np.unique(network_input)) <= {200, LETTERBOX_GREY}
    assert 200 in network_input


def test_a_colour_frame_becomes_grey_by_luma() -> None:
    frame = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    network_input = Preprocess(height=1, width=4, channels=1)(frame)
    assert network_input[0, :, 0].tolist() == [GREY_OF_BLUE, GREY_OF_GREEN, GREY_OF_RED, 255]


def test_a_grey_frame_becomes_three_equal_channels() -> None:
    network_input = Preprocess(height=4, width=5, channels=3)(ramp(4, 5))
    for channel in range(3):
        np.testing.assert_array_equal(network_input[:, :, channel], ramp(4, 5))


def test_bgr_order_is_kept() -> None:
    np.testing.assert_array_equal(Preprocess(height=4, width=5, channels=3)(ramp(4, 5, 3)), ramp(4, 5, 3))


def test_area_interpolation_averages_when_it_shrinks() -> None:
    frame = np.zeros((4, 8), dtype=np.uint8)
    frame[0, 0] = 160  # a corner that bilinear sampling at 4:1 never looks at
    frame[:, 4:] = 30
    network_input = Preprocess(height=1, width=2, interpolation="area")(frame)
    assert network_input[0, :, 0].tolist() == [10, 30]


def test_area_interpolation_is_bilinear_when_it_enlarges() -> None:
    frame = np.array([[0, 100]], dtype=np.uint8)
    area = Preprocess(height=1, width=4, interpolation="area")(frame)
    assert area[0, :, 0].tolist() == [0, 25, 75, 100]


def test_nearest_interpolation_takes_pixels_of_the_frame() -> None:
    network_input = Preprocess(height=2, width=2, interpolation="nearest")(ramp(4, 4))
    assert network_input[:, :, 0].tolist() == [[0, 2], [8, 10]]


def test_a_letterbox_keeps_the_aspect_ratio_between_grey_bars() -> None:
    network_input = Preprocess(height=8, width=8, fit="letterbox")(np.full((8, 16), 200, dtype=np.uint8))
    assert network_input[:, :, 0].tolist() == [[114] * 8] * 2 + [[200] * 8] * 4 + [[114] * 8] * 2


def test_a_letterbox_has_its_bars_at_the_sides_of_a_tall_frame() -> None:
    frame = np.full((12, 4, 3), (10, 20, 30), dtype=np.uint8)
    network_input = Preprocess(height=6, width=8, channels=3, fit="letterbox")(frame)
    assert (network_input[:, 3:5] == (10, 20, 30)).all()
    assert (network_input[:, :3] == 114).all()
    assert (network_input[:, 5:] == 114).all()


@pytest.mark.parametrize(
    ("frame_shape", "box"),
    [
        ((100, 100), (0, 0, 100, 100)),
        ((50, 100, 3), (25, 0, 50, 100)),
        ((100, 25), (0, 37, 100, 25)),  # 75 columns of bars: 37 left, 38 right
        ((25, 50), (25, 0, 50, 100)),  # enlarged
        ((1, 1000), (49, 0, 1, 100)),  # a tenth of a row is still a row
    ],
)
def test_the_content_box_of_a_letterbox(frame_shape: tuple[int, ...], box: tuple[int, ...]) -> None:
    assert Preprocess(height=100, width=100, fit="letterbox").content_box(frame_shape) == box


def test_the_content_box_of_a_stretched_frame_is_the_whole_input() -> None:
    assert Preprocess(height=10, width=20).content_box((7, 999)) == (0, 0, 10, 20)


def test_the_region_of_interest_is_cut_out_first() -> None:
    frame = ramp(6, 8)
    network_input = Preprocess(height=2, width=3, roi=(4, 1, 3, 2))(frame)
    np.testing.assert_array_equal(network_input[:, :, 0], frame[1:3, 4:7])


def test_the_letterbox_is_fitted_to_the_region_of_interest() -> None:
    frame = np.zeros((20, 20), dtype=np.uint8)
    frame[2:4, 3:7] = 200
    network_input = Preprocess(height=4, width=4, fit="letterbox", roi=(3, 2, 4, 2))(frame)
    assert network_input[:, :, 0].tolist() == [[114] * 4, [200] * 4, [200] * 4, [114] * 4]


@pytest.mark.parametrize("roi", [(4, 0, 3, 2), (0, 3, 2, 2), (6, 0, 1, 1)])
def test_a_region_of_interest_outside_the_frame_is_refused_with_both(roi: tuple[int, int, int, int]) -> None:
    x, y, width, height = roi
    says = (
        rf"region of interest {x},{y},{width},{height} reaches beyond the frame of 6x4 pixels: X\+W may be 6 and "
        r"Y\+H 4 at the most; name another with --roi, or use frames of its size"
    )
    with pytest.raises(FrameError, match=says):
        Preprocess(height=2, width=2, roi=roi)(ramp(4, 6))


def test_a_region_of_interest_may_touch_the_edges_of_the_frame() -> None:
    np.testing.assert_array_equal(Preprocess(height=4, width=6, roi=(0, 0, 6, 4))(ramp(4, 6))[:, :, 0], ramp(4, 6))


def test_a_bgra_frame_is_refused_with_both_shapes() -> None:
    with pytest.raises(
        FrameError,
        match=r"frame is \(4, 5, 4\), expected \(H, W, 3\) uint8 BGR or \(H, W\) uint8 grey; convert BGRA before sc",
    ):
        Preprocess(height=4, width=5, channels=3)(ramp(4, 5, 4))


@pytest.mark.parametrize("shape", [(5,), (4, 5, 2), (2, 4, 5, 3), (0, 5, 3)])
def test_a_frame_of_another_shape_is_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    shown = str(shape).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(FrameError, match=rf"frame is {shown}, expected \(H, W, 3\) uint8 BGR or .*; check the source"):
        Preprocess(height=4, width=5)(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int64])
def test_a_frame_of_another_type_is_refused_and_not_rescaled(dtype: Any) -> None:
    with pytest.raises(FrameError, match=rf"frame is {np.dtype(dtype)}, expected .*; scale it to 0\.\.255 before"):
        Preprocess(height=4, width=5)(np.ones((4, 5), dtype=dtype))


def test_a_frame_that_is_no_array_is_refused() -> None:
    with pytest.raises(FrameError, match="frame is a list, expected a numpy array"):
        Preprocess(height=1, width=1)([[0]])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "preprocess",
    [
        pytest.param(Preprocess(height=20, width=20), id="stretch"),
        pytest.param(Preprocess(height=24, width=20, fit="letterbox"), id="letterbox"),
        pytest.param(Preprocess(height=16, width=16, roi=(40, 10, 32, 32)), id="roi"),
        pytest.param(Preprocess(height=20, width=16, fit="letterbox", roi=(30, 10, 60, 40)), id="roi in a letterbox"),
    ],
)
@pytest.mark.parametrize("map_scale", [1, 2, 4])
def test_a_hot_spot_is_mapped_to_where_it_was_in_the_frame(preprocess: Preprocess, map_scale: int) -> None:
    frame = np.zeros((60, 100), dtype=np.uint8)
    frame[24:32, 56:64] = 255  # centre: row 28, column 60
    heat = preprocess(frame)[:, :, 0].astype(np.float32) / 255.0
    heat[heat == np.float32(LETTERBOX_GREY / 255.0)] = 0.0  # the network reproduces a bar
    height, width = heat.shape
    heat = heat.reshape(height // map_scale, map_scale, width // map_scale, map_scale).mean(axis=(1, 3))
    mapped = preprocess.map_to_frame(heat, frame.shape)
    assert mapped.shape == (60, 100)
    assert mapped.dtype == np.float32
    rows, columns = np.indices(mapped.shape)
    # Within one map pixel, the coarsest of which is 4 x 60/20 = 12 frame rows.
    assert (rows * mapped).sum() / mapped.sum() == pytest.approx(27.5, abs=3.0 * map_scale)
    assert (columns * mapped).sum() / mapped.sum() == pytest.approx(59.5, abs=3.0 * map_scale)
    assert mapped[24:32, 56:64].mean() > 0.5 * mapped.max()


def test_a_map_at_the_size_of_the_frame_is_mapped_to_itself() -> None:
    heat = np.random.default_rng(0).random((8, 6), dtype=np.float32)
    np.testing.assert_array_equal(Preprocess(height=8, width=6).map_to_frame(heat, (8, 6, 3)), heat)


def test_the_map_is_zero_outside_the_region_of_interest() -> None:
    mapped = Preprocess(height=4, width=4, roi=(3, 2, 4, 4)).map_to_frame(np.ones((4, 4), np.float32), (10, 12))
    expected = np.zeros((10, 12))
    expected[2:6, 3:7] = 1.0
    np.testing.assert_array_equal(mapped, expected)


def test_the_bars_of_a_letterbox_are_not_mapped() -> None:
    heat = np.full((8, 8), 9.0, dtype=np.float32)
    heat[2:6] = 1.0
    mapped = Preprocess(height=8, width=8, fit="letterbox").map_to_frame(heat, (10, 20))
    np.testing.assert_array_equal(mapped, np.ones((10, 20)))


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(height=28, width=28),
        Preprocess(height=64, width=96, channels=3, fit="letterbox", interpolation="nearest", roi=(10, 20, 300, 200)),
        Preprocess(height=64, width=96, fit="tile", scale=0.3, overlap=16, self_reference="row_column"),
    ],
)
def test_settings_survive_json(preprocess: Preprocess) -> None:
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_settings_are_stored_as_the_manifest_documents_them() -> None:
    assert Preprocess(height=28, width=32, channels=3, roi=(1, 2, 3, 4)).to_json() == {
        "height": 28,
        "width": 32,
        "channels": 3,
        "fit": "stretch",
        "scale": 1.0,
        "overlap": 0,
        "self_reference": "none",
        "interpolation": "area",
        "roi": [1, 2, 3, 4],
    }


def test_an_unknown_key_is_refused() -> None:
    values = {**Preprocess(height=4, width=4).to_json(), "gamma": 2.2}
    with pytest.raises(
        ConfigError, match=r"preprocess has keys \['channels', 'fit', 'gamma', .*, expected \['align', 'chann"
    ):
        Preprocess.from_json(values)


def test_a_missing_key_is_refused() -> None:
    values = Preprocess(height=4, width=4).to_json()
    del values["fit"]
    with pytest.raises(
        ConfigError, match=r"preprocess has keys \['channels', 'height', .*, expected \['align', 'channels', 'f"
    ):
        Preprocess.from_json(values)


def test_settings_from_before_tiling_are_read_as_what_they_were() -> None:
    values = {"height": 4, "width": 5, "channels": 1, "fit": "letterbox", "interpolation": "area", "roi": None}
    read = Preprocess.from_json(values)
    assert read == Preprocess(height=4, width=5, fit="letterbox")
    assert (read.scale, read.overlap, read.self_reference) == (1.0, 0, "none")


@pytest.mark.parametrize("added", ["scale", "overlap", "self_reference"])
def test_no_key_but_the_added_ones_may_be_missing(added: str) -> None:
    values = Preprocess(height=4, width=4).to_json()
    del values[added]
    assert Preprocess.from_json(values) == Preprocess(height=4, width=4)
    del values["roi"]
    with pytest.raises(ConfigError, match="preprocess has keys"):
        Preprocess.from_json(values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"height": 0}, "network input is 0x4, expected at least 1x1"),
        ({"width": -1}, "network input is 4x-1, expected at least 1x1"),
        ({"channels": 4}, r"channels is 4, expected 1 \(grey\) or 3 \(BGR\)"),
        ({"fit": "crop"}, "fit is 'crop', expected 'stretch', 'letterbox' or 'tile'"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic', expected 'area', 'linear' or 'nearest'"),
        ({"roi": (-1, 0, 5, 5)}, r"roi is \(-1, 0, 5, 5\), expected x, y >= 0 and width, height >= 1 in frame pixels"),
        ({"roi": (0, 0, 0, 5)}, r"roi is \(0, 0, 0, 5\), expected"),
        ({"roi": (0, 0, 5)}, r"roi is \(0, 0, 5\), expected"),
        ({"height": 7.5}, r"7\.5"),
        ({"roi": (0, 0, 2.5, 2)}, r"roi is \(0, 0, 2\.5, 2\), expected"),
        ({"fit": "tile", "scale": 0}, "scale is 0, expected a number above 0"),
        ({"fit": "tile", "scale": -0.5}, "scale is -0.5, expected a number above 0"),
        ({"fit": "tile", "scale": float("nan")}, "scale is nan, expected a number above 0"),
        ({"fit": "tile", "scale": float("inf")}, "scale is inf, expected a number above 0"),
        ({"fit": "tile", "scale": "0.5"}, "scale is 0.5, expected a number above 0"),
        ({"fit": "tile", "overlap": 4}, "overlap is 4, expected whole pixels from 0 to 3, less than the smaller side"),
        ({"fit": "tile", "width": 2, "overlap": 2}, "overlap is 2, expected whole pixels from 0 to 1"),
        ({"fit": "tile", "overlap": -1}, "overlap is -1, expected whole pixels from 0 to 3"),
        ({"fit": "tile", "overlap": 1.5}, "overlap is 1.5, expected whole pixels"),
        ({"scale": 0.5}, r"fit is 'stretch' with scale 0\.5 and overlap 0, which it does not use; set fit to 'tile'"),
        ({"fit": "letterbox", "overlap": 2}, "fit is 'letterbox' with scale 1.0 and overlap 2, which it does not use"),
        ({"self_reference": "median"}, "self_reference is 'median', expected 'none' or 'row_column'"),
        (
            {"self_reference": "row_column", "channels": 3},
            "self_reference is 'row_column' with 3 channels, expected 1: medians are taken of grey; set channels to 1",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocess(**{"height": 4, "width": 4, **settings})


def test_without_opencv_resizing_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r'resizing and colour conversion need cv2: pip install "edge-aae\[cam'):
        Preprocess(height=4, width=4)(ramp(5, 5))


def test_a_grey_frame_of_the_input_size_needs_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    np.testing.assert_array_equal(Preprocess(height=4, width=5)(ramp(4, 5))[:, :, 0], ramp(4, 5))


# Tiles


def tiled(**settings: Any) -> Preprocess:
    return Preprocess(**{"height": 16, "width": 24, "fit": "tile", "overlap": 4, **settings})


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("self_reference", ["none", "row_column"])
def test_without_tiling_a_frame_is_one_tile_the_same_as_the_call(fit: Any, self_reference: Any) -> None:
    preprocess = Preprocess(height=12, width=10, fit=fit, self_reference=self_reference)
    tiles, tiling = preprocess.tiles(ramp(30, 40))
    assert tiles.shape == (1, *preprocess.input_shape)
    assert len(tiling) == 1
    np.testing.assert_array_equal(tiles[0], preprocess(ramp(30, 40)))
    np.testing.assert_array_equal(tiling.assemble(tiles)[:, :, :1], preprocess.scaled(ramp(30, 40)))


def test_a_tiled_frame_has_no_single_input() -> None:
    with pytest.raises(ConfigError, match=r"fit is 'tile': a frame gives several network inputs; call tiles\(frame\)"):
        tiled()(ramp(16, 24))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frame_of_exactly_a_tile_is_its_one_tile(channels: Any) -> None:
    frame = ramp(16, 24, 3) if channels == 3 else ramp(16, 24)
    tiles, tiling = tiled(channels=channels).tiles(frame)
    assert tiling.positions == ((0, 0),)
    np.testing.assert_array_equal(tiles, frame.reshape(1, 16, 24, channels))


@pytest.mark.parametrize("self_reference", ["none", "row_column"])
@pytest.mark.parametrize("shape", [(16, 24), (17, 25), (100, 31, 3), (5, 200), (1, 1), (1, 500), (500, 1), (15, 23, 1)])
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37, 2.0])
def test_tiles_have_the_promised_shape_and_hold_every_pixel(
    self_reference: Any, shape: tuple[int, ...], scale: float
) -> None:
    preprocess = tiled(self_reference=self_reference, scale=scale)
    frame = ramp(*shape)
    tiles, tiling = preprocess.tiles(frame)
    assert tiles.dtype == np.uint8
    assert tiles.flags.c_contiguous
    assert tiles.shape == (len(tiling), *preprocess.input_shape)
    assert tiling == preprocess.tiling(shape)
    scaled = preprocess.scaled(frame)
    assert scaled.shape == (max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale)), 1)
    np.testing.assert_array_equal(tiling.assemble(tiles)[:, :, :1], scaled)


def test_the_frame_is_scaled_by_area_before_it_is_cut() -> None:
    frame = np.zeros((32, 48), dtype=np.uint8)
    frame[0, 0] = 160
    tiles, _ = tiled(scale=0.5).tiles(frame)
    assert tiles.shape == (1, 16, 24, 1)
    assert tiles[0, 0, 0, 0] == 40
    assert tiles.sum() == 40


def test_the_region_of_interest_is_tiled_alone() -> None:
    frame = ramp(60, 90)
    tiles, tiling = tiled(roi=(10, 20, 40, 30)).tiles(frame)
    np.testing.assert_array_equal(tiling.assemble(tiles)[:, :, 0], frame[20:50, 10:50])


def test_a_frame_smaller_than_a_tile_is_reflected_below_and_to_the_right() -> None:
    tiles, _ = tiled(height=5, width=7, overlap=0).tiles(np.array([[10, 20], [30, 40]], dtype=np.uint8))
    first, second = [10, 20, 20, 10, 10, 20, 20], [30, 40, 40, 30, 30, 40, 40]
    assert tiles[0, :, :, 0].tolist() == [first, second, second, first, first]


def test_padding_is_marked_in_the_mask() -> None:
    tiles, tiling = tiled(self_reference="row_column").tiles(ramp(10, 50))
    assert len(tiling) == 3
    for mask in tiles[:, :, :, 3]:
        assert (mask[:10] == 255).all()
        assert (mask[10:] == 0).all()


def test_the_bars_of_a_letterbox_are_neutral_and_marked_in_the_mask() -> None:
    network_input = Preprocess(height=8, width=8, fit="letterbox", self_reference="row_column")(ramp(8, 16))
    assert network_input.shape == (8, 8, 4)
    for bar in (network_input[:2], network_input[6:]):
        assert np.unique(bar.reshape(-1, 4), axis=0).tolist() == [[LETTERBOX_GREY, 128, 128, 0]]
    assert (network_input[2:6, :, 3] == 255).all()


def test_medians_are_the_whole_frame_s_and_not_a_tile_s() -> None:
    frame = np.full((64, 24), 99, dtype=np.uint8)
    frame[:16] = 199  # all of the first tile, a quarter of each column
    tiles, _ = tiled(self_reference="row_column", overlap=0).tiles(frame)
    np.testing.assert_array_equal(tiles, np.concatenate([tiles[:1], np.repeat(tiles[1:2], 3, axis=0)]))
    assert (tiles[0, :, :, 2] == 197).all()  # 128 + 100 log 2
    assert (tiles[1, :, :, 2] == 128).all()


def test_colour_frames_are_converted_to_grey_for_self_reference() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    preprocess = tiled(self_reference="row_column")
    grey = tiled().scaled(frame)[:, :, 0]
    np.testing.assert_array_equal(preprocess.tiles(frame)[0], preprocess.tiles(grey)[0])


def test_input_shape_counts_the_derived_channels() -> None:
    assert tiled().input_shape == (16, 24, 1)
    assert tiled(channels=3).input_shape == (16, 24, 3)
    assert tiled(self_reference="row_column").input_shape == (16, 24, 4)


def test_a_very_large_frame_is_tiled_and_stitched() -> None:
    frame = np.zeros((4000, 6000), dtype=np.uint8)
    frame[3990:, 5990:] = 255
    preprocess = Preprocess(height=256, width=256, fit="tile", scale=0.5, overlap=32, self_reference="row_column")
    tiles, tiling = preprocess.tiles(frame)
    assert tiles.shape == (9 * 14, 256, 256, 4)
    assert tiling.positions[-1] == (2000 - 256, 3000 - 256)
    heat = preprocess.map_to_frame(tiles[:, ::4, ::4, 0].astype(np.float32), frame.shape)
    assert heat.shape == frame.shape
    assert heat[3995, 5995] > 100.0
    assert heat[:3900, :].max() == heat[:, :5900].max() == 0.0


@pytest.mark.parametrize("shape", [(16, 24), (50, 70), (7, 100), (1, 1), (60, 5, 3)])
@pytest.mark.parametrize("roi", [None, (0, 0, 1, 1)])
def test_tiles_mapped_back_give_the_frame_s_own_values(shape: tuple[int, ...], roi: Any) -> None:
    preprocess = tiled(roi=roi)
    frame = ramp(*shape)
    grey = tiled().scaled(frame)[:, :, 0]
    tiles, _ = preprocess.tiles(frame)
    mapped = preprocess.map_to_frame(tiles[:, :, :, 0].astype(np.float32), shape)
    expected = grey.astype(np.float64)
    if roi:
        expected[1:] = expected[:, 1:] = 0.0
    np.testing.assert_allclose(mapped, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("map_scale", [1, 4])
@pytest.mark.parametrize("roi", [None, (20, 10, 70, 45)])
def test_a_hot_spot_in_tiles_is_mapped_to_where_it_was(scale: float, map_scale: int, roi: Any) -> None:
    frame = np.zeros((60, 100), dtype=np.uint8)
    frame[24:32, 56:64] = 255
    preprocess = tiled(scale=scale, roi=roi, overlap=8)
    tiles, _ = preprocess.tiles(frame)
    maps = tiles[:, :, :, 0].astype(np.float32)
    maps = maps.reshape(len(maps), 16 // map_scale, map_scale, 24 // map_scale, map_scale).mean(axis=(2, 4))
    mapped = preprocess.map_to_frame(maps, frame.shape)
    assert mapped.shape == (60, 100)
    rows, columns = np.indices(mapped.shape)
    # Within one map pixel, the coarsest of which is 4 / 0.5 = 8 frame pixels.
    assert (rows * mapped).sum() / mapped.sum() == pytest.approx(27.5, abs=map_scale / scale)
    assert (columns * mapped).sum() / mapped.sum() == pytest.approx(59.5, abs=map_scale / scale)
    assert mapped[24:32, 56:64].mean() > 0.4 * mapped.max()


def test_maps_of_another_number_of_tiles_are_refused() -> None:
    with pytest.raises(FrameError, match=r"2 anomaly maps came for a frame of 16 rows by 24 columns, .* its 1 tiles"):
        tiled().map_to_frame(np.zeros((2, 16, 24), np.float32), (16, 24))


def test_tiles_of_a_grey_frame_need_no_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert len(tiled().tiles(ramp(40, 60))[1]) > 1
