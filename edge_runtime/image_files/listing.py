"""Which files of a folder are images, and which pictures are in it that are not read."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from edge_runtime.errors import DataError

__all__ = [
    "FORMATS",
    "HEIF_SUFFIXES",
    "IMAGE_SUFFIXES",
    "image_files",
    "is_image",
    "list_images",
    "natural_order",
    "unread_pictures",
]

logger = logging.getLogger(__name__)

FORMATS = "PNG, JPEG, WebP, BMP or TIFF"
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""Read where pi-heif is installed."""

OTHERS = (
    "avif jxl jp2 jfif gif tga exr hdr pgm ppm pbm pnm ras psd ico svg dcm dng cr2 cr3 nef arw raf orf rw2 pef srw raw"
)
UNREAD_SUFFIXES = HEIF_SUFFIXES | {f".{name}" for name in OTHERS.split()}
"""Pictures that are not read, and that somebody may believe to be among those that are."""


def is_image(path: Path) -> bool:
    """Whether the file name says image: PNG, JPEG, WebP, BMP or TIFF, and HEIC where pi-heif is installed."""
    suffix = path.suffix.lower()
    return suffix in IMAGE_SUFFIXES or (suffix in HEIF_SUFFIXES and reads_heif())


def reads_heif() -> bool:
    """Whether pi-heif is installed; it is not loaded."""
    return find_spec("pi_heif") is not None


def list_images(folder: Path, *, told: bool = True) -> list[Path]:
    """Every image file below a folder, at any depth, in natural order (2 before 10). Hidden files are left out.

    Links to folders are followed, each folder once: one that was seen, or that holds this one, is left out and, where
    told, said.
    """
    return _images_of(_files(folder, told=told))


def image_files(folder: Path, *, told: bool = True) -> list[Path]:
    """list_images, which says what pictures it left out because they are not read; raises DataError for none."""
    every = _files(folder, told=told)
    files, unread = _images_of(every), _unread_of(every)
    if not files:
        raise DataError(f"{folder} holds no {FORMATS} image, at any depth{f'; {unread}' if unread else ''}")
    if unread and told:
        logger.warning("%s: %s", folder, unread)
    return files


def unread_pictures(folder: Path) -> str:
    """What pictures lie below a folder that are not read, by suffix, and what to do; empty where there are none."""
    return _unread_of(_files(folder, told=False))


def natural_order(path: Path) -> list[tuple[int, int, str]]:
    """A sort key that puts 2 before 10."""
    return [
        (0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path.as_posix().lower())
    ]


def _images_of(files: list[Path]) -> list[Path]:
    return sorted((path for path in files if is_image(path) and path.is_file()), key=natural_order)


def _unread_of(files: list[Path]) -> str:
    unread = Counter(
        path.suffix.upper() for path in files if path.suffix.lower() in UNREAD_SUFFIXES and not is_image(path)
    )
    if not unread:
        return ""
    counted = ", ".join(f"{n} {suffix}" for suffix, n in sorted(unread.items()))
    remedies = ["convert with ImageMagick: magick mogrify -format png FILES"]
    if any(suffix.lower() in HEIF_SUFFIXES for suffix in unread):
        remedies.insert(0, 'pip install "edge-aae[heic]" reads HEIC')
    return f"ignored: {counted}; {', or '.join(remedies)}"


def _files(folder: Path, *, told: bool = True) -> list[Path]:
    """Every file below a folder that is not hidden; folders of its own come before links, whose names last less."""
    found: list[Path] = []
    waiting, links = [folder], list[Path]()
    seen = {folder.resolve(), *folder.resolve().parents}
    while waiting or links:
        inside = waiting.pop() if waiting else links.pop(0)
        if inside != folder:
            target = inside.resolve()
            if target in seen:
                if told:
                    logger.warning("%s leads to %s, which is read already or lies around it; left out", inside, target)
                continue
            seen.add(target)
        try:
            entries = sorted(os.scandir(inside), key=lambda entry: entry.name)
        except OSError as error:
            if told and folder.is_dir():
                logger.warning("cannot look into %s: %s", inside, error.strerror or error)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                found.append(Path(entry.path))
            else:
                (links if entry.is_symlink() else waiting).append(Path(entry.path))
    return found
