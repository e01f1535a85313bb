"""Areas with their units, pixels and millimetres."""

from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, Area, DefectSize, mm_per_pixel_from


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12px", 12.0, "px"),
        ("0.5mm2", 0.5, "mm2"),
        (" 1e3 px ", 1000.0, "px"),
        ("2 mm²", 2.0, "mm2"),
        ("0px", 0.0, "px"),
    ],
)
def test_an_area_is_a_number_with_its_unit(text: str, value: float, unit: str) -> None:
    found = Area.parse(text)
    assert (found.value, found.unit) == (value, unit)
    assert Area.parse(str(found)) == found


@pytest.mark.parametrize("text", ["12", "", "px", "-1px", "nanpx", "1e999mm2", "5cm2", "1,5mm2", "1-2px", "5 mm"])
def test_what_is_no_area_is_refused_with_the_units(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a number with its unit, px or mm2, such as 12px or 0\.5mm2"):
        Area.parse(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e-9"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"mm a pixel, expected 1e-06 to 1e\+06, such as 0\.05"):
        mm_per_pixel_from(text)


def test_pixels_and_square_millimetres_follow_from_each_other() -> None:
    size = DefectSize(mm_per_pixel=0.05, min_area=Area.parse("0.5mm2"))
    assert size.least_px == pytest.approx(200.0)
    assert size.area_mm2(200) == pytest.approx(0.5)
    assert DefectSize(mm_per_pixel=0.05, min_area=Area.parse("12px")).least_px == 12.0
    assert DefectSize(min_area=Area.parse("12px")).area_mm2(12) is None


def test_square_millimetres_without_a_scale_are_refused_with_the_remedy() -> None:
    size = DefectSize(min_area=Area.parse("0.5mm2"))
    with pytest.raises(ConfigError, match=r"0\.5mm2 needs to know how large a pixel is; give --mm-per-pixel too"):
        _ = size.least_px


def test_nothing_is_too_small_where_nothing_is_asked_and_at_zero() -> None:
    assert MEASURED_IN_PIXELS.least_px is None
    assert DefectSize(min_area=Area.parse("0mm2")).least_px is None
    assert (bool(MEASURED_IN_PIXELS), bool(DefectSize(mm_per_pixel=1.0))) == (False, True)


def test_each_part_that_is_left_open_is_another_s() -> None:
    asked, kept = DefectSize(min_area=Area.parse("0px")), DefectSize(mm_per_pixel=0.1, min_area=Area.parse("9px"))
    assert asked.or_else(kept) == DefectSize(mm_per_pixel=0.1, min_area=Area.parse("0px"))
    assert MEASURED_IN_PIXELS.or_else(kept) == kept


def test_what_is_written_is_read_back_and_nothing_is_open() -> None:
    size = DefectSize(mm_per_pixel=0.05, min_area=Area.parse("0.25mm2"))
    assert size.to_json() == {"mm_per_pixel": 0.05, "min_area": "0.25mm2"}
    assert DefectSize.from_json(size.to_json()) == size
    assert DefectSize.from_json(None) == DefectSize.from_json({}) == MEASURED_IN_PIXELS
    assert str(size) == "0.05 mm a pixel, regions from 0.25mm2 on"
