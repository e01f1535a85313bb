from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from train.data.guidance import UNGUIDED
from train.distributed import World
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.schedule import Schedule

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]

CPU = torch.device("cpu")


def test_too_few_images_are_refused_with_their_number(shapes: Shapes, quick: Quick) -> None:
    with pytest.raises(DataError, match=r"15 images to train on, network conv needs 16 or more"):
        Task.of(quick(), shapes(15)[0], CPU)
    Task.of(quick(), shapes(16)[0], CPU)


def test_a_batch_of_fewer_images_than_processes_is_refused() -> None:
    settings = TrainSettings(network="hog", latent_dim=2, schedule=Schedule(train=1), batch_size=4)
    with pytest.raises(ConfigError, match=r"--batch is 4, expected one image or more for 5 processes"):
        Task.of(settings, np.zeros((20, 16, 16, 1), dtype=np.uint8), CPU, world=World(0, 5))


def test_without_a_word_of_a_person_no_image_is_guided(shapes: Shapes, quick: Quick) -> None:
    assert Task.of(quick(), shapes(16)[0], CPU).guidance.tolist() == [UNGUIDED] * 16


def test_an_epoch_shows_every_image_once_but_for_a_batch_of_one(shapes: Shapes, quick: Quick) -> None:
    task = Task.of(quick(batch_size=8), shapes(17)[0], CPU)
    batches = list(task.batches(torch.arange(17)))
    assert [len(batch) for batch in batches] == [8, 8]
    shown = torch.cat(batches).tolist()
    assert len(set(shown)) == 16
    assert shown != sorted(shown)
