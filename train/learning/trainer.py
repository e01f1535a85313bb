"""The loop of a training run: phases, epochs, and a state that can be put away and resumed.

What is done in a phase is a Strategy's (strategy.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from train.learning.snapshot import Snapshot, State
from train.learning.strategy import EpochLosses, Phase, Strategy

__all__ = ["EpochRow", "Trainer"]

GENERATOR = "generator"
"""Among a snapshot's tensors: the state of the task's generator."""


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One line of training.csv."""

    phase: str
    epoch: int
    """1-based, within the whole run"""
    reconstruction_loss: float
    encoder_loss: float
    discriminator_loss: float
    images: int
    """Images trained on: those with a weight other than zero"""
    candidates: int
    """Images believed anomalous so far"""
    seconds: float


class Trainer:
    """Runs a strategy's phases; one seed gives the same weights again on the same machine."""

    def __init__(self, strategy: Strategy) -> None:
        """strategy: fresh; it holds networks, refinement and criteria, and is asked for them directly."""
        self.strategy = strategy
        self.task = strategy.task
        self.phase_index = 0
        self.epoch_in_phase = 0
        self.rows: list[EpochRow] = []
        # The rows as a snapshot wants them, made once: a snapshot an epoch must not cost more with every epoch.
        self._logged: list[dict[str, Any]] = []

    @property
    def total_epochs(self) -> int:
        """Epochs of the whole run."""
        return sum(phase.epochs for phase in self.strategy.phases)

    @property
    def finished(self) -> bool:
        """Whether every phase was run."""
        return self.phase_index >= len(self.strategy.phases)

    @property
    def can_calibrate(self) -> bool:
        """Whether training has come far enough for thresholds, and so for a run that export can use."""
        return self.finished or self.strategy.calibrates_early

    def run(
        self,
        on_epoch: Callable[[EpochRow], None] = lambda row: None,
        on_whole: Callable[[Snapshot], None] = lambda snapshot: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the end; returns False where `stopped` ended it.

        on_epoch is told of each epoch; on_whole gets the state after it, which can be written and resumed from.
        A stop inside an epoch goes back to the end of the last whole one, so that what is kept can be resumed as if
        nothing had happened.
        """
        stopped = self.task.world.agreed(stopped)
        last_whole = self.snapshot()
        while not self.finished:
            index, phase = self.phase_index, self.strategy.phases[self.phase_index]
            if self.epoch_in_phase == 0:
                self.strategy.open_phase(index)
            if self.epoch_in_phase < phase.epochs:
                start = time.perf_counter()
                losses = self.strategy.train_epoch(index, self.epoch_in_phase, stopped)
                if losses is None:
                    self.restore(last_whole)
                    return False
                self.epoch_in_phase += 1
                on_epoch(self._log(phase, losses, time.perf_counter() - start))
            if self.epoch_in_phase >= phase.epochs:
                self.strategy.close_phase(index)
                self.phase_index += 1
                self.epoch_in_phase = 0
            last_whole = self.snapshot()
            on_whole(last_whole)
        return True

    def snapshot(self) -> Snapshot:
        """A copy of everything that the rest of the run depends on."""
        state = self.strategy.state()
        return Snapshot(
            tensors={**state.tensors, GENERATOR: self.task.generator.get_state().clone()},
            refinement=state.refinement,
            position={"phase_index": self.phase_index, "epoch_in_phase": self.epoch_in_phase},
            rows=list(self._logged),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a run with the same settings and images."""
        self.phase_index = snapshot.position["phase_index"]
        self.epoch_in_phase = snapshot.position["epoch_in_phase"]
        self.rows = [EpochRow(**row) for row in snapshot.rows]
        self._logged = list(snapshot.rows)
        self.task.generator.set_state(snapshot.tensors[GENERATOR].cpu())
        # A snapshot between two phases holds the networks of the one that was closed.
        closed = self.epoch_in_phase == 0 and self.phase_index > 0
        state = State(snapshot.tensors, snapshot.refinement)
        self.strategy.restore(state, self.phase_index - 1 if closed else self.phase_index, closed=closed)

    def _log(self, phase: Phase, losses: EpochLosses, seconds: float) -> EpochRow:
        row = EpochRow(
            phase=phase.name,
            epoch=len(self.rows) + 1,
            reconstruction_loss=losses.reconstruction,
            encoder_loss=losses.encoder,
            discriminator_loss=losses.discriminator,
            images=losses.images,
            candidates=int(self.strategy.refinement.candidates.sum()),
            seconds=seconds,
        )
        self.rows.append(row)
        self._logged.append(asdict(row))
        return row
