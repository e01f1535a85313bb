"""A page's pieces: what is not ours to trust stands in them as text, and pictures as a person sees them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.scoring.heatmap import HeatScale
from train.pages.page import as_text, facts, picture, pictures_with_map, section, sheet, table, write_page

HOSTILE = '<script>alert("1")</script>'


def images_in(element: str) -> list[np.ndarray]:
    encoded = re.findall(r"data:image/png;base64,([^\"]+)", element)
    decoded = [cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR) for one in encoded]
    return [image for image in decoded if image is not None]


def test_names_and_cells_are_text() -> None:
    assert as_text("caf\udce9 & <b>") == "caf? &amp; &lt;b&gt;"
    grey = np.full((4, 4, 1), 99, np.uint8)
    for element in (
        section(HOSTILE, ""),
        facts([(HOSTILE, HOSTILE)]),
        table([HOSTILE, ""], [[HOSTILE, HOSTILE]]),
        sheet([picture(grey, HOSTILE)]),
    ):
        assert "<script" not in element
        assert "&lt;script&gt;alert(&quot;1&quot;)" in element


def test_a_table_without_names_of_columns_has_no_header() -> None:
    assert facts([("input", "8x8x1")]).endswith("><tr><th scope='row'>input</th><td>8x8x1</td></tr></table>")
    assert table(["a", "b"], []) == "<table><tr><th>a</th><th>b</th></tr></table>"


def test_a_picture_is_a_square_tile_without_a_caption_line_of_its_own() -> None:
    (shown,) = images_in(picture(np.full((4, 8, 1), 99, np.uint8), "0.50"))
    assert shown.shape[0] == shown.shape[1]
    assert (shown[shown.shape[0] // 2] == 99).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_an_image_is_shown_with_its_reconstruction_where_there_is_one_and_under_its_map(channels: int) -> None:
    image = np.full((8, 8, channels), 100, np.uint8)
    heat = np.zeros((4, 4), np.float32)
    plain = pictures_with_map(image, "0.50", None, heat, HeatScale())
    assert [re.findall('alt="([^"]*)', one) for one in plain] == [["0.50"], ["map"]]
    whole = pictures_with_map(image, "0.50", np.full((channels, 8, 8), 1.5, np.float32), heat, HeatScale())
    assert [re.findall('alt="([^"]*)', one) for one in whole] == [["0.50"], ["decoded"], ["map"]]
    (decoded,) = images_in(whole[1])
    middle = decoded.shape[0] // 2
    assert (decoded[middle, middle] == 255).all()  # clipped to [0, 1]


def test_a_page_fetches_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "made" / "page.html"
    write_page(path, "a < b", [section("One", "1"), section("Two", "2")])
    page = path.read_text()
    assert "default-src 'none'" in page
    assert page.count("a &lt; b") == 2
    assert page.index("<h2>One</h2>") < page.index("<h2>Two</h2>")
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
