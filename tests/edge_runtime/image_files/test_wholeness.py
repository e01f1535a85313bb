"""Files that were cut, or cut and filled up with zeros, are no images, whatever OpenCV makes of them."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.image_files.wholeness import is_whole, jpeg_end
from edge_runtime.model.images import read_image
from edge_runtime.sources import StdinSource

HOW = {
    "baseline.jpg": [],
    "restarts.jpg": [cv2.IMWRITE_JPEG_RST_INTERVAL, 2],
    "progressive.jpg": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "a.png": [],
    "lossy.webp": [cv2.IMWRITE_WEBP_QUALITY, 90],
    "lossless.webp": [cv2.IMWRITE_WEBP_QUALITY, 101],
}


def encoded(name: str, image: np.ndarray | None = None) -> bytes:
    if image is None:
        image = np.random.default_rng(3).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    done, content = cv2.imencode(Path(name).suffix, image, HOW[name])
    assert done
    return content.tobytes()


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("filled", [False, True])
def test_what_is_cut_is_refused_and_named(tmp_path: Path, name: str, kept: float, filled: bool) -> None:
    content = encoded(name)
    n_kept = int(kept * len(content))
    rest = bytes(len(content) - n_kept) if filled else b""
    (tmp_path / name).write_bytes(content[:n_kept] + rest)
    with pytest.raises(DataError, match=rf"cannot decode .*{name}: it ends before its picture does"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("after", [b"", bytes(500), b"a trailer\xff\xd8\xff\xe0"])
def test_what_is_whole_is_read_whatever_follows(tmp_path: Path, name: str, after: bytes) -> None:
    (tmp_path / name).write_bytes(encoded(name) + after)
    assert read_image(tmp_path / name).shape == (96, 128, 3)


@pytest.mark.parametrize("name", HOW)
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_large_picture_of_one_colour_is_whole(name: str, level: int) -> None:
    assert is_whole(encoded(name, np.full((2000, 3000, 3), level, dtype=np.uint8)))


def with_thumbnail(name: str = "baseline.jpg") -> bytes:
    content, small = encoded(name), encoded("baseline.jpg", np.zeros((16, 16, 3), dtype=np.uint8))
    segment = b"Exif\0\0" + small
    return content[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:]


def test_the_end_of_a_thumbnail_is_not_that_of_the_picture() -> None:
    content = with_thumbnail()
    assert jpeg_end(content) == (len(content), True)
    assert jpeg_end(content + content) == (len(content), True)
    assert jpeg_end(content[: len(content) // 2]) is None
    half = content[: len(content) // 2]
    assert jpeg_end(half + content) == (len(half), False)


@pytest.mark.parametrize("chunk", [1000, 1 << 20])
def test_standard_input_loses_a_cut_frame_alone_and_reads_what_holds_a_thumbnail(chunk: int) -> None:
    frames = [encoded("baseline.jpg"), with_thumbnail(), encoded("progressive.jpg")]
    cut = encoded("baseline.jpg")[:4000]
    stream = frames[0] + cut + frames[1] + cut + frames[2] + cut
    reader, writer = os.pipe()
    source = StdinSource(descriptor=reader)
    shapes: list[tuple[int, ...] | str] = []

    def write() -> None:  # in a thread of its own: the pipe holds less than all of it
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for begin in range(0, len(stream), chunk):
                pipe.write(stream[begin : begin + chunk])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with source:
            while source.grab():
                try:
                    shapes.append(source.retrieve().image.shape)
                except DataError as error:
                    shapes.append(str(error))
    finally:
        thread.join()
        os.close(reader)
    whole = (96, 128, 3)
    said = "cannot decode frame {} of standard input: it ends before its picture does; take or copy it again"
    assert shapes == [whole, said.format(1), whole, said.format(3), whole]
