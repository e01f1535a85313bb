"""Which strategy trains a task: by its network where that is trained in a way of its own, else by its refinement.

To add a kind of training: write a Strategy (train/learning/strategy.py says what it has to do) in a module of this
room, and enter it below.
"""

from __future__ import annotations

from collections.abc import Callable

from train.learning.strategy import Strategy
from train.learning.task import Task
from train.networks.registry import NetworkName
from train.schedule import RefineName
from train.strategies.patch import PatchTraining
from train.strategies.plain import PlainTraining
from train.strategies.robust import RobustTraining

__all__ = ["strategy_for"]

OF_NETWORKS: dict[NetworkName, Callable[[Task], Strategy]] = {"patch": PatchTraining}
"""Networks that no other strategy can train."""
OF_REFINEMENTS: dict[RefineName, Callable[[Task], Strategy]] = {
    "none": PlainTraining,
    "itsr": PlainTraining,
    "robust": RobustTraining,
}


def strategy_for(task: Task) -> Strategy:
    """The strategy of a task's settings, before its first step."""
    settings = task.settings
    return OF_NETWORKS.get(settings.network, OF_REFINEMENTS[settings.refine])(task)
