from __future__ import annotations

import math

import pytest

from edge_runtime.errors import ConfigError
from train.schedule import Schedule


def test_a_schedule_scales_every_phase_and_rounds() -> None:
    assert Schedule(train=500, refine=100, retrain=500).scaled(0.125) == Schedule(train=62, refine=12, retrain=62)
    assert Schedule(train=10, refine=3, retrain=1).scaled(2.5) == Schedule(train=25, refine=8, retrain=2)


def test_a_scaled_schedule_keeps_an_epoch_where_there_was_one_and_none_where_there_was_none() -> None:
    assert Schedule(train=10, refine=2).scaled(0.001) == Schedule(train=1, refine=1, retrain=0)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan, math.inf])
def test_a_scale_that_is_no_number_above_0_is_refused(factor: float) -> None:
    with pytest.raises(ConfigError, match=r"--epochs-scale is .*, expected a number above 0"):
        Schedule(train=10).scaled(factor)


@pytest.mark.parametrize(
    ("epochs", "says"),
    [
        ({"train": 0}, "--epochs is 0, expected 1 or more"),
        ({"train": 1, "refine": -1}, "--refine-epochs is -1, expected 0 or more"),
        ({"train": 1, "retrain": -1}, "--retrain-epochs is -1, expected 0 or more"),
    ],
)
def test_a_schedule_without_training_or_with_negative_epochs_is_refused(epochs: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{says}$"):
        Schedule(**epochs)
