"""Image files: found in natural order, read as the frames a camera would give, or refused with the reason."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.image_files.image_size import image_size
from edge_runtime.model.images import (
    MOST_PIXELS,
    as_frame,
    check_pixels,
    is_image,
    limit_pixels,
    list_images,
    read_image,
    write_image,
)


def noise(*shape: int, dtype: type[np.unsignedinteger] = np.uint8) -> NDArray[np.unsignedinteger]:
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encoded(suffix: str, image: NDArray[np.unsignedinteger]) -> bytes:
    done, content = cv2.imencode(suffix, image)
    assert done
    return content.tobytes()


def ramp(*shape: int) -> NDArray[np.uint8]:
    """Pixels that all differ, as far as a byte goes."""
    return np.arange(np.prod(shape), dtype=np.int64).astype(np.uint8).reshape(shape)


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 3)])
def test_an_8_bit_image_is_a_frame_as_it_is(shape: tuple[int, ...]) -> None:
    frame = as_frame(ramp(*shape))
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, ramp(*shape))


def test_an_image_with_one_channel_is_a_grey_frame() -> None:
    np.testing.assert_array_equal(as_frame(ramp(4, 5, 1)), ramp(4, 5))


def test_16_bit_images_are_scaled_by_their_type_and_not_by_what_they_hold() -> None:
    image = np.array([[0, 256, 257, 4095], [32768, 65278, 65279, 65535]], dtype=np.uint16)
    frame = as_frame(image)
    assert frame.dtype == np.uint8
    assert frame.tolist() == [[0, 0, 1, 15], [127, 254, 254, 255]]


def test_alpha_is_dropped_from_an_image() -> None:
    image = ramp(4, 5, 4)
    frame = as_frame(image)
    np.testing.assert_array_equal(frame, image[:, :, :3])
    assert frame.flags.c_contiguous


def test_16_bit_bgra_becomes_8_bit_bgr() -> None:
    image = np.array([[[257, 514, 65535, 7]]], dtype=np.uint16)
    assert as_frame(image).tolist() == [[[1, 2, 255]]]


@pytest.mark.parametrize("shape", [(5,), (4, 5, 2), (4, 5, 5), (1, 4, 5, 3), (0, 5), (4, 0, 3)])
def test_an_image_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match=r"image is \(.*\), expected \(H, W\), \(H, W, 3\) BGR or \(H, W, 4\) BGRA"):
        as_frame(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.bool_])
def test_an_image_of_another_type_is_refused(dtype: Any) -> None:
    with pytest.raises(FrameError, match=rf"image is {np.dtype(dtype)}, expected uint8 or uint16; convert it"):
        as_frame(np.zeros((4, 5), dtype=dtype))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.bmp", "a.tif", "a.tiff", "a.webp", "A.PNG"])
def test_the_suffix_says_image(name: str) -> None:
    assert is_image(Path(name))


@pytest.mark.parametrize("name", ["a.avi", "a.npz", "png", "a.png.txt", ".png"])
def test_other_suffixes_are_no_images(name: str) -> None:
    assert not is_image(Path(name))


def test_images_are_listed_in_natural_order_at_any_depth(tmp_path: Path) -> None:
    names = ["1.png", "2.png", "10.png", "good/img2.JPG", "good/img10.jpg", "good/deep/1.bmp", "a9b2.tif", "a9b10.tif"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
    assert found == [
        "1.png",
        "2.png",
        "10.png",
        "a9b2.tif",
        "a9b10.tif",
        "good/deep/1.bmp",
        "good/img2.JPG",
        "good/img10.jpg",
    ]


def test_hidden_files_folders_and_other_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".thumbs").mkdir()
    (tmp_path / "folder.png").mkdir()
    for name in ("a.png", ".a.png", ".thumbs/b.png", "notes.txt", "video.avi"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a.png"]


def test_a_folder_below_a_hidden_folder_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "images"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    assert list_images(folder) == [folder / "a.png"]


def test_a_name_with_a_superscript_digit_is_listed(tmp_path: Path) -> None:
    for name in ("3²4.png", "5m².png", "12.png"):
        (tmp_path / name).touch()
    assert {path.name for path in list_images(tmp_path)} == {"3²4.png", "5m².png", "12.png"}


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3)])
def test_a_written_image_is_read_back_exactly(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    path = tmp_path / "out" / f"a{suffix}"
    write_image(path, noise(*shape))
    frame = read_image(path)
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, noise(*shape))


def test_a_jpeg_is_read_as_bgr(tmp_path: Path) -> None:
    blue = np.full((16, 16, 3), (250, 10, 10), dtype=np.uint8)
    write_image(tmp_path / "a.jpg", blue)
    np.testing.assert_allclose(read_image(tmp_path / "a.jpg").mean(axis=(0, 1)), (250, 10, 10), atol=3)


def test_alpha_is_dropped(tmp_path: Path) -> None:
    image = noise(7, 9, 4)
    (tmp_path / "a.png").write_bytes(encoded(".png", image))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image[:, :, :3])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("shape", [(7, 9), (7, 9, 3)])
def test_16_bit_images_are_scaled_by_their_type(tmp_path: Path, suffix: str, shape: tuple[int, ...]) -> None:
    image = noise(*shape, dtype=np.uint16)
    image.flat[:2] = 4095, 65535
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(suffix, image))
    frame = read_image(path)
    assert frame.dtype == np.uint8
    assert frame.flat[:2].tolist() == [15, 255]
    np.testing.assert_array_equal(frame, image // 257)


def test_the_first_page_of_a_tiff_is_read(tmp_path: Path) -> None:
    pages = [np.full((4, 4), value, dtype=np.uint8) for value in (10, 20)]
    done, content = cv2.imencodemulti(".tif", pages)
    assert done
    content.tofile(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), pages[0])


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.png: No such file or directory"):
        read_image(tmp_path / "gone.png")


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*: Is a directory"):
        read_image(tmp_path)


def test_an_empty_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"a\.png is empty"):
        read_image(tmp_path / "a.png")


def test_a_text_named_png_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("not an image")
    with pytest.raises(DataError, match=r"cannot decode .*a\.png: not a PNG, JPEG, WebP, BMP or TIFF image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_torn_image_is_refused_and_not_filled_up(tmp_path: Path, suffix: str, kept: float) -> None:
    content = encoded(suffix, noise(64, 64, 3))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=rf"cannot decode .*a\{suffix}"):
        read_image(path)


def test_a_float_image_is_refused_with_its_type(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(cv2.imencode(".tif", np.ones((4, 4), np.float32))[1].tobytes())
    with pytest.raises(DataError, match=r"a\.tif: image is float32, expected uint8 or uint16"):
        read_image(tmp_path / "a.tif")


def test_a_suffix_that_names_no_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot encode .*a\.xyz"):
        write_image(tmp_path / "a.xyz", np.zeros((4, 4), np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
@pytest.mark.parametrize("shape", [(4, 5), (300, 17, 3), (2, 700, 4)])
def test_the_size_in_a_header_is_that_of_the_image(suffix: str, shape: tuple[int, ...]) -> None:
    image = ramp(*shape[:2], 3) if suffix in (".jpg", ".bmp") and len(shape) == 3 else ramp(*shape)
    assert image_size(encoded(suffix, image)) == shape[:2]


def test_the_size_of_a_lossless_and_of_a_progressive_image_is_read() -> None:
    for suffix, how in ((".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])):
        done, content = cv2.imencode(suffix, ramp(30, 50, 3), how)
        assert done
        assert image_size(content.tobytes()) == (30, 50)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_a_header_that_is_cut_or_altered_gives_a_size_or_none_and_no_other_exception(suffix: str) -> None:
    content = encoded(suffix, ramp(4, 5, 3))
    for offset in range(min(len(content), 600)):
        for changed in (content[:offset], content[:offset] + b"\xff" + content[offset + 1 :]):
            size = image_size(changed)
            assert size is None or min(size) >= 0


def png_of(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and is one pixel."""
    content = bytearray(encoded(".png", ramp(1, 1)))
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def bomb(suffix: str) -> bytes:
    """20,000 x 20,000 pixels of one colour."""
    content = bytearray(encoded(suffix, ramp(1, 1)))
    if suffix == ".png":
        return png_of(20_000, 20_000)
    if suffix == ".bmp":
        content[18:26] = struct.pack("<ii", 20_000, -20_000)
    elif suffix == ".jpg":
        frame = content.index(b"\xff\xc0")
        content[frame + 5 : frame + 9] = struct.pack(">HH", 20_000, 20_000)
    else:
        for tag in (256, 257):
            entry = content.index(struct.pack("<HH", tag, 3))
            content[entry + 8 : entry + 10] = struct.pack("<H", 20_000)
    return bytes(content)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"bomb{suffix}"
    file.write_bytes(bomb(suffix))
    monkeypatch.setattr("cv2.imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="is 20000x20000, 400 megapixels, more than 100; --max-pixels takes larger"):
        read_image(file)


def test_the_limit_of_pixels_can_be_set(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(encoded(".png", ramp(4, 5)))
    try:
        limit_pixels(19)
        with pytest.raises(DataError, match="is 5x4"):
            read_image(file)
        limit_pixels(20)
        assert read_image(file).shape == (4, 5)
        with pytest.raises(ConfigError, match="--max-pixels is 0, expected 1 or more"):
            limit_pixels(0)
    finally:
        limit_pixels(MOST_PIXELS)


def test_a_file_that_is_larger_than_an_image_can_be_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    with file.open("wb") as stream:
        stream.truncate(16 * MOST_PIXELS + 1)  # takes no room on the disk
    with pytest.raises(
        DataError, match=r"x.png, 1,600 MB, is larger than an image of 100 megapixels can be; --max-pix"
    ):
        read_image(file)


def test_a_format_whose_size_is_not_read_is_not_decoded(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(encoded(".ppm", ramp(4, 5, 3)))
    with pytest.raises(DataError, match="not a PNG, JPEG, WebP, BMP or TIFF image, or damaged"):
        read_image(file)


def test_a_size_is_checked_wherever_an_image_comes_from() -> None:
    check_pixels(10_000, 10_000, called="frame 3")
    limit_pixels(1000)
    try:
        with pytest.raises(
            DataError, match=r"frame 3 is 50x40, 0\.002 megapixels, more than 0\.001; --max-pixels takes"
        ):
            check_pixels(40, 50, called="frame 3")
    finally:
        limit_pixels(MOST_PIXELS)
    with pytest.raises(DataError, match="frame 3 is 10001x10000, 100 megapixels, more than 100"):
        check_pixels(10_000, 10_001, called="frame 3")
