"""How a network is trained: method, refinement of the training set, and the epochs of each phase.

The words that settings, networks and trainers share; nothing here knows what a network or an image is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from edge_runtime.errors import ConfigError

__all__ = ["METHODS", "REFINEMENTS", "MethodName", "RefineName", "Schedule", "warmed_cosine"]

MethodName = Literal["aae", "ae"]
METHODS: tuple[MethodName, ...] = ("aae", "ae")

RefineName = Literal["none", "itsr", "robust"]
REFINEMENTS: tuple[RefineName, ...] = ("none", "itsr", "robust")


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Epochs of each phase."""

    train: int
    """All epochs without refinement; pretraining, phase 1, with ITSR."""
    refine: int = 0
    """Epochs after each detection round of ITSR, phase 2."""
    retrain: int = 0
    """Epochs of re-training, phase 3 of ITSR."""

    def __post_init__(self) -> None:
        for option, epochs, fewest in (
            ("--epochs", self.train, 1),
            ("--refine-epochs", self.refine, 0),
            ("--retrain-epochs", self.retrain, 0),
        ):
            if epochs < fewest:
                raise ConfigError(f"{option} is {epochs}, expected {fewest} or more")

    def scaled(self, factor: float) -> Schedule:
        """The schedule with every phase times factor, rounded, at least one epoch where there was one."""
        if not (math.isfinite(factor) and factor > 0):
            raise ConfigError(f"--epochs-scale is {factor}, expected a number above 0")

        def scale(epochs: int) -> int:
            return max(1, round(epochs * factor)) if epochs else 0

        return Schedule(train=scale(self.train), refine=scale(self.refine), retrain=scale(self.retrain))


FIRST_SHARE = 0.02
"""Of the highest learning rate, at the first step."""


def warmed_cosine(done: float, *, warm_up: float, least: float) -> float:
    """Share of the highest learning rate, with the share `done` of a network's steps behind it.

    It rises over the share `warm_up` of the steps, then falls as a cosine, down to `least`.
    """
    if done < warm_up:
        return max(done / warm_up, FIRST_SHARE)
    return max(0.5 * (1.0 + math.cos(math.pi * (done - warm_up) / (1.0 - warm_up))), least)
