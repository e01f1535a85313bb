"""Several runs of network `mlp` trained side by side in one program: what the paper's table needs on a GPU.

All images lie on the device, batches are index tensors, and on CUDA a whole step of all runs is one captured graph.
Phases, refinement and networks are those of each run's own `PlainTraining`, which holds the trained weights afterwards;
the loop over its phases is this one instead of the `Trainer`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.paper.stacked_learners import StackedLearner
from edge_runtime.errors import ConfigError
from train.strategies.plain import PlainTraining

__all__ = ["Progress", "SideBySide"]

CHUNK = 256
"""Steps whose batches are drawn ahead, while the device works on those before."""

WARM_UP = 3
"""Steps before the capture of a CUDA graph: libraries allocate their workspaces in them. They count as training."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far all runs are."""

    done: int
    """Steps done, summed over the runs"""
    total: int
    """Steps of whole runs; of ITSR an upper bound, because candidates leave the training set"""
    running: int
    """Runs not yet finished"""


class SideBySide:
    """Trains fresh runs to the end of their phases, all at once.

    A run's result does not depend on its company but for rounding: its batches and draws come from its own generator,
    in the order of `PlainTraining`. One thing differs from it: a batch never is short, the end of one shuffle is
    filled up from the next; a phase has epochs x images / batch steps.
    """

    def __init__(self, trainings: Sequence[PlainTraining]) -> None:
        """trainings: fresh, with one architecture, batch size and device. Raises ConfigError otherwise."""
        _check(trainings)
        first = trainings[0].task
        self.device = first.device
        self.captured = self.device.type == "cuda"
        self.learner = StackedLearner(
            [training.learner for training in trainings],
            learning_rate=first.settings.learning_rate,
            captured=self.captured,
        )
        stores = [training.task.images for training in trainings]
        whole = (next(store.chunks(len(store))) for store in stores)
        self.images = torch.cat([images.flatten(1) for images in whole])  # (P, F) uint8
        offsets = np.cumsum([0, *map(len, stores)])
        self.dtype = next(iter(self.learner.encoder.parameters.values())).dtype
        self.weights = torch.ones(len(self.images), dtype=self.dtype, device=self.device)  # (P,)
        self.members = [
            _Member(training, int(offset)) for training, offset in zip(trainings, offsets[:-1], strict=True)
        ]
        self.total = sum(member.steps_ahead() for member in self.members)
        self.done = 0
        self._make_buffers()

    def run(
        self,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        on_finished: Callable[[PlainTraining], None] = lambda training: None,
    ) -> None:
        """Train every run to its end; each training then holds its networks and its refinement.

        on_progress is told at most every CHUNK steps; on_finished gets a training as soon as it is done.
        """
        with torch.cuda.device(self.device) if self.captured else nullcontext():
            self._run(on_progress, on_finished)

    def _run(self, on_progress: Callable[[Progress], None], on_finished: Callable[[PlainTraining], None]) -> None:
        while self._open_phases(on_finished):
            n = min(CHUNK, *(member.steps_left for member in self.members))
            batches, draws = zip(*(member.draw(n) for member in self.members), strict=True)
            self.batches[:, :n] = torch.stack(batches).to(self.device)
            self.draws[:, :n] = torch.stack(draws).to(self.device)
            self.cursor.zero_()
            for _ in range(n):
                self._advance()
            for member in self.members:
                member.steps_left -= n
            self.done += n * len(self.members)
            # No value is read back here: the next batches are drawn while a GPU works on these.
            on_progress(Progress(self.done, self.total, len(self.members)))

    def _open_phases(self, on_finished: Callable[[PlainTraining], None]) -> bool:
        """Bring every member to a phase with steps to take; drop those that have none left. False: all are done."""
        staying = []
        for index, member in enumerate(self.members):
            while member.steps_left == 0 and member.phase < len(member.training.phases):
                self.learner.write_back(index, member.training.learner)
                member.open_phase()
                self.weights[member.span] = torch.from_numpy(member.training.refinement.weights).to(self.weights)
                self.caps[index] = member.training.refinement.error_cap
            if member.steps_left:
                staying.append(index)
            else:
                self.learner.write_back(index, member.training.learner)
                on_finished(member.training)
        if staying and len(staying) < len(self.members):
            self.learner.keep(torch.tensor(staying, device=self.device))
            self.members = [self.members[index] for index in staying]
            self._make_buffers()
        return bool(staying)

    def _make_buffers(self) -> None:
        """What a captured step reads and writes: tensors whose addresses stay while the members do."""
        settings, M = self.members[0].training.task.settings, len(self.members)
        self.batches = torch.zeros(M, CHUNK, settings.batch_size, dtype=torch.int64, device=self.device)
        self.draws = torch.zeros(
            M, CHUNK, settings.batch_size, settings.latent_dim, dtype=self.dtype, device=self.device
        )
        self.caps = torch.tensor(
            [member.training.refinement.error_cap for member in self.members], dtype=self.dtype, device=self.device
        )
        self.cursor = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._warmed_up = 0
        # Warm-up and capture share a stream: libraries keep their handles by stream.
        self._stream = torch.cuda.Stream(self.device) if self.captured else None

    def _advance(self) -> None:
        if self._stream is None:
            self._step()
            return
        if self._graph is None and self._warmed_up < WARM_UP:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._stream):
                self._step()
            torch.cuda.current_stream(self.device).wait_stream(self._stream)
            self._warmed_up += 1
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._step()
        self._graph.replay()

    def _step(self) -> None:
        # Positions come from a tensor, not from Python: a replayed graph sees no Python.
        batch = self.batches.index_select(1, self.cursor).squeeze(1)  # (M, B)
        draws = self.draws.index_select(1, self.cursor).squeeze(1)  # (M, B, D)
        x = self.images[batch].to(self.dtype) / 255.0  # (M, B, F)
        self.learner.step(x, self.weights[batch], draws, self.caps)
        self.cursor += 1


class _Member:
    """One run: its phases, and its stream of batches."""

    def __init__(self, training: PlainTraining, offset: int) -> None:
        self.training = training
        self.span = slice(offset, offset + len(training.task.images))
        self.phase = 0
        """Index of the phase to open next"""
        self.steps_left = 0
        self._used = torch.empty(0, dtype=torch.int64)
        self._shuffled = torch.empty(0, dtype=torch.int64)

    def open_phase(self) -> None:
        """Detect, refine or start re-training as the phase says, and shuffle the images that train in it."""
        self.training.open_phase(self.phase)
        self._used = torch.from_numpy(np.flatnonzero(self.training.refinement.weights)) + self.span.start
        self._shuffled = self._used[:0]
        self.steps_left = self._steps(self.training.phases[self.phase].epochs, len(self._used))
        self.phase += 1

    def steps_ahead(self) -> int:
        """Steps of the whole run if no image leaves the training set."""
        return sum(self._steps(phase.epochs, len(self.training.task.images)) for phase in self.training.phases)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Indices (n, B) into all images, and draws (n, B, D) from the prior, for the next n steps."""
        settings, generator = self.training.task.settings, self.training.task.generator
        batches, draws = [], []
        for _ in range(n):
            while len(self._shuffled) < settings.batch_size:
                more = self._used[torch.randperm(len(self._used), generator=generator)]
                self._shuffled = torch.cat((self._shuffled, more))
            batches.append(self._shuffled[: settings.batch_size])
            self._shuffled = self._shuffled[settings.batch_size :]
            draws.append(torch.randn(settings.batch_size, settings.latent_dim, generator=generator))
        return torch.stack(batches), torch.stack(draws)

    def _steps(self, epochs: int, n_images: int) -> int:
        return max(1, round(epochs * n_images / self.training.task.settings.batch_size)) if epochs else 0


def _check(trainings: Sequence[PlainTraining]) -> None:
    if not trainings:
        raise ConfigError("no runs to train side by side, expected at least one")

    def architecture(training: PlainTraining) -> dict[str, object]:
        settings = training.task.settings
        return {
            "network": settings.network,
            "method": settings.method,
            "latent_dim": settings.latent_dim,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "adversarial_weight": settings.adversary_pull,
            "image shape": training.task.input_size,
            "device": training.task.device,
        }

    first = architecture(trainings[0])
    if first["network"] != "mlp":
        raise ConfigError(f"side by side takes network mlp, not {first['network']}")
    for training in trainings[1:]:
        for name, value in architecture(training).items():
            if value != first[name]:
                raise ConfigError(f"side by side, every {name} must be the same: {first[name]} and {value}")
    if any(training.learner.optimizer.state for training in trainings):
        raise ConfigError("side by side takes fresh runs; one of these has been trained")
