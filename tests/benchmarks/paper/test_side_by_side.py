"""Runs trained side by side are the runs that each would have been alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from benchmarks.paper.side_by_side import Progress, SideBySide
from edge_runtime.errors import ConfigError
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.refinement.itsr import ItsrSettings
from train.schedule import Schedule
from train.strategies.plain import PlainTraining

Quick = Callable[..., TrainSettings]
Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of 40 units for the paper's 1000."""
    monkeypatch.setattr("train.networks.mlp.MLP_HIDDEN", 40)


@pytest.fixture
def fresh(shapes: Shapes, quick: Quick) -> Callable[..., PlainTraining]:
    """fresh(seed, n=..., **settings): an untrained mlp on 8x8 shapes."""

    def make(seed: int, *, n: int = 64, **changes: Any) -> PlainTraining:
        images, _ = shapes(n, n // 16, side=8, seed=seed)
        return PlainTraining(Task.of(quick(**{"network": "mlp", "seed": seed, **changes}), images, CPU))

    return make


def test_whole_batches_give_what_the_trainer_gives(fresh: Callable[..., PlainTraining]) -> None:
    def runs() -> list[PlainTraining]:
        return [fresh(seed, n=64, method="ae", schedule=Schedule(train=3)) for seed in range(2)]

    together, alone = runs(), runs()
    SideBySide(together).run()
    for one, other in zip(together, alone, strict=True):
        Trainer(other).run()
        np.testing.assert_allclose(one.criteria_and_codes()[0], other.criteria_and_codes()[0], rtol=1e-3)


def test_company_and_shorter_runs_change_nothing(
    fresh: Callable[..., PlainTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    # In double precision, with candidates that are given: a one-class SVM would turn rounding into other candidates.
    monkeypatch.setattr(PlainTraining, "open_phase", _refine_every_third)

    def runs() -> list[PlainTraining]:
        itsr = Schedule(train=1, refine=1, retrain=2)
        trainings = [
            fresh(0, n=100, schedule=Schedule(train=3)),
            fresh(1, n=50, schedule=Schedule(train=1)),
            fresh(2, n=70, refine="itsr", schedule=itsr, itsr=ItsrSettings(rounds=2)),
        ]
        for training in trainings:
            for network in training.learner.modules().values():
                network.double()
        return trainings

    together, finished = runs(), []
    SideBySide(together).run(on_finished=lambda training: finished.append(training.task.settings.seed))
    assert finished == [1, 2, 0]
    for one, other in zip(together, runs(), strict=True):
        SideBySide([other]).run()
        np.testing.assert_array_equal(one.refinement.weights, other.refinement.weights)
        for name, network in one.learner.modules().items():
            expected = other.learner.modules()[name].state_dict()
            for key, value in network.state_dict().items():
                torch.testing.assert_close(value, expected[key], rtol=1e-8, atol=1e-8)


def _refine_every_third(training: PlainTraining, index: int) -> None:
    phase, refinement = training.phases[index], training.refinement
    if phase.detection_round:
        refinement.rejected_in[phase.detection_round :: 3] = phase.detection_round
        refinement.weights[refinement.candidates] = 0.0
    if phase.retrains:
        refinement.start_retraining(np.linspace(1.0, 2.0, len(refinement.weights), dtype=np.float32))


def test_itsr_refines_between_its_phases(fresh: Callable[..., PlainTraining]) -> None:
    training = fresh(
        0, n=200, refine="itsr", schedule=Schedule(train=4, refine=1, retrain=2), itsr=ItsrSettings(rounds=3)
    )
    SideBySide([training]).run()
    rounds = training.refinement.rejected_in
    assert set(rounds[rounds > 0].tolist()) == {1, 2, 3}
    assert (training.refinement.weights < 0).any()


def test_a_batch_is_filled_up_from_the_next_shuffle(fresh: Callable[..., PlainTraining]) -> None:
    # 3 epochs of 40 images in batches of 16 are 7.5 steps.
    reports: list[Progress] = []
    SideBySide([fresh(0, n=40, schedule=Schedule(train=3))]).run(on_progress=reports.append)
    assert reports[-1] == Progress(done=8, total=8, running=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 3}, "every latent_dim must be the same: 2 and 3"),
        ({"batch_size": 8}, "every batch_size must be the same: 16 and 8"),
        ({"method": "ae"}, "every method must be the same: aae and ae"),
    ],
)
def test_runs_that_cannot_share_a_step_are_refused(
    fresh: Callable[..., PlainTraining], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        SideBySide([fresh(0), fresh(1, **change)])


def test_a_convolutional_network_is_refused(shapes: Shapes, quick: Quick) -> None:
    training = PlainTraining(Task.of(quick(network="conv"), shapes(32)[0], CPU))
    with pytest.raises(ConfigError, match="takes network mlp, not conv"):
        SideBySide([training])


def test_a_trained_run_is_refused(fresh: Callable[..., PlainTraining]) -> None:
    training = fresh(0)
    Trainer(training).run()
    with pytest.raises(ConfigError, match="fresh runs"):
        SideBySide([training])
