"""Pictures are turned as their tag says, whatever the format, and everywhere alike."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.image_files.orientation import orientation_of
from edge_runtime.model.images import read_image
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.image_items import load_items
from edge_runtime.scoring.master_parts import master_parts
from edge_runtime.sources import StdinSource, VideoSource, source_from

LOSSLESS = {"webp": {"lossless": True, "exact": True}, "jpg": {"quality": 100, "subsampling": 0}}


def tagged(path: Path, orientation: int, picture: Image.Image | None = None) -> Image.Image:
    """Writes a picture that lies in its file as the tag says; returns it as it is to be seen."""
    if picture is None:
        picture = Image.fromarray(np.arange(6 * 10 * 3, dtype=np.uint8).reshape(6, 10, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(path, exif=exif, **LOSSLESS.get(path.suffix[1:], {}))
    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_tag_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.asarray(tagged(tmp_path / f"a.{suffix}", orientation))[:, :, ::-1]
    frame = read_image(tmp_path / f"a.{suffix}")
    assert frame.shape == upright.shape == ((6, 10, 3) if orientation < 5 else (10, 6, 3))
    np.testing.assert_allclose(frame, upright, atol=2)
    assert frame.flags.c_contiguous


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_16_bit_picture_is_turned_too(tmp_path: Path, suffix: str) -> None:
    levels = (np.arange(60, dtype=np.uint16) * 1000).reshape(6, 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), np.rot90(levels, -1) // 257)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_a_tag_without_a_meaning_turns_nothing(tmp_path: Path, value: int) -> None:
    tagged(tmp_path / "a.jpg", 1)
    content = (tmp_path / "a.jpg").read_bytes()
    forms = [f"{order}HHIH" for order in "<>"]
    form = next(form for form in forms if struct.pack(form, 0x0112, 3, 1, 1) in content)
    changed = content.replace(struct.pack(form, 0x0112, 3, 1, 1), struct.pack(form, 0x0112, 3, 1, value))
    assert changed != content
    assert orientation_of(changed) == 1


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_file_that_is_cut_or_altered_has_an_orientation_and_no_other_exception(tmp_path: Path, suffix: str) -> None:
    tagged(tmp_path / f"a.{suffix}", 6)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    for offset in range(len(content)):
        for changed in (content[:offset], content[:offset] + b"\xff" + content[offset + 1 :]):
            assert 1 <= orientation_of(changed) <= 8


def half_lit(path: Path, orientation: int) -> None:
    """Wide, its left half white, so that the bundle's score depends on how it lies."""
    picture = np.zeros((16, 32, 3), dtype=np.uint8)
    picture[:, :16] = 255
    tagged(path, orientation, Image.fromarray(picture))


def test_one_file_has_one_score_whoever_reads_it(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    folder.mkdir()
    half_lit(folder / "a.jpg", 6)
    detector = Detector.load(bundle)
    with source_from(None, str(folder)) as source:
        assert source.grab()
        by_source = source.retrieve().image
    with (folder / "a.jpg").open("rb") as stream, StdinSource(descriptor=stream.fileno()) as pipe:
        assert pipe.grab()
        by_pipe = pipe.retrieve().image
    (item,) = load_items([folder], bundle)
    (part,) = master_parts(tmp_path)
    frames = [by_source, by_pipe, item.load(), part.load(), read_image(folder / "a.jpg")]
    assert {frame.shape for frame in frames} == {(32, 16, 3)}
    scores = {detector.score(frame).score for frame in frames}
    assert scores == {detector.score(folder / "a.jpg").score} == {detector.score(str(folder / "a.jpg")).score}
    half_lit(folder / "a.jpg", 1)
    assert scores != {detector.score(folder / "a.jpg").score}


def test_a_turned_video_is_turned_as_opencv_does(tmp_path: Path) -> None:
    import cv2

    file = tmp_path / "a.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, (64, 32))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no MPEG-4")
    picture = np.zeros((32, 64, 3), dtype=np.uint8)
    picture[:, :32] = 255
    for _ in range(3):
        writer.write(picture)
    writer.release()
    content = file.read_bytes()
    matrix = content.index(b"tkhd") + 4 + 40
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 32 << 16, 0, 1 << 30)  # by 90 degrees, clockwise
    file.write_bytes(content[:matrix] + turned + content[matrix + 36 :])
    with VideoSource(file) as source:
        assert source.grab()
        frame = source.retrieve().image
    assert frame.shape == (64, 32, 3)
    assert frame[:24].mean() > 200 > 50 > frame[40:].mean()
