"""Images as the frames that a camera would give: decoded ones, and files found, read and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.extras import require
from edge_runtime.files import write_file
from edge_runtime.model.image_size import image_size
from edge_runtime.model.preprocess import Frame

__all__ = [
    "IMAGE_SUFFIXES",
    "MOST_PIXELS",
    "as_frame",
    "check_pixels",
    "is_image",
    "limit_pixels",
    "list_images",
    "natural_order",
    "read_image",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"})

UINT16_TO_UINT8 = 257
"""65535 / 255: the whole range of a 16-bit image maps to the whole range of an 8-bit one, whatever it holds."""

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
            f"{called} is {width}x{height}, {height * width / 1e6:,.0f} megapixels, more than "
            f"{_most_pixels / 1e6:,.4g}; --max-pixels takes larger ones"
        )


def as_frame(image: NDArray[Any]) -> Frame:
    """A decoded image as a frame: (H, W) grey or (H, W, 3) BGR, uint8.

    image: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA, uint8 or uint16, as cv2.imdecode gives it with
    IMREAD_UNCHANGED. Range follows dtype: 16 bit are scaled by 1/257 even where only 12 bits are used. Alpha is
    dropped. Raises FrameError for other shapes and dtypes.
    """
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 4:
        image = image[:, :, :3]
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise FrameError(f"image is {image.shape}, expected (H, W), (H, W, 3) BGR or (H, W, 4) BGRA")
    if image.dtype == np.uint16:
        return (image // UINT16_TO_UINT8).astype(np.uint8)
    if image.dtype != np.uint8:
        raise FrameError(f"image is {image.dtype}, expected uint8 or uint16; convert it before use")
    return np.ascontiguousarray(image)


def is_image(path: Path) -> bool:
    """Whether the file name says image: PNG, JPEG, BMP or TIFF."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def list_images(folder: Path) -> list[Path]:
    """Every image file below a folder, at any depth, in natural order (2 before 10). Hidden files are left out."""
    found = (
        path
        for path in folder.rglob("*")
        if is_image(path)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    return sorted(found, key=natural_order)


def read_image(path: Path) -> Frame:
    """An image file as a frame: (H, W) grey or (H, W, 3) BGR uint8, orientation tags ignored.

    8 and 16 bit, grey, BGR and BGRA; the first page of a multi-page TIFF. Raises DataError for files that are
    missing, empty or not decodable, and, before anything is decoded, for images of too many pixels (limit_pixels).
    """
    cv2 = require("cv2", extra="camera", purpose="reading images")
    try:
        if path.stat().st_size > MOST_BYTES_A_PIXEL * _most_pixels:
            raise DataError(f"{path} is larger than an image of {_most_pixels / 1e6:,.4g} megapixels can be")
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    if content.size == 0:
        raise DataError(f"{path} is empty")
    size = image_size(content.tobytes())
    if size is None:
        raise DataError(f"cannot decode {path}: not a PNG, JPEG, BMP or TIFF image, or damaged")
    check_pixels(*size, called=str(path))
    try:
        image: NDArray[Any] | None = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DataError(f"cannot decode {path}: {error.err}") from error
    if image is None:
        raise DataError(f"cannot decode {path}: not a PNG, JPEG, BMP or TIFF image, or damaged")
    try:
        return as_frame(image)
    except FrameError as error:
        raise DataError(f"{path}: {error}") from error


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


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that puts 2 before 10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.as_posix().lower())
    ]
