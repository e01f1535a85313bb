"""Labelled image sets in memory: IDX pairs (the MNIST format) and .npz files, read without torch.

Training takes its images from here, and `edge-aae score` its test split.
"""

from __future__ import annotations

import gzip
import io
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.archive import most_inflated
from edge_runtime.errors import DataError
from edge_runtime.npz import read_npz

__all__ = ["LabelledImages", "Split", "is_labelled_set", "read_labelled"]

Split = Literal["train", "test"]

IDX_PREFIX = {"train": "train", "test": "t10k"}
IDX_UINT8 = 0x08
NPZ_KEYS = {
    "train": (("images", "labels"), ("x_train", "y_train"), ("train_images", "train_labels")),
    "test": (("test_images", "test_labels"), ("x_test", "y_test"), ("images", "labels")),
}
"""Names tried in order for images and labels; the last pair of `test` is a file that holds one split alone."""

FREE_BYTES = 256 << 20
"""What a compressed set may inflate to besides eight times its size; one that does more can be saved uncompressed."""


@dataclass(frozen=True, slots=True)
class LabelledImages:
    """Images of one size, with their classes where the file has them."""

    images: NDArray[np.uint8]
    """(N, H, W) grey or (N, H, W, 3) BGR"""
    labels: NDArray[np.int64] | None
    """(N,)"""


def is_labelled_set(path: Path) -> bool:
    """Whether a path is an .npz file, an IDX images file, or a folder that holds an IDX pair."""
    if path.is_dir():
        return any(_idx_file(path, split, "images") for split in ("train", "test"))
    return path.suffix == ".npz" or "idx3-ubyte" in path.name


def read_labelled(path: Path, split: Split) -> LabelledImages:
    """One split of an IDX folder or .npz file, or an IDX images file with the labels beside it.

    Raises DataError for files that are missing, damaged, pickled, or hold something else.
    """
    if path.suffix == ".npz":
        return _read_npz(path, split)
    if path.is_dir():
        images_file = _idx_file(path, split, "images")
        if images_file is None:
            raise DataError(f"{path} has no {IDX_PREFIX[split]}-images-idx3-ubyte file for the {split} split")
        labels_file = _idx_file(path, split, "labels")
    else:
        images_file = path
        beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
        labels_file = beside if beside != path and beside.exists() else None
    images = _read_idx(images_file, n_dims=3)
    labels = _read_idx(labels_file, n_dims=1).astype(np.int64) if labels_file else None
    return _checked(path, images, labels)


def _idx_file(folder: Path, split: Split, what: Literal["images", "labels"]) -> Path | None:
    rank = 3 if what == "images" else 1
    for dot in ("-", "."):
        for suffix in ("", ".gz"):
            file = folder / f"{IDX_PREFIX[split]}-{what}{dot}idx{rank}-ubyte{suffix}"
            if file.is_file():
                return file
    return None


def _read_idx(path: Path, *, n_dims: int) -> NDArray[np.uint8]:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = _decompressed(path, content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    header = 4 + 4 * n_dims
    if len(content) < header or content[:4] != bytes((0, 0, IDX_UINT8, n_dims)):
        raise DataError(
            f"{path} is no IDX file of {n_dims}-dimensional bytes: it starts with {content[:4].hex() or 'nothing'}, "
            f"expected {bytes((0, 0, IDX_UINT8, n_dims)).hex()}"
        )
    shape = struct.unpack(f">{n_dims}I", content[4:header])
    n_bytes = math.prod(shape)
    if len(content) - header != n_bytes:
        raise DataError(f"{path} holds {len(content) - header} values, its header says {n_bytes}; download it again")
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _decompressed(path: Path, content: bytes) -> bytes:
    most = most_inflated(len(content), FREE_BYTES)
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        inflated = stream.read(most + 1)
    if len(inflated) > most:
        raise DataError(f"{path} inflates to more than {most} bytes; decompress it first if that is what it holds")
    return inflated


def _read_npz(path: Path, split: Split) -> LabelledImages:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    arrays = read_npz(content, name=str(path), error=DataError, free_bytes=FREE_BYTES)
    for images_key, labels_key in NPZ_KEYS[split]:
        if images_key in arrays:
            return _checked(path, arrays[images_key], arrays.get(labels_key))
    wanted = ", ".join(repr(images_key) for images_key, _ in NPZ_KEYS[split])
    raise DataError(f"{path} holds arrays {sorted(arrays)}, expected images under one of {wanted}")


def _checked(path: Path, images: NDArray[Any], labels: NDArray[Any] | None) -> LabelledImages:
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[:, :, :, 0]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise DataError(
            f"{path}: images are {images.shape} {images.dtype}, expected (N, H, W) or (N, H, W, 3) BGR uint8"
        )
    if 0 in images.shape:
        raise DataError(f"{path} holds no images: its array is {images.shape}")
    if labels is not None:
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            raise DataError(
                f"{path}: labels are {labels.shape} {labels.dtype}, expected ({images.shape[0]},) whole numbers"
            )
        labels = labels.astype(np.int64)
    return LabelledImages(images, labels)
