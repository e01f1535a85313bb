"""The public data sets themselves, where they are at hand: $EDGE_AAE_DATA, or shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.scoring.labelled import read_labelled
from train.data.loading import load_training_set
from train.data.settings import DataSettings

ROOT = Path(__file__).resolve().parents[3]
DATA = Path(os.environ.get("EDGE_AAE_DATA", ROOT.parent / "shared" / "data"))
SAMPLE = ROOT / "edge_aae/sample/fashion.npz"


def data_set(name: str) -> Path:
    """The folder of a data set; skips the test where it is not at hand."""
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not at hand; set EDGE_AAE_DATA to the folder that holds it")
    return folder


def test_fashion_mnist_gives_the_papers_training_set() -> None:
    settings = DataSettings(path=str(data_set("fashion-mnist")), classes=(0,), contaminate=((2, 0.05),))
    training_set = load_training_set(settings, "mlp")
    assert training_set.labels is not None
    # 6000 T-shirts are 95 % of 6316.
    assert np.bincount(training_set.labels).tolist() == [6000, 0, 316]
    assert training_set.preprocess.input_shape == (28, 28, 1)


def test_mnist_reads_from_its_gzipped_idx_pair() -> None:
    test = read_labelled(data_set("mnist"), "test")
    assert test.images.shape == (10000, 28, 28)
    assert test.labels is not None
    assert np.bincount(test.labels)[0] == 980


def test_magnetic_tiles_are_grey_and_letterboxed() -> None:
    training_set = load_training_set(
        DataSettings(path=str(data_set("magnetic-tile") / "train/good"), imgsz=(64, 64)), "conv"
    )
    assert training_set.images.shape == (762, 64, 64, 1)
    assert training_set.preprocess.fit == "letterbox"
    assert training_set.bad == []


def test_the_embedded_sample_is_fashion_mnist_unchanged() -> None:
    folder = data_set("fashion-mnist")
    for split in ("train", "test"):
        sample, whole = read_labelled(SAMPLE, split), read_labelled(folder, split)
        assert sample.labels is not None
        assert whole.labels is not None
        known = {image.tobytes(): int(label) for image, label in zip(whole.images, whole.labels, strict=True)}
        assert [known[image.tobytes()] for image in sample.images] == sample.labels.tolist()


def test_the_embedded_sample_has_five_percent_boots() -> None:
    labels = read_labelled(SAMPLE, "train").labels
    assert labels is not None
    assert np.bincount(labels).tolist() == [2000, 0, 0, 0, 0, 0, 0, 0, 0, 105]
