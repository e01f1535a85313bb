"""Where a run's preprocessed images are held: in memory, or in a file on disk that no memory has to hold.

Both give the same bits in the same order, so that training is the same. The file has no name: it is gone with the
process, however that ends.
"""

from __future__ import annotations

import math
import mmap
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import DataError

__all__ = ["CacheName", "DiskStore", "ImageStore", "ImageWriter", "MemoryStore", "image_chunks", "keep_only"]

CacheName = Literal["auto", "memory", "disk"]

MEMORY_SHARE = 0.5
"""Of the memory that is free: what is more than that goes to disk with `auto`, and is refused with `memory`. Images are
held twice for a moment while they become a tensor, and the network needs the rest."""


class ImageStore(Protocol):
    """N preprocessed images."""

    @property
    def array(self) -> NDArray[np.uint8]:
        """(N, H, W, C) uint8; on disk a view of the file, of which only what is read takes memory."""
        ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor) -> Tensor:
        """The images of these indices (B,): (B, C, H, W) uint8 on the store's device, in their order."""
        ...

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in order, `size` at a time: (<= size, C, H, W) uint8 on the store's device."""
        ...

    def on(self, device: torch.device) -> ImageStore:
        """The same images, given as tensors on another device."""
        ...


class MemoryStore:
    """Images in memory, or in the memory of a GPU."""

    def __init__(self, array: NDArray[np.uint8], device: torch.device | None = None) -> None:
        """array: (N, H, W, C)"""
        self.array = array
        self._device = device or torch.device("cpu")
        self._images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: Tensor) -> Tensor:
        """Images by index, (B, C, H, W)."""
        return self._tensor()[indices.to(self._device)]

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        yield from self._tensor().split(size)

    def on(self, device: torch.device) -> MemoryStore:
        """The images on another device, moved there when they are first asked for."""
        return MemoryStore(self.array, device)

    def _tensor(self) -> Tensor:
        if self._images is None:
            self._images = torch.from_numpy(self.array).permute(0, 3, 1, 2).contiguous().to(self._device)
        return self._images


class DiskStore:
    """Images in a file; a batch is read when it is asked for."""

    def __init__(
        self, content: mmap.mmap, shape: tuple[int, int, int, int], device: torch.device | None = None
    ) -> None:
        """content: the file, N x H x W x C bytes or more. shape: (N, H, W, C)."""
        self._map = content
        self._device = device or torch.device("cpu")
        self.array: NDArray[np.uint8] = np.frombuffer(content, np.uint8, math.prod(shape)).reshape(shape)

    def __len__(self) -> int:
        return len(self.array)

    def batch(self, indices: Tensor) -> Tensor:
        """Images by index, (B, C, H, W)."""
        return self._given(self.array[indices.cpu().numpy()])

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in order."""
        for start in range(0, len(self), size):
            yield self._given(self.array[start : start + size].copy())

    def on(self, device: torch.device) -> DiskStore:
        """The same file, its batches given on another device."""
        return DiskStore(self._map, cast(tuple[int, int, int, int], self.array.shape), device)

    def first(self, n: int) -> DiskStore:
        """The same file, its first n images alone."""
        return DiskStore(self._map, (n, *self.array.shape[1:]), self._device)

    def _given(self, images: NDArray[np.uint8]) -> Tensor:
        # Pages once read would count as this process's memory until the system wants them back.
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().to(self._device)


class ImageWriter:
    """Takes preprocessed images one by one and gives the store that holds them."""

    def __init__(self, shape: tuple[int, int, int], expected: int, cache: CacheName, folder: Path | None) -> None:
        """shape: (H, W, C) of an image. expected: about how many will come. folder: for the file, if there is one.

        Raises DataError where they do not fit where they are to go.
        """
        self._shape = shape
        self._n_images = 0
        needed = expected * math.prod(shape)
        self.on_disk = cache == "disk" or (cache == "auto" and not _fits_memory(2 * needed))
        if self.on_disk:
            folder = _existing(folder or Path(tempfile.gettempdir()))
            free = shutil.disk_usage(folder).free
            if needed > free:
                raise DataError(_too_much(expected, shape, needed, f"{folder} has {free / 2**30:.1f} GiB free; use"))
            self._file: BinaryIO = cast(BinaryIO, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        else:
            if not _fits_memory(2 * needed):
                free_text = f"{(_free_memory() or 0) / 2**30:.1f} GiB are free; use --cache disk,"
                raise DataError(_too_much(expected, shape, 2 * needed, free_text))
            self._array = np.empty((max(1, expected), *shape), dtype=np.uint8)

    def append(self, image: NDArray[np.uint8]) -> None:
        """Take one image, (H, W, C)."""
        if self.on_disk:
            self._file.write(np.ascontiguousarray(image).data)
        else:
            if self._n_images == len(self._array):
                grown = np.empty((2 * len(self._array), *self._shape), dtype=np.uint8)
                grown[: self._n_images] = self._array
                self._array = grown
            self._array[self._n_images] = image
        self._n_images += 1

    def store(self) -> ImageStore:
        """The images taken so far; raises DataError where there are none."""
        if not self._n_images:
            raise DataError("there is no image to train on")
        if self.on_disk:
            self._file.flush()
            shape = self._n_images, *self._shape
            return DiskStore(mmap.mmap(self._file.fileno(), math.prod(shape)), shape)
        return MemoryStore(self._array[: self._n_images])


def keep_only(store: ImageStore, kept: NDArray[np.int64]) -> ImageStore:
    """The store without the images that are not kept. kept: ascending indices. The store given must not be used after.

    Images are moved up in place, so that no second copy is needed.
    """
    array = store.array
    for to, index in enumerate(kept):
        if to != index:
            array[to] = array[index]
    if isinstance(store, DiskStore):
        return store.first(len(kept))
    return MemoryStore(array[: len(kept)])


def image_chunks(images: Tensor | ImageStore, size: int, first: int = 0, step: int = 1) -> Iterator[Tensor]:
    """uint8 images (N, C, H, W) of a tensor or a store, `size` at a time: every step-th chunk from the first."""
    if isinstance(images, Tensor):
        yield from images.split(size)[first::step]
    elif step == 1:
        yield from images.chunks(size)
    else:
        for start in range(first * size, len(images), step * size):
            yield images.batch(torch.arange(start, min(start + size, len(images))))


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return folder if folder.is_dir() else _existing(folder.parent)


def _too_much(n_images: int, shape: tuple[int, int, int], needed: int, free: str) -> str:
    return f"{n_images} images of {shape} need {needed / 2**30:.1f} GiB, {free} fewer images or a smaller --imgsz"


def _fits_memory(needed: int) -> bool:
    free = _free_memory()
    return free is None or needed <= MEMORY_SHARE * free


def _free_memory() -> int | None:
    """Bytes that are free, None where the system does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    lines = meminfo.read_text().splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), None)
