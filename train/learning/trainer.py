"""The loop of a training run: phases, epochs, and a state that can be put away and resumed.

What is done in a phase is a Strategy's (strategy.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.learning.snapshot import Snapshot, State
from train.learning.strategy import EpochLosses, Phase, Strategy

__all__ = ["EpochRow", "Trainer"]

GENERATOR = "generator"
"""Among a snapshot's tensors: the state of the task's generator."""

RANGES = {"guidance": (-1, 2), "fold": (0, 1 << 15), "rejected_in": (-(1 << 15), 1 << 15)}
"""Of arrays that a refinement keeps of the images, which values there are"""


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

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EpochRow:
        """A row read back; raises TypeError for other names and values."""
        kinds = {"str": (str,), "int": (int,), "float": (int, float)}
        row = cls(**values)
        wrong = [
            field.name for field in fields(cls) if not isinstance(getattr(row, field.name), kinds[str(field.type)])
        ]
        if wrong:
            raise TypeError(f"a row has no {', '.join(wrong)}: {values}")
        return row


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

    def check(self, snapshot: Snapshot) -> None:
        """Hold a snapshot from a file, before the first step, to what this run would write itself.

        Raises ValueError, KeyError or TypeError for one that cannot be of such a run.
        """
        self._check_position(snapshot.position)
        self._check_refinement(snapshot.refinement)

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a run with the same settings and images, its own or one that `check` let pass.

        Raises ValueError, KeyError, TypeError or RuntimeError for a snapshot that cannot be of such a run.
        """
        self.phase_index = snapshot.position["phase_index"]
        self.epoch_in_phase = snapshot.position["epoch_in_phase"]
        self.rows = [EpochRow.from_json(row) for row in snapshot.rows]
        self._logged = list(snapshot.rows)
        self.task.generator.set_state(snapshot.tensors[GENERATOR].cpu())
        # A snapshot between two phases holds the networks of the one that was closed.
        closed = self.epoch_in_phase == 0 and self.phase_index > 0
        state = State(snapshot.tensors, snapshot.refinement)
        self.strategy.restore(state, self.phase_index - 1 if closed else self.phase_index, closed=closed)

    def _check_position(self, position: dict[str, int]) -> None:
        phases = self.strategy.phases
        phase, epoch = position["phase_index"], position["epoch_in_phase"]
        epochs = [*(phase.epochs for phase in phases), 1]
        whole = type(phase) is int and type(epoch) is int
        if not (whole and 0 <= phase <= len(phases) and 0 <= epoch < max(1, epochs[phase])):
            raise ValueError(f"it stands at epoch {epoch!r} of phase {phase!r}, the run has {len(phases)} phases")

    def _check_refinement(self, arrays: dict[str, NDArray[Any]]) -> None:
        """What is known of the images must be of as many, and of the kind that the run keeps."""
        n_images = len(self.task.images)
        for name, own in self.strategy.refinement.to_arrays().items():
            if name not in arrays and not len(own):
                continue  # checkpoints of before lack some
            stored = arrays[name]
            same_length = len(own) == 0 or stored.shape[:1] == own.shape[:1]
            if stored.dtype != own.dtype or stored.ndim != own.ndim or not same_length:
                raise ValueError(
                    f"{name} is {stored.shape} {stored.dtype}, expected {own.shape} {own.dtype} for {n_images} images"
                )
        for name, (low, high) in {**RANGES, "used": (0, n_images), "owners": (0, n_images)}.items():
            stored = arrays.get(name, np.zeros(0, dtype=np.int64))
            if stored.dtype.kind != "i" or stored.ndim != 1 or ((stored < low) | (stored >= high)).any():
                raise ValueError(f"{name} is {stored.shape} {stored.dtype}, expected numbers from {low} to {high - 1}")
        if not np.isfinite(arrays.get("weights", np.zeros(0))).all():
            raise ValueError("weights of images are not finite")

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
