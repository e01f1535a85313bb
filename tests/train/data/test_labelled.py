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
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.data.training_set import TrainingSet


def load(path: Path, **settings: Any) -> TrainingSet:
    return load_training_set(DataSettings(path=str(path), **settings), "conv")


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """An .npz of 16x16 images: 95 of class 0, 30 of class 1, 40 of class 2, mixed; every image is another one."""
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [95, 30, 40]))
    images = np.zeros((165, 16, 16), dtype=np.uint8)
    images[:, 0, 0] = np.arange(165)
    np.savez(tmp_path / "digits.npz", images=images, labels=labels)
    return tmp_path / "digits.npz"


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def test_all_images_of_a_labelled_set_are_taken_where_no_class_is_named(digits: Path) -> None:
    data = load(digits)
    assert data.images.shape == (165, 16, 16, 1)
    assert data.names == [str(index) for index in range(165)]
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [95, 30, 40]
    assert data.images[:, 0, 0, 0].tolist() == list(range(165))
    assert len(data.raw_frames) == 4


def test_classes_choose_their_images_alone(digits: Path) -> None:
    data = load(digits, classes=(0, 2))
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [95, 0, 40]


def test_a_contaminating_class_makes_exactly_its_share_of_the_whole_set(digits: Path) -> None:
    data = load(digits, classes=(0,), contaminate=((2, 0.05),))
    # 95 normal ones are 95 % of 100.
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [95, 0, 5]


def test_several_contaminating_classes_are_shares_of_one_whole(digits: Path) -> None:
    data = load(digits, classes=(0,), contaminate=((1, 0.1), (2, 0.15)))
    # 95 normal ones are 75 %: 126.7 in all, of which 12.7 and 19.
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [95, 13, 19]


def test_a_share_below_one_image_still_brings_one(digits: Path) -> None:
    data = load(digits, classes=(0,), contaminate=((2, 0.001),))
    assert data.labels is not None
    assert np.bincount(data.labels).tolist() == [95, 0, 1]


def test_names_and_labels_go_with_the_images_of_a_contaminated_set(digits: Path) -> None:
    data = load(digits, classes=(0,), contaminate=((2, 0.2),))
    with np.load(digits) as arrays:
        of_all = arrays["labels"]
    assert data.labels is not None
    for name, label, image in zip(data.names, data.labels, data.images, strict=True):
        assert of_all[int(name)] == label
        assert image[0, 0, 0] == int(name)
    assert len(set(data.names)) == len(data.names), "no image comes twice"


def test_the_seed_decides_which_images_contaminate(digits: Path) -> None:
    def drawn(seed: int) -> list[str]:
        return load(digits, classes=(0,), contaminate=((2, 0.1),), seed=seed).names

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_a_share_that_wants_more_images_than_there_are_is_refused(digits: Path) -> None:
    with pytest.raises(DataError, match=r"--contaminate 2:0\.5 wants 95 images of class 2, there are 40"):
        load(digits, classes=(0,), contaminate=((2, 0.5),))


@pytest.mark.parametrize("settings", [{"classes": (7,)}, {"classes": (0,), "contaminate": ((7, 0.05),)}])
def test_a_class_that_is_not_there_is_refused_with_those_that_are(digits: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"digits\.npz has no class 7; it has \[0, 1, 2\]"):
        load(digits, **settings)


def test_classes_on_a_set_without_labels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "plain.npz", images=np.zeros((20, 16, 16), dtype=np.uint8))
    assert load(tmp_path / "plain.npz").labels is None
    with pytest.raises(DataError, match=r"--classes needs labels; .*plain\.npz has none beside its images"):
        load(tmp_path / "plain.npz", classes=(0,))


def test_labelled_images_below_the_network_s_smallest_side_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", images=np.zeros((20, 8, 8), dtype=np.uint8))
    with pytest.raises(DataError, match=r"images are 8x8, network conv needs at least 16x16; use another network"):
        load(tmp_path / "tiny.npz")
    assert load_training_set(DataSettings(path=str(tmp_path / "tiny.npz")), "mlp").images.shape == (20, 8, 8, 1)


def test_the_training_split_of_an_npz_in_keras_manner_is_taken(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "set.npz",
        x_train=np.full((20, 16, 16, 3), 5, dtype=np.uint8),
        y_train=np.zeros(20, dtype=np.uint8),
        x_test=np.full((9, 16, 16, 3), 9, dtype=np.uint8),
        y_test=np.zeros(9, dtype=np.uint8),
    )
    data = load(tmp_path / "set.npz")
    assert data.images.shape == (20, 16, 16, 3)
    assert (data.images == 5).all()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_folder_gives_its_training_split(tmp_path: Path, suffix: str) -> None:
    for prefix, n in (("train", 20), ("t10k", 5)):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{suffix}", np.full((n, 16, 20), n, dtype=np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{suffix}", (np.arange(n) % 2).astype(np.uint8))
    data = load(tmp_path, classes=(1,))
    assert data.images.shape == (10, 16, 20, 1)
    assert (data.images == 20).all()
    assert data.names == [str(index) for index in range(1, 20, 2)]


def test_an_npz_that_is_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.npz").write_bytes(pickle.dumps({"images": np.zeros((20, 16, 16), dtype=np.uint8)}))
    with pytest.raises(DataError, match=r"set\.npz is a Python pickle, which can run code and is not read"):
        load(tmp_path / "set.npz")


def test_an_npz_of_python_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"set\.npz is not read: .*expected plain numpy arrays"):
        load(tmp_path / "set.npz")


def test_the_fingerprint_follows_the_pixels(digits: Path) -> None:
    data = load(digits)
    again = load(digits)
    assert data.sha256() == again.sha256()
    again.images[3, 5, 5, 0] ^= 1
    assert data.sha256() != again.sha256()
