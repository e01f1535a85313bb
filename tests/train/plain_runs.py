"""What tests of the loop and of plain training both start from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.refinement.itsr import ItsrSettings
from train.schedule import Schedule
from train.strategies.plain import PlainTraining

CPU = torch.device("cpu")
ITSR: dict[str, Any] = {
    "refine": "itsr",
    "schedule": Schedule(train=2, refine=2, retrain=2),
    "itsr": ItsrSettings(rounds=2, nu=0.1),
}


def trainer_of(settings: TrainSettings, images: NDArray[np.uint8]) -> Trainer:
    """A trainer of plain training, before its first step."""
    return Trainer(PlainTraining(Task.of(settings, images, CPU)))
