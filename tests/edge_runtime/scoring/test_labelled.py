"""Labelled sets: IDX pairs and .npz files, each split, each name, each damage."""

from __future__ import annotations

import gzip
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.scoring.labelled import Split, is_labelled_set, read_labelled

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([7, 0, 255], dtype=np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 0x08, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def saved_npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_an_idx_file_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(bytes.fromhex("00000803 00000001 00000002 00000003 0a0b0c 0d0e0f"))
    read = read_labelled(path, "test")
    assert read.images.tolist() == [[[10, 11, 12], [13, 14, 15]]]
    assert read.images.dtype == np.uint8
    assert read.labels is None


@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_folder_holds_the_pair_of_a_split(tmp_path: Path, split: Split, prefix: str, dot: str, suffix: str) -> None:
    pack = gzip.compress if suffix else bytes
    (tmp_path / f"{prefix}-images{dot}idx3-ubyte{suffix}").write_bytes(pack(idx(IMAGES)))
    (tmp_path / f"{prefix}-labels{dot}idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS)))
    read = read_labelled(tmp_path, split)
    np.testing.assert_array_equal(read.images, IMAGES)
    assert read.labels is not None
    assert read.labels.tolist() == [7, 0, 255]
    assert read.labels.dtype == np.int64


def test_each_split_is_read_from_its_own_pair(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES[:1]))
    assert len(read_labelled(tmp_path, "train").images) == 3
    assert len(read_labelled(tmp_path, "test").images) == 1


def test_a_folder_without_labels_gives_none(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    assert read_labelled(tmp_path, "train").labels is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_labels_beside_an_images_file_are_found(tmp_path: Path, suffix: str) -> None:
    pack = gzip.compress if suffix else bytes
    path = tmp_path / f"my-images-idx3-ubyte{suffix}"
    path.write_bytes(pack(idx(IMAGES)))
    assert read_labelled(path, "train").labels is None
    (tmp_path / f"my-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(LABELS)))
    read = read_labelled(path, "train")
    assert read.labels is not None
    assert read.labels.tolist() == [7, 0, 255]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train", "has no train-images-idx3-ubyte file for the train split"),
        ("test", "has no t10k-images-idx3-ubyte file for the test split"),
    ],
)
def test_a_folder_without_the_split_is_refused(tmp_path: Path, split: Split, message: str) -> None:
    other = "t10k" if split == "train" else "train"
    (tmp_path / f"{other}-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(DataError, match=message):
        read_labelled(tmp_path, split)


@pytest.mark.parametrize(
    ("header", "shown"),
    [(b"", "nothing"), (b"\x00\x00\x08", "000008"), (b"\x89PNG", "89504e47"), (b"\x00\x00\x0d\x03", "00000d03")],
)
def test_a_damaged_header_is_refused_with_both(tmp_path: Path, header: bytes, shown: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(header + idx(IMAGES)[4:] if len(header) == 4 else header)
    with pytest.raises(
        DataError, match=rf"no IDX file of 3-dimensional bytes: it starts with {shown}, expected 00000803"
    ):
        read_labelled(path, "train")


def test_labels_where_images_are_expected_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(LABELS) + bytes(20))
    with pytest.raises(DataError, match="it starts with 00000801, expected 00000803"):
        read_labelled(tmp_path, "train")


@pytest.mark.parametrize(("change", "came"), [(-1, 59), (1, 61), (-60, 0)])
def test_a_wrong_length_is_refused_with_both(tmp_path: Path, change: int, came: int) -> None:
    content = idx(IMAGES) + b"\0"
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content[: len(content) - 1 + change])
    with pytest.raises(DataError, match=f"holds {came} values, its header says 60; download it again"):
        read_labelled(tmp_path, "train")


def test_a_header_whose_size_overflows_is_refused(tmp_path: Path) -> None:
    # 2^31 x 2^31 x 4 = 2^64, which is zero in 64 bits and so agrees with a file without pixels.
    header = bytes((0, 0, 0x08, 3)) + struct.pack(">3I", 2**31, 2**31, 4)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header)
    with pytest.raises(DataError, match="holds 0 values, its header says 18446744073709551616"):
        read_labelled(tmp_path, "train")


def test_a_damaged_gz_is_refused_at_any_length(tmp_path: Path) -> None:
    content = gzip.compress(idx(IMAGES))
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    assert len(read_labelled(path, "train").images) == 3
    with path.open("r+b") as file:
        for length in reversed(range(len(content))):
            file.truncate(length)
            with pytest.raises(DataError, match=r"ubyte\.gz"):
                read_labelled(path, "train")


def test_a_gz_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(idx(IMAGES))
    with pytest.raises(DataError, match=r"cannot read .*\.gz: Not a gzipped file"):
        read_labelled(path, "train")


def test_a_set_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:0]))
    with pytest.raises(DataError, match=r"holds no images: its array is \(0, 4, 5\)"):
        read_labelled(tmp_path, "train")


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:2]))
    with pytest.raises(DataError, match=r"labels are \(2,\) int64, expected \(3,\) whole numbers"):
        read_labelled(tmp_path, "train")


@pytest.mark.parametrize("suffix", ["", ".npz"])
def test_a_missing_file_is_named(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match=rf"cannot read .*gone{suffix}: .*No such file or directory"):
        read_labelled(tmp_path / f"gone{suffix}", "train")


@pytest.mark.parametrize(
    ("split", "images_key", "labels_key"),
    [
        ("train", "images", "labels"),
        ("train", "x_train", "y_train"),
        ("train", "train_images", "train_labels"),
        ("test", "test_images", "test_labels"),
        ("test", "x_test", "y_test"),
        ("test", "images", "labels"),
    ],
)
def test_an_npz_is_read_by_its_names(tmp_path: Path, split: Split, images_key: str, labels_key: str) -> None:
    path = saved_npz(tmp_path, **{images_key: IMAGES, labels_key: LABELS})
    read = read_labelled(path, split)
    np.testing.assert_array_equal(read.images, IMAGES)
    assert read.labels is not None
    assert read.labels.tolist() == [7, 0, 255]
    assert read.labels.dtype == np.int64


@pytest.mark.parametrize(
    ("train_key", "test_key"), [("x_train", "x_test"), ("train_images", "test_images"), ("images", "test_images")]
)
def test_an_npz_with_both_splits_gives_the_one_asked_for(tmp_path: Path, train_key: str, test_key: str) -> None:
    path = saved_npz(tmp_path, **{train_key: IMAGES, test_key: IMAGES[:2]})
    assert len(read_labelled(path, "train").images) == 3
    assert len(read_labelled(path, "test").images) == 2


def test_an_npz_without_the_split_is_refused_with_both_names(tmp_path: Path) -> None:
    path = saved_npz(tmp_path, x_train=IMAGES, y_train=LABELS)
    with pytest.raises(
        DataError,
        match=r"holds arrays \['x_train', 'y_train'\], expected images under one of 'test_images', 'x_test', 'images'",
    ):
        read_labelled(path, "test")


def test_a_pickle_named_npz_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(pickle.dumps({"images": IMAGES}))
    with pytest.raises(DataError, match=r"set\.npz is a Python pickle, which can run code and is not read"):
        read_labelled(path, "train")


def test_an_npz_of_objects_is_refused(tmp_path: Path) -> None:
    path = saved_npz(tmp_path, images=np.array([IMAGES, None], dtype=object))
    with pytest.raises(DataError, match=r"set\.npz is not read: Object arrays cannot be loaded"):
        read_labelled(path, "train")


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    path = saved_npz(tmp_path, images=IMAGES)
    content = bytearray(path.read_bytes())
    name_length, extra_length = struct.unpack_from("<HH", content, 26)
    content[30 + name_length + extra_length] ^= 0xFF  # the first byte of the compressed pixels
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz is not read"):
        read_labelled(path, "train")


def test_one_channel_is_grey_and_three_are_bgr(tmp_path: Path) -> None:
    assert read_labelled(saved_npz(tmp_path, images=IMAGES[:, :, :, None]), "train").images.shape == (3, 4, 5)
    bgr = np.repeat(IMAGES[:, :, :, None], 3, axis=3)
    assert read_labelled(saved_npz(tmp_path, images=bgr), "train").images.shape == (3, 4, 5, 3)


@pytest.mark.parametrize(
    ("images", "shown"),
    [
        (IMAGES.astype(np.float32) / 255, r"\(3, 4, 5\) float32"),
        (IMAGES.astype(np.int64), r"\(3, 4, 5\) int64"),
        (IMAGES[0], r"\(4, 5\) uint8"),
        (IMAGES[:, :, :, None].repeat(4, axis=3), r"\(3, 4, 5, 4\) uint8"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(tmp_path: Path, images: NDArray[Any], shown: str) -> None:
    with pytest.raises(DataError, match=rf"images are {shown}, expected \(N, H, W\) or \(N, H, W, 3\) BGR uint8"):
        read_labelled(saved_npz(tmp_path, images=images), "train")


@pytest.mark.parametrize(("labels", "shown"), [(LABELS / 2, r"\(3,\) float64"), (LABELS[:, None], r"\(3, 1\) uint8")])
def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path, labels: NDArray[Any], shown: str) -> None:
    with pytest.raises(DataError, match=rf"labels are {shown}, expected \(3,\) whole numbers"):
        read_labelled(saved_npz(tmp_path, images=IMAGES, labels=labels), "train")


def test_what_is_a_labelled_set_shows_in_its_name(tmp_path: Path) -> None:
    assert is_labelled_set(tmp_path / "set.npz")
    assert is_labelled_set(tmp_path / "train-images-idx3-ubyte.gz")
    assert not is_labelled_set(tmp_path / "image.png")
    assert not is_labelled_set(tmp_path)
    (tmp_path / "t10k-images.idx3-ubyte").touch()
    assert is_labelled_set(tmp_path)
