"""The loop: rows and reports, stopping, and going on from any whole epoch as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.train.plain_runs import CPU, ITSR
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot, State
from train.learning.strategy import EpochLosses, Phase
from train.learning.task import Task
from train.learning.trainer import EpochRow, Trainer
from train.refinement.itsr import ItsrSettings, Refinement
from train.schedule import Schedule

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]
MakeTrainer = Callable[..., Trainer]

ITSR_EPOCHS = 8


def weights_of(trainer: Trainer) -> dict[str, Tensor]:
    """Every weight and optimiser moment, and the generator."""
    return trainer.snapshot().tensors


def timeless(rows: list[EpochRow]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(row).items() if name != "seconds"} for row in rows]


def assert_same_run(one: Trainer, other: Trainer) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert sorted(ours) == sorted(theirs)
    differing = [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]
    assert not differing
    assert timeless(one.rows) == timeless(other.rows)
    assert one.strategy.refinement.weights.tolist() == other.strategy.refinement.weights.tolist()
    assert one.strategy.refinement.rejected_in.tolist() == other.strategy.refinement.rejected_in.tolist()


class StopAfter:
    """Says stop at the n-th time it is asked."""

    def __init__(self, n_asked: int) -> None:
        self.left = n_asked

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_the_rows_follow_the_schedule(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**ITSR)
    assert trainer.total_epochs == ITSR_EPOCHS
    assert not trainer.finished
    assert trainer.run()
    assert trainer.finished
    assert [row.epoch for row in trainer.rows] == list(range(1, ITSR_EPOCHS + 1))
    assert [row.phase for row in trainer.rows] == [
        *["pretrain"] * 2,
        *["refine-1"] * 2,
        *["refine-2"] * 2,
        *["retrain"] * 2,
    ]


def test_every_epoch_and_every_whole_state_is_reported(make_trainer: MakeTrainer) -> None:
    rows: list[EpochRow] = []
    snapshots: list[Snapshot] = []
    trainer = make_trainer(schedule=Schedule(train=3))
    trainer.run(rows.append, snapshots.append)
    assert rows == trainer.rows
    assert [len(snapshot.rows) for snapshot in snapshots] == [1, 2, 3]


def test_a_phase_without_epochs_still_refines(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(**{**ITSR, "schedule": Schedule(train=1, refine=0, retrain=0)})
    assert trainer.run()
    assert len(trainer.rows) == 1
    assert set(trainer.strategy.refinement.rejected_in.tolist()) >= {1, 2}


@pytest.mark.parametrize("changes", [{}, {"method": "ae"}, ITSR, {"network": "mlp"}])
def test_one_seed_gives_the_same_weights_to_the_bit(make_trainer: MakeTrainer, changes: dict[str, Any]) -> None:
    runs = [make_trainer(**changes), make_trainer(**changes)]
    for trainer in runs:
        torch.rand(3)  # what else draws from torch's global generator does not matter
        trainer.run()
    assert_same_run(*runs)


def test_another_seed_gives_other_weights(make_trainer: MakeTrainer) -> None:
    one, other = (make_trainer(seed=seed) for seed in (0, 1))
    name = "encoder.0.weight"
    assert not torch.equal(weights_of(one)[name], weights_of(other)[name]), "the start depends on the seed"
    start = other.snapshot().tensors
    other.restore(Snapshot({**one.snapshot().tensors, "generator": start["generator"]}, *rest_of(other.snapshot())))
    for trainer in (one, other):
        trainer.run()
    assert not torch.equal(weights_of(one)[name], weights_of(other)[name]), "so does the order of batches"


def rest_of(snapshot: Snapshot) -> tuple[dict[str, Any], dict[str, int], list[dict[str, Any]]]:
    return snapshot.refinement, snapshot.position, snapshot.rows


def test_making_a_trainer_leaves_torch_s_global_generator_alone(make_trainer: MakeTrainer) -> None:
    before = torch.get_rng_state()
    make_trainer().run()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("n_asked", [0, 1, 4, 5])
def test_a_stop_within_an_epoch_goes_back_to_the_last_whole_one(make_trainer: MakeTrainer, n_asked: int) -> None:
    whole: list[Snapshot] = []
    trainer = make_trainer(schedule=Schedule(train=3))
    whole.append(trainer.snapshot())
    assert not trainer.run(on_whole=whole.append, stopped=StopAfter(n_asked))
    n_whole = n_asked // 3  # three batches an epoch
    assert len(trainer.rows) == n_whole
    assert len(whole) == n_whole + 1
    now = weights_of(trainer)
    assert all(torch.equal(tensor, now[name]) for name, tensor in whole[-1].tensors.items())
    assert not trainer.finished


@pytest.mark.parametrize("phase", ["pretrain", "refine-1", "refine-2", "retrain"])
def test_after_a_stop_in_any_phase_the_run_goes_on_as_if_nothing_had_happened(
    make_trainer: MakeTrainer, phase: str
) -> None:
    straight, stopped = make_trainer(**ITSR), make_trainer(**ITSR)
    straight.run()
    asked_in_phase = 0

    def at_its_second_batch() -> bool:
        nonlocal asked_in_phase
        asked_in_phase += stopped.strategy.phases[stopped.phase_index].name == phase
        return asked_in_phase == 2

    assert not stopped.run(stopped=at_its_second_batch)
    assert phase not in {row.phase for row in stopped.rows}
    assert stopped.run()
    assert_same_run(straight, stopped)


@pytest.mark.parametrize("changes", [{"schedule": Schedule(train=3)}, {"method": "ae", "schedule": Schedule(train=3)}])
def test_a_run_resumed_from_disk_ends_with_the_weights_of_one_without_a_break(
    make_trainer: MakeTrainer, tmp_path: Path, changes: dict[str, Any]
) -> None:
    straight, broken, resumed = (make_trainer(**changes) for _ in range(3))
    straight.run()
    broken.run(stopped=StopAfter(4))
    assert len(broken.rows) == 1
    broken.snapshot().write(tmp_path / "checkpoint.safetensors")
    resumed.restore(Snapshot.read(tmp_path / "checkpoint.safetensors"))
    assert resumed.run()
    assert_same_run(straight, resumed)


@pytest.mark.parametrize("epochs_before", range(1, ITSR_EPOCHS))
def test_itsr_resumed_from_disk_in_any_phase_ends_with_the_weights_of_one_without_a_break(
    make_trainer: MakeTrainer, tmp_path: Path, epochs_before: int
) -> None:
    straight = make_trainer(**ITSR)
    whole: list[Snapshot] = []
    straight.run(on_whole=whole.append)
    whole[epochs_before - 1].write(tmp_path / "checkpoint.safetensors")
    resumed = make_trainer(**ITSR)
    resumed.restore(Snapshot.read(tmp_path / "checkpoint.safetensors"))
    assert len(resumed.rows) == epochs_before
    assert resumed.run()
    assert_same_run(straight, resumed)


def test_a_finished_run_has_nothing_left_to_do(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.run()
    before = weights_of(trainer)
    assert trainer.run()
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights_of(trainer).items())


class Recorded:
    """A strategy that trains nothing and notes what it is asked: a phase without epochs, then one of two."""

    calibrates_early = False
    phases = (Phase("statistics", 0), Phase("sites", 2))

    def __init__(self, task: Task) -> None:
        self.task = task
        self.calls: list[tuple[Any, ...]] = []
        self.refinement = Refinement.fresh(len(task.images), ItsrSettings())

    def open_phase(self, index: int) -> None:
        self.calls.append(("open", index))

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        if stopped():
            return None
        self.calls.append(("train", index, epoch))
        return EpochLosses(0.0, 0.0, 0.0, len(self.task.images))

    def close_phase(self, index: int) -> None:
        self.calls.append(("close", index))

    def state(self) -> State:
        return State({}, {})

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        self.calls.append(("restore", index, closed))


@pytest.fixture
def recorded(shapes: Shapes, quick: Quick) -> Trainer:
    """A trainer of a Recorded strategy."""
    return Trainer(Recorded(Task.of(quick(), shapes(16)[0], CPU)))


def test_phases_are_opened_trained_and_closed_in_order_with_or_without_epochs(recorded: Trainer) -> None:
    positions: list[dict[str, int]] = []
    assert recorded.total_epochs == 2
    assert not recorded.can_calibrate
    assert recorded.run(on_whole=lambda snapshot: positions.append(snapshot.position))
    assert recorded.can_calibrate
    assert recorded.strategy.calls == [
        ("open", 0), ("close", 0), ("open", 1), ("train", 1, 0), ("train", 1, 1), ("close", 1)
    ]  # fmt: skip
    assert [tuple(position.values()) for position in positions] == [(1, 0), (1, 1), (2, 0)]
    assert [(row.phase, row.epoch, row.images) for row in recorded.rows] == [("sites", 1, 16), ("sites", 2, 16)]


@pytest.mark.parametrize(
    ("position", "restored"),
    [((0, 0), (0, False)), ((1, 0), (0, True)), ((1, 1), (1, False)), ((2, 0), (1, True))],
)
def test_a_strategy_is_told_which_phase_its_state_is_of_and_whether_that_was_closed(
    recorded: Trainer, position: tuple[int, int], restored: tuple[int, bool]
) -> None:
    snapshot = recorded.snapshot()
    snapshot.position.update(zip(("phase_index", "epoch_in_phase"), position, strict=True))
    recorded.restore(snapshot)
    assert recorded.strategy.calls == [("restore", *restored)]
    assert recorded.finished is (position == (2, 0))


def test_what_is_drawn_from_the_task_s_generator_is_drawn_again_after_a_restore(recorded: Trainer) -> None:
    snapshot = recorded.snapshot()
    drawn = torch.rand(3, generator=recorded.task.generator)
    recorded.restore(snapshot)
    assert torch.equal(torch.rand(3, generator=recorded.task.generator), drawn)
