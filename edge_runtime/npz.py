"""Writing .npz files, and reading ones that may come from strangers: no pickle is ever loaded."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, EdgeAaeError

__all__ = ["npz_bytes", "read_npz"]

ZIP_MAGIC = b"PK\x03\x04"

DAMAGED = (
    ValueError,
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What numpy and zipfile raise for damaged and encrypted archives."""


def npz_bytes(arrays: Mapping[str, NDArray[Any]], *, compressed: bool = True) -> bytes:
    """The bytes of an .npz archive; the same arrays give the same bytes (compressed: with the same zlib)."""
    buffer = io.BytesIO()
    # Typed loosely: numpy's stubs take every keyword for its newer option allow_pickle.
    save: Any = np.savez_compressed if compressed else np.savez
    save(buffer, **arrays)
    return buffer.getvalue()


def read_npz(content: bytes, *, name: str, error: type[EdgeAaeError] = BundleError) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz by name.

    content: the file's bytes; name: what messages call it. Raises `error` for a file that is no .npz (a pickle
    with that ending, say), for arrays of Python objects, and for damaged entries.
    """
    if not content.startswith(ZIP_MAGIC):
        kind = "a Python pickle, which can run code and" if content[:1] == b"\x80" else "no .npz archive and"
        raise error(f"{name} is {kind} is not read; expected numpy arrays as np.savez writes them")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except DAMAGED as reason:
        raise error(f"{name} is not read: {reason}; expected plain numpy arrays as np.savez writes them") from reason
    strange = [key for key, array in arrays.items() if not isinstance(array, np.ndarray)]
    if strange:
        raise error(f"{name} is not read: {', '.join(strange)} is no numpy array; expected what np.savez writes")
    return arrays
