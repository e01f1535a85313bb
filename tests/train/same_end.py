"""A run that was interrupted and resumed, held to one that was not."""

from __future__ import annotations

import numpy as np
import torch

from train.learning.trainer import Trainer

__all__ = ["assert_same_end"]


def assert_same_end(resumed: Trainer, whole: Trainer) -> None:
    """Both hold the same weights and the same criteria, to the bit."""
    expected, found = whole.snapshot().tensors, resumed.snapshot().tensors
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)
    np.testing.assert_array_equal(resumed.strategy.calibration_criteria(), whole.strategy.calibration_criteria())
