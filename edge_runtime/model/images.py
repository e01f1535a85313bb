"""Images as the frames that a camera would give: decoded ones, and files found, read and written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.extras import require
from edge_runtime.files import write_file
from edge_runtime.image_files.heif import HeifPicture, is_heif
from edge_runtime.image_files.image_size import image_size
from edge_runtime.image_files.levels import Levels, to_8_bit
from edge_runtime.image_files.listing import FORMATS, image_files, is_image, list_images, natural_order
from edge_runtime.image_files.orientation import orientation_of, upright
from edge_runtime.image_files.wholeness import is_whole
from edge_runtime.model.preprocess import Frame

__all__ = [
    "FORMATS",
    "MOST_PIXELS",
    "as_frame",
    "check_pixels",
    "decoded",
    "image_files",
    "is_image",
    "limit_pixels",
    "list_images",
    "natural_order",
    "read_bytes",
    "read_image",
    "write_image",
]

MOST_PIXELS = 100_000_000
"""Of an image that is decoded, unless limit_pixels says otherwise: 300 MB in colour, three times the largest industrial
cameras'. A file of one megabyte can hold four times as many."""

MOST_BYTES_A_PIXEL = 16
"""Of a file: twice what four channels of 16 bits take, for what lies around them."""

_most_pixels = MOST_PIXELS


def limit_pixels(most: int) -> None:
    """Refuse to decode larger images from here on, in this process. Raises ConfigError below 1."""
    global _most_pixels
    if most < 1:
        raise ConfigError(f"--max-pixels is {most}, expected 1 or more")
    _most_pixels = most


def check_pixels(height: int, width: int, *, called: str) -> None:
    """Raise DataError where an image is larger than is decoded; called: what the message calls it."""
    if height * width > _most_pixels:
        raise DataError(
            f"{called} is {width}x{height}, {height * width / 1e6:,.4g} megapixels, more than "
            f"{_most_pixels / 1e6:,.4g}; --max-pixels takes larger ones"
        )


def as_frame(image: NDArray[Any], levels: Levels | None = None, *, called: str = "image") -> Frame:
    """A decoded image as a frame: (H, W) grey or (H, W, 3) BGR, uint8.

    image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16, as cv2.imdecode gives it with
    IMREAD_UNCHANGED. levels: those of 16 bits that become black and white, as Preprocess.levels has them; None takes
    the range of the type, whatever it holds. Alpha is dropped. Raises FrameError for other shapes and dtypes.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, :3]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise FrameError(f"image is {image.shape}, expected (H, W), (H, W, 3) BGR or (H, W, 4) BGRA")
    if image.dtype == np.uint16:
        return to_8_bit(image, levels, called=called)
    if image.dtype != np.uint8:
        raise FrameError(f"image is {image.dtype}, expected uint8 or uint16; convert it before use")
    return np.ascontiguousarray(image)


def read_image(path: str | os.PathLike[str], levels: Levels | None = None) -> Frame:
    """An image file as a frame: (H, W) grey or (H, W, 3) BGR uint8, turned as its orientation tag says.

    8 and 16 bit, grey, BGR and BGRA; the first page of a multi-page TIFF. levels: as for as_frame. Raises DataError for
    files that are missing, empty, cut short or not decodable, and, before anything is decoded, for images of too many
    pixels (limit_pixels).
    """
    image = decoded(read_bytes(Path(path)), called=str(path))
    try:
        return as_frame(image, levels, called=str(path))
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error


def read_bytes(path: Path) -> bytes:
    """What an image file holds; raises DataError where it is missing, empty, or larger than an image can be."""
    try:
        n_bytes = path.stat().st_size
        if n_bytes > MOST_BYTES_A_PIXEL * _most_pixels:
            raise DataError(
                f"{path}, {n_bytes / 1e6:,.4g} MB, is larger than an image of {_most_pixels / 1e6:,.4g} megapixels can "
                "be; --max-pixels takes larger ones"
            )
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if not content:
        raise DataError(f"{path} is empty")
    return content


def decoded(content: bytes, *, called: str) -> NDArray[Any]:
    """The picture in the bytes of an image file, upright: (H, W) or (H, W, C), of the file's own type.

    called: what messages call it. Raises DataError, for images of too many pixels before anything is decoded.
    """
    if is_heif(content):
        return _heif(content, called)
    cv2 = require("cv2", extra="camera", purpose="reading images")
    size = image_size(content)
    if size is None:
        raise DataError(f"cannot decode {called}: not a {FORMATS} image, or damaged")
    check_pixels(*size, called=called)
    if not is_whole(content):
        raise DataError(f"cannot decode {called}: it ends before its picture does; take or copy it again")
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(content, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"cannot decode {called}: {error.err}") from error
    if image is None:
        raise DataError(f"cannot decode {called}: not a {FORMATS} image, or damaged")
    return upright(image, orientation_of(content))


def _heif(content: bytes, called: str) -> NDArray[Any]:
    try:
        picture = HeifPicture(content)
        check_pixels(*picture.size, called=called)
        return picture.decoded()
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"cannot decode {called}: {error}") from error


def write_image(path: Path, image: Frame) -> None:
    """Write (H, W) or (H, W, 3) BGR uint8 to an image file; the suffix names the format. Raises DataError."""
    cv2 = require("cv2", extra="camera", purpose="writing images")
    try:
        done, encoded = cv2.imencode(path.suffix, image)
    except cv2.error as error:
        raise DataError(f"cannot encode {path}: {error.err or error}") from error
    if not done:
        raise DataError(f"cannot encode {path}")
    write_file(path, encoded.tobytes())
