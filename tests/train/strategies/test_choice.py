from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.preprocess import Preprocess
from train.data.photograph_store import PhotographStore
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.strategies.choice import strategy_for
from train.strategies.patch import PatchTraining
from train.strategies.plain import PlainTraining
from train.strategies.robust import RobustTraining

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("refine", "kind"), [("none", PlainTraining), ("itsr", PlainTraining), ("robust", RobustTraining)]
)
def test_the_refinement_chooses_how_a_network_with_one_code_an_image_is_trained(
    shapes: Shapes, quick: Quick, refine: str, kind: type
) -> None:
    assert type(strategy_for(Task.of(quick(refine=refine), shapes(16)[0], CPU))) is kind


@pytest.mark.parametrize("refine", ["none", "robust"])
def test_patch_is_trained_in_its_own_way_on_photographs_alone(shapes: Shapes, quick: Quick, refine: str) -> None:
    settings = quick(network="patch", refine=refine)
    preprocess = Preprocess(height=64, width=64, fit="tile", scale=0.5, overlap=16, self_reference="row_column")
    photographs = PhotographStore([np.zeros((70, 70), dtype=np.uint8)] * 16, preprocess)
    assert type(strategy_for(Task.of(settings, photographs, CPU))) is PatchTraining
    with pytest.raises(DataError, match="network patch trains on photographs, expected fit tile; leave --fit out"):
        strategy_for(Task.of(settings, shapes(16)[0], CPU))
