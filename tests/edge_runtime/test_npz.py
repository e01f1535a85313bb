"""Reading .npz files from strangers: arrays or an error of ours, never code and never another exception."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleError, DataError
from edge_runtime.npz import read_npz

ARRAYS = {"images": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "labels": np.array([3, 1])}


class MakesFolder:
    """Makes a folder when it is unpickled: what hostile code would do, made visible."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def saved(save: Callable[..., None], **arrays: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_by_name(save: Callable[..., None]) -> None:
    arrays = read_npz(saved(save, **ARRAYS), name="set.npz")
    assert sorted(arrays) == ["images", "labels"]
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(arrays[key], array)
        assert arrays[key].dtype == array.dtype


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    content = pickle.dumps(MakesFolder(trap))
    with pytest.raises(BundleError, match=r"prior\.npz is a Python pickle, which can run code and is not read"):
        read_npz(content, name="prior.npz")
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists()  # the trap was armed


def test_an_array_of_objects_is_refused_and_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    content = saved(np.savez, kind=np.array([MakesFolder(trap)], dtype=object))
    with pytest.raises(BundleError, match=r"prior\.npz is not read: Object arrays cannot be loaded"):
        read_npz(content, name="prior.npz")
    assert not trap.exists()
    np.load(io.BytesIO(content), allow_pickle=True)["kind"]
    assert trap.exists()  # the trap was armed


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"set\.npz is no \.npz archive and is not read; expected numpy arrays"):
        read_npz(content, name="set.npz")


def test_the_caller_names_the_error() -> None:
    with pytest.raises(DataError, match=r"set\.npz is no \.npz archive"):
        read_npz(b"", name="set.npz", error=DataError)
    with pytest.raises(DataError, match=r"set\.npz is not read: .*; expected plain numpy arrays as np\.savez writes"):
        read_npz(saved(np.savez, **ARRAYS)[:-1], name="set.npz", error=DataError)


def test_an_entry_that_is_no_array_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("images.npy", b"these are no pixels")
    with pytest.raises(BundleError, match=r"set\.npz"):
        read_npz(buffer.getvalue(), name="set.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_file_cut_at_any_length_is_refused(save: Callable[..., None]) -> None:
    content = saved(save, **ARRAYS)
    outcomes = {outcome(content[:length]) for length in range(len(content))}
    assert outcomes == {"refused"}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_refused_or_changes_no_array(save: Callable[..., None]) -> None:
    content = saved(save, **ARRAYS)
    outcomes: dict[str, int] = {}
    for offset in range(len(content)):
        for mask in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[offset] ^= mask
            outcomes.setdefault(outcome(bytes(damaged)), offset)
    # A zip holds bytes that nobody reads, such as times, and its directory has no checksum: an entry may be lost.
    assert set(outcomes) == {"refused", "as saved"}, f"first byte of each outcome: {outcomes}"


def outcome(content: bytes) -> str:
    try:
        arrays = read_npz(content, name="set.npz")
    except BundleError:
        return "refused"
    except Exception as error:  # noqa: BLE001  any other class is what the test looks for
        return type(error).__name__
    as_saved = all(key in ARRAYS and np.array_equal(array, ARRAYS[key]) for key, array in arrays.items())
    return "as saved" if as_saved else "changed"


def entry(name: str, header: str, values: bytes = b"", *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of one array with this header."""
    padded = header.encode() + b"\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + values)
    return buffer.getvalue()


def of_shape(shape: str, dtype: str = "|u1") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (entry("x", of_shape("(1000000000000,)")), "has .* bytes, which are not those of"),
        (entry("x", of_shape("(2,)"), b"123"), "which are not those of"),
        (entry("x", of_shape("(1000000000000, 0)")), "which is empty all the same"),
        (entry("x", of_shape("(1000000000000,)", "|S0")), "which is empty all the same"),
        (entry("x", of_shape("(-1, -4)"), b"1234"), "which are not those of"),
        (entry("x", "(" * 5000), "is not read"),
        (entry("x", "'" * 3), "is not read"),
        (entry("x", of_shape("(4,)", "no dtype"), b"1234"), "is not read"),
        (entry("x", of_shape("(4,)"), b"1234", method=zipfile.ZIP_BZIP2), "compressed otherwise than by deflate"),
    ],
)
def test_a_header_that_lies_is_refused_before_anything_is_allocated(content: bytes, reason: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(BundleError, match=reason):
            read_npz(content, name="set.npz")
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_inflates_to_eight_times_its_size_and_what_is_free() -> None:
    content = saved(np.savez_compressed, images=np.zeros(3 << 20, np.uint8))
    assert read_npz(content, name="set.npz", free_bytes=4 << 20)["images"].size == 3 << 20
    with pytest.raises(BundleError, match=r"set\.npz is not read: it unpacks to more than \d+ bytes"):
        read_npz(content, name="set.npz", free_bytes=2 << 20)
    assert read_npz(saved(np.savez, images=np.zeros(3 << 20, np.uint8)), name="set.npz", free_bytes=0)


def test_an_entry_gives_no_more_than_it_lists() -> None:
    content = bytearray(entry("x", of_shape("(1000000,)"), bytes(1_000_000)))
    listed = content.rfind(b"PK\x01\x02") + 24
    content[listed : listed + 4] = (200).to_bytes(4, "little")
    with pytest.raises(BundleError, match="is not read"):
        read_npz(bytes(content), name="set.npz")
