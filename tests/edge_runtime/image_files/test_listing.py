"""Folders: links followed without loops, and pictures that are not read named."""

from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import DataError, SourceError
from edge_runtime.image_files import listing
from edge_runtime.image_files.listing import image_files, list_images, unread_pictures
from edge_runtime.model.images import read_image
from edge_runtime.scoring.image_items import load_items
from edge_runtime.sources import source_from


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names_in(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder)]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    touched(tmp_path, "photos/a.png", "elsewhere/b.png", "elsewhere/deep/c.png", "elsewhere/.hidden/d.png")
    (tmp_path / "photos/more").symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path / "photos") == ["a.png", "more/b.png", "more/deep/c.png"]


def test_a_link_in_a_circle_ends_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touched(tmp_path, "photos/a.png", "photos/in/b.png", "other.png")
    for name, target in (("round", "photos/in"), ("self", "photos"), ("above", ".")):
        (tmp_path / "photos/in" / name).symlink_to(tmp_path / target)
    (tmp_path / "photos/broken.png").symlink_to(tmp_path / "nowhere")
    assert names_in(tmp_path / "photos") == ["a.png", "in/b.png"]
    assert [record.getMessage().split(" leads to ")[0] for record in caplog.records] == [
        str(tmp_path / "photos/in" / name) for name in ("above", "round", "self")
    ]


def test_a_folder_that_two_links_lead_to_is_read_once_where_it_lies(tmp_path: Path) -> None:
    touched(tmp_path, "photos/z/b.png", "elsewhere/c.png")
    (tmp_path / "photos/a").symlink_to(tmp_path / "photos/z")
    for name in ("one", "two"):
        (tmp_path / "photos" / name).symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path / "photos") == ["one/c.png", "z/b.png"]


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "reads_heif", lambda: False)


def test_what_is_not_read_is_counted_with_a_remedy(
    tmp_path: Path, without_heif: None, caplog: pytest.LogCaptureFixture
) -> None:
    touched(tmp_path, "a.png", *(f"{number}.HEIC" for number in range(10)), "deep/x.gif", "notes.txt", ".b.gif")
    with caplog.at_level(logging.WARNING):
        assert image_files(tmp_path) == [tmp_path / "a.png"]
    (record,) = caplog.records
    assert record.getMessage() == (
        f'{tmp_path}: ignored: 1 .GIF, 10 .HEIC; pip install "edge-aae[heic]" reads HEIC, or convert with '
        "ImageMagick: magick mogrify -format png FILES"
    )
    (tmp_path / "deep/x.gif").unlink()
    for number in range(10):
        (tmp_path / f"{number}.HEIC").unlink()
    assert unread_pictures(tmp_path) == ""


def test_a_folder_of_nothing_else_says_so_wherever_it_is_named(
    tmp_path: Path, without_heif: None, bundle: Bundle
) -> None:
    touched(tmp_path, "1.heic", "2.heif")
    for read in (image_files, lambda path: load_items([path], bundle)):
        with pytest.raises(DataError, match=r"holds no PNG, JPEG, .* at any depth; ignored: 1 \.HEIC, 1 \.HEIF; pip"):
            read(tmp_path)
    with pytest.raises(SourceError, match=r"holds no PNG, .*; ignored: 1 \.HEIC, 1 \.HEIF; pip install"):
        source_from(None, str(tmp_path)).open()


def test_webp_is_listed_and_read(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.webp"), picture, [cv2.IMWRITE_WEBP_QUALITY, 101])
    (file,) = list_images(tmp_path)
    np.testing.assert_array_equal(read_image(file), picture)
