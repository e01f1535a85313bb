from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import train.data.folder
import train.data.image_store
from edge_runtime.errors import ConfigError, DataError
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet

UINT16_PER_GREY = 257


def write(path: Path, image: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def grey(value: int, height: int = 40, width: int = 40) -> NDArray[np.uint8]:
    return np.full((height, width), value, dtype=np.uint8)


def coloured(height: int = 40, width: int = 40) -> NDArray[np.uint8]:
    return np.full((height, width, 3), (200, 100, 50), dtype=np.uint8)


def load(path: Path, **settings: Any) -> TrainingSet:
    return load_training_set(DataSettings(path=str(path), **settings), "conv")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Ten grey 40x40 images of values 10, 20, ... 100."""
    folder = tmp_path / "photos"
    for index in range(1, 11):
        write(folder / f"{index}.png", grey(10 * index))
    return folder


def test_a_folder_of_mixed_formats_depths_and_channels_loads(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    bgra = np.dstack((coloured(), grey(7)))
    write(folder / "a.png", grey(40))
    write(folder / "b.jpg", grey(60))
    write(folder / "c.bmp", coloured())
    write(folder / "d.tif", grey(80).astype(np.uint16) * UINT16_PER_GREY)
    write(folder / "deep/e.PNG", bgra)
    write(folder / "deep/er/f.tiff", coloured().astype(np.uint16) * UINT16_PER_GREY)
    write(folder / "deep/er/g.png", bgra.astype(np.uint16) * UINT16_PER_GREY)
    write(folder / "h.jpeg", coloured())
    data = load(folder, imgsz=(32, 32))
    assert data.images.shape == (8, 32, 32, 3)
    assert data.images.dtype == np.uint8
    assert sorted(data.names) == [
        *("a.png", "b.jpg", "c.bmp", "d.tif"),
        *("deep/e.PNG", "deep/er/f.tiff", "deep/er/g.png", "h.jpeg"),
    ]
    assert not data.bad
    assert data.labels is None
    lossy = 3
    for name, image in zip(data.names, data.images, strict=True):
        grey_value = {"a.png": 40, "b.jpg": 60, "d.tif": 80}.get(name)
        expected = (200, 100, 50) if grey_value is None else (grey_value,) * 3
        np.testing.assert_allclose(image.reshape(-1, 3), np.full((1024, 3), expected), atol=lossy, err_msg=name)


def test_photographs_become_128x128_where_no_size_is_named(photos: Path) -> None:
    assert load(photos).images.shape == (10, 128, 128, 1)


def test_names_are_in_natural_order_and_go_with_their_images(photos: Path) -> None:
    data = load(photos, imgsz=(32, 32))
    assert data.names == [f"{index}.png" for index in range(1, 11)]
    assert data.images[:, 0, 0, 0].tolist() == [10 * index for index in range(1, 11)]


def test_a_file_name_with_a_raised_two_between_digits_loads(photos: Path) -> None:
    (photos / "3.png").rename(photos / "10²5.png")
    assert len(load(photos).images) == 10


def test_hidden_files_and_other_files_are_left_out(photos: Path) -> None:
    write(photos / ".thumbnails/1.png", grey(1))
    write(photos / ".2.png", grey(1))
    (photos / "notes.txt").write_text("no image")
    data = load(photos)
    assert len(data.images) == 10
    assert not data.bad


def test_channels_are_one_where_every_image_is_grey_even_in_colour_files(photos: Path) -> None:
    write(photos / "11.png", np.dstack([grey(110)] * 3))
    assert load(photos).preprocess.channels == 1


def test_channels_are_three_where_one_image_is_coloured(photos: Path) -> None:
    write(photos / "11.png", coloured())
    assert load(photos).preprocess.channels == 3


def test_named_channels_win_over_the_images(photos: Path) -> None:
    write(photos / "11.png", coloured())
    assert load(photos, channels=1).images.shape[3] == 1
    (photos / "11.png").unlink()
    assert load(photos, channels=3).images.shape[3] == 3


def test_images_of_one_aspect_ratio_are_stretched(tmp_path: Path) -> None:
    write(tmp_path / "photos/1.png", grey(10, 40, 60))
    write(tmp_path / "photos/2.png", grey(20, 81, 120))
    data = load(tmp_path / "photos")
    assert data.preprocess.fit == "stretch"
    assert (data.images[0] == 10).all()


def test_images_of_several_aspect_ratios_are_letterboxed(tmp_path: Path) -> None:
    write(tmp_path / "photos/1.png", grey(10, 40, 60))
    write(tmp_path / "photos/2.png", grey(20, 60, 40))
    data = load(tmp_path / "photos", imgsz=(48, 48))
    assert data.preprocess.fit == "letterbox"
    # 40x60 in 48x48: 32 rows between bars of 8.
    assert data.images[0, :, 24, 0].tolist() == [114] * 8 + [10] * 32 + [114] * 8


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_a_named_fit_wins_over_the_images(photos: Path, fit: Any) -> None:
    write(photos / "11.png", grey(110, 40, 80))
    assert load(photos, fit=fit).preprocess.fit == fit


def test_the_region_of_interest_is_cut_out_first(photos: Path) -> None:
    image = grey(0)
    image[5:25, 10:30] = 250
    write(photos / "1.png", image)
    data = load(photos, roi=(10, 5, 20, 20), imgsz=(32, 32))
    assert (data.images[0] == 250).all()


def test_an_input_size_that_the_network_cannot_take_is_refused(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"--imgsz 100x100: network conv.*try --imgsz 96x96"):
        load(photos, imgsz=(100, 100))


def test_unreadable_and_empty_files_are_skipped_listed_and_counted(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (photos / "3.png").write_bytes(b"")
    (photos / "5.png").write_bytes(b"no image at all")
    (photos / "7.png").write_bytes((photos / "7.png").read_bytes()[:50])
    with caplog.at_level(logging.WARNING, logger="train.data.folder"):
        data = load(photos, max_bad=0.3)
    assert data.names == [f"{index}.png" for index in (1, 2, 4, 6, 8, 9, 10)]
    assert data.images[:, 0, 0, 0].tolist() == [10, 20, 40, 60, 80, 90, 100]
    assert [name for name, _ in data.bad] == ["3.png", "5.png", "7.png"]
    reasons = dict(data.bad)
    assert reasons["3.png"].endswith("3.png is empty")
    assert "5.png: not a PNG, JPEG, WebP, BMP or TIFF image, or damaged" in reasons["5.png"]
    assert "skipped 3 of 10 images" in caplog.messages


def test_more_unreadable_files_than_allowed_are_refused_with_counts(photos: Path) -> None:
    for index in (3, 5, 7, 9):
        (photos / f"{index}.png").write_bytes(b"")
    with pytest.raises(
        DataError,
        match=r"4 of 10 images in .*photos cannot be used \(40\.0%, --max-bad allows 39\.0%\): "
        r".*3\.png is empty; .*5\.png is empty; .*7\.png is empty; \.\.\.$",
    ):
        load(photos, max_bad=0.39)
    assert len(load(photos, max_bad=0.4).images) == 6


def test_by_default_one_image_in_a_hundred_may_be_unreadable(tmp_path: Path) -> None:
    for index in range(99):
        write(tmp_path / f"photos/{index}.bmp", grey(index, 16, 16))
    (tmp_path / "photos/99.bmp").write_bytes(b"")
    assert len(load(tmp_path / "photos", imgsz=(16, 16)).images) == 99
    (tmp_path / "photos/0.bmp").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 100 images in .* \(2\.0%, --max-bad allows 1\.0%\)"):
        load(tmp_path / "photos", imgsz=(16, 16))


def test_one_of_few_images_may_be_unreadable_and_is_named(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    (photos / "3.png").write_bytes(b"")
    assert len(load(photos).images) == 9
    assert [message for message in caplog.messages if "3.png is empty" in message]
    with pytest.raises(DataError, match=r"1 of 10 images in .* \(10\.0%, --max-bad allows 0\.0%\)"):
        load(photos, max_bad=0.0)
    (photos / "5.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of 10 images in .* \(20\.0%, --max-bad allows 1\.0%\)"):
        load(photos)


def test_images_of_floats_are_listed_as_bad(photos: Path) -> None:
    write(photos / "11.tif", grey(110).astype(np.float32) / 255)
    data = load(photos, max_bad=0.5)
    assert [name for name, _ in data.bad] == ["11.tif"]
    assert "image is float32, expected uint8 or uint16" in data.bad[0][1]


def test_images_below_the_network_s_smallest_side_are_listed_with_both_sizes(photos: Path) -> None:
    write(photos / "4.png", grey(40, 15, 40))
    data = load(photos, max_bad=0.5)
    assert [name for name, _ in data.bad] == ["4.png"]
    assert data.bad[0][1].endswith("4.png is 15x40, the network needs images of at least 16x16")


def test_a_folder_of_images_that_are_all_too_small_is_refused(tmp_path: Path) -> None:
    for index in range(3):
        write(tmp_path / f"photos/{index}.png", grey(9, 8, 8))
    with pytest.raises(DataError, match=r"3 of 3 images .* cannot be used.*0\.png is 8x8, the network needs"):
        load(tmp_path / "photos", max_bad=1.0)


def test_images_that_the_region_of_interest_leaves_are_listed(photos: Path) -> None:
    write(photos / "4.png", grey(40, 20, 20))
    data = load(photos, roi=(0, 0, 30, 30), max_bad=0.5)
    assert [name for name, _ in data.bad] == ["4.png"]
    assert "region of interest 0,0,30,30 reaches beyond the frame of 20x20 pixels" in data.bad[0][1]


def test_a_folder_without_one_readable_image_is_refused_with_the_first_reason(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for index in range(2):
        (tmp_path / f"photos/{index}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 2 images in .*photos can be read; the first: .*0\.png is empty"):
        load(tmp_path / "photos", max_bad=1.0)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no PNG, JPEG, WebP, BMP or TIFF image, at any depth"):
        load(tmp_path)


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data at .*nowhere; expected a folder of images, a video, an IDX folder"):
        load(tmp_path / "nowhere")


def test_a_single_image_file_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png is a single file; expected a folder of images"):
        load(photos / "1.png")


def test_classes_on_a_plain_folder_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match=r"--classes and --contaminate need labels; .*photos is a folder of images"):
        load(photos, classes=(0,))


def test_a_few_unprocessed_frames_are_kept(photos: Path) -> None:
    write(photos / "1.png", grey(10, 50, 40))
    data = load(photos, imgsz=(32, 32))
    assert [int(frame[0, 0]) for frame in data.raw_frames] == [10, 40, 70, 100]
    assert data.raw_frames[0].shape == (50, 40)


def test_frames_of_more_than_two_megabytes_are_not_kept(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.data.folder, "RAW_SAMPLE_BYTES", 40 * 40)
    write(photos / "1.png", grey(10, 41, 40))
    assert [int(frame[0, 0]) for frame in load(photos).raw_frames] == [40, 70, 100]


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="free memory is read from /proc/meminfo")
def test_images_that_do_not_fit_the_memory_are_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.data.image_store, "MEMORY_SHARE", 1e-9)
    with pytest.raises(DataError, match=r"10 images of \(128, 128, 1\) need 0\.0 GiB, .* free; use --cache disk"):
        load(photos, cache="memory")
    assert isinstance(load(photos).store, train.data.image_store.DiskStore)
