"""Writing .npz files, and reading ones that may come from strangers: no pickle is ever loaded."""

from __future__ import annotations

import io
import math
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format
from numpy.typing import NDArray

from edge_runtime.archive import DEFLATED, TooMuchError, most_inflated, open_zip
from edge_runtime.errors import BundleError, EdgeAaeError

__all__ = ["npz_bytes", "read_npz"]

ZIP_MAGIC = b"PK\x03\x04"
ARRAY_SUFFIX = ".npy"

FREE_BYTES = 192 << 20
"""What the arrays of a file may take besides eight times its size: golden frames of one colour deflate to nothing."""

VERSION = (1, 0)
"""Of numpy's format; 2 is of headers beyond 64 KB, 3 of arrays whose fields have names that are no ASCII."""
MOST_EMPTY = 1 << 20
"""Of an array without values, the product of its other sides: who goes through it step by step ends nevertheless."""

DAMAGED = (
    ValueError,
    TypeError,
    SyntaxError,
    MemoryError,
    tokenize.TokenError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy, Python's parser, which reads the headers, and zipfile raise for damaged and encrypted archives."""


def npz_bytes(arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> bytes:
    """The bytes of an .npz archive; the same arrays give the same bytes (compressed: with the same zlib)."""
    buffer = io.BytesIO()
    # Typed loosely: numpy's stubs take every keyword for its newer option allow_pickle.
    save: Any = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)
    return buffer.getvalue()


def read_npz(
    content: bytes, *, name: str, error: type[EdgeAaeError] = BundleError, free_bytes: int = FREE_BYTES
) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name.

    content: the file's bytes; name: what messages call it; free_bytes: what it may inflate to, besides eight times its
    size. Raises `error` for a file that is no .npz (a pickle with that ending, say), for arrays of Python objects, for
    damaged entries, and for arrays that would take more memory than their entries explain.
    """
    if not content.startswith(ZIP_MAGIC):
        kind = "a Python pickle, which can run code and" if content[:1] == b"\x80" else "no .npz archive and"
        raise error(f"{name} is {kind} is not read; expected numpy arrays as np.savez writes them")
    arrays = {}
    try:
        with open_zip(content, most_inflated(len(content), free_bytes)) as archive:
            for entry in archive.infolist():
                arrays[entry.filename.removesuffix(ARRAY_SUFFIX)] = _array(archive, entry)
    except DAMAGED as reason:
        said = f"it {reason}" if isinstance(reason, TooMuchError) else reason
        raise error(f"{name} is not read: {said}; expected plain numpy arrays as np.savez writes them") from reason
    return arrays


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One array; nothing is allocated until its header and the entry's size agree."""
    with archive.open(entry) as stream:
        if entry.compress_type not in DEFLATED:
            raise ValueError(f"{entry.filename} is compressed otherwise than by deflate")
        if format.read_magic(stream) != VERSION:
            raise ValueError(f"{entry.filename} is not of version 1.0 of numpy's format")
        shape, _, dtype = format.read_array_header_1_0(stream)
        if dtype.hasobject:
            raise ValueError("Object arrays cannot be loaded")
        n_values = math.prod(shape)
        if min(shape, default=1) < 0 or n_values * dtype.itemsize != entry.file_size - stream.tell():
            raise ValueError(f"{entry.filename} has {entry.file_size} bytes, which are not those of {shape} {dtype}")
        if n_values * dtype.itemsize == 0 and math.prod(max(side, 1) for side in shape) > MOST_EMPTY:
            raise ValueError(f"{entry.filename} is {shape} {dtype}, which is empty all the same")
    with archive.open(entry) as stream:
        array: NDArray[Any] = format.read_array(stream, allow_pickle=False)
        if stream.read(1):  # to the end, where the checksum is held
            raise ValueError(f"{entry.filename} goes on after its array")
    return array
