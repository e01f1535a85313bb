from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import train.data.image_store
from edge_runtime.errors import DataError
from train.data.image_store import DiskStore, ImageStore, ImageWriter, MemoryStore, image_chunks, keep_only
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.schedule import Schedule
from train.strategies.plain import PlainTraining

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 16, 24, 3), dtype=np.uint8)


def stored(cache: Any, folder: Path, *, expected: int = 50, images: NDArray[np.uint8] = IMAGES) -> ImageStore:
    writer = ImageWriter(images.shape[1:], expected, cache, folder)
    for image in images:
        writer.append(image)
    return writer.store()


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ImageStore:
    return stored(request.param, tmp_path)


def test_the_named_place_is_used(tmp_path: Path) -> None:
    assert isinstance(stored("memory", tmp_path), MemoryStore)
    assert isinstance(stored("disk", tmp_path), DiskStore)
    assert isinstance(stored("auto", tmp_path), MemoryStore)


def test_images_come_back_in_order_as_planes(store: ImageStore) -> None:
    assert len(store) == 50
    np.testing.assert_array_equal(store.array, IMAGES)
    planes = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    assert torch.equal(torch.cat(list(store.chunks(16))), planes)
    chosen = torch.tensor([49, 3, 3, 20])
    batch = store.batch(chosen)
    assert torch.equal(batch, planes[chosen])
    assert batch.is_contiguous()
    assert torch.equal(store.on(torch.device("cpu")).batch(chosen), planes[chosen])
    assert torch.equal(torch.cat(list(image_chunks(store, 7))), torch.cat(list(image_chunks(planes, 7))))


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("expected", [1, 7, 1000])
def test_more_or_fewer_images_than_expected_are_no_matter(cache: Any, expected: int, tmp_path: Path) -> None:
    np.testing.assert_array_equal(stored(cache, tmp_path, expected=expected).array, IMAGES)


def test_what_is_not_kept_is_gone(store: ImageStore) -> None:
    kept = np.array([0, 2, 3, 49])
    np.testing.assert_array_equal(keep_only(store, kept).array, IMAGES[kept])


def test_a_store_on_disk_leaves_no_file(tmp_path: Path) -> None:
    stored("disk", tmp_path / "run/not made yet")
    assert list(tmp_path.iterdir()) == []


def test_no_image_is_refused(tmp_path: Path) -> None:
    for cache in ("memory", "disk"):
        with pytest.raises(DataError, match="there is no image to train on"):
            stored(cache, tmp_path, images=IMAGES[:0])


def test_auto_goes_to_disk_where_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.data.image_store, "_free_memory", lambda: 4 * IMAGES.nbytes - 1)
    assert isinstance(stored("auto", tmp_path), DiskStore)
    with pytest.raises(DataError, match=r"50 images of \(16, 24, 3\) need .* free; use --cache disk, fewer images or"):
        stored("memory", tmp_path)
    monkeypatch.setattr(train.data.image_store, "_free_memory", lambda: 4 * IMAGES.nbytes)
    assert isinstance(stored("auto", tmp_path), MemoryStore)


def test_a_full_disk_is_refused_before_it_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match=r"50 images of .*has 0\.0 GiB free; use fewer images or a smaller --imgsz"):
        stored("disk", tmp_path)


def test_training_from_disk_gives_the_weights_of_training_from_memory(
    tmp_path: Path, quick: Callable[..., TrainSettings]
) -> None:
    weights = []
    for cache in ("memory", "disk"):
        images = stored(cache, tmp_path, images=IMAGES[:, :, :16])
        trainer = Trainer(PlainTraining(Task.of(quick(schedule=Schedule(train=2)), images, torch.device("cpu"))))
        trainer.run()
        weights.append(trainer.strategy.autoencoder.state_dict())
        np.testing.assert_array_equal(trainer.strategy.criteria_and_codes()[0].shape, (50, 2))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
