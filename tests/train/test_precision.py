from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import ConfigError
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.precision import uses_amp
from train.refinement.settings import RobustSettings
from train.schedule import Schedule
from train.strategies.choice import strategy_for

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]

CPU = torch.device("cpu")
LOSS_TOLERANCE = 0.03
"""Of the float32 run's reconstruction loss after six epochs: bfloat16 keeps 8 bits, 0.4 % of each value."""


def trained(shapes: Shapes, *, amp: bool, **changes: Any) -> Trainer:
    settings: dict[str, Any] = {"network": "hog", "latent_dim": 4, "schedule": Schedule(train=6), "batch_size": 16}
    task = Task.of(TrainSettings(**{**settings, "amp": amp, **changes}), shapes(64)[0], CPU)
    trainer = Trainer(strategy_for(task))
    assert trainer.run()
    return trainer


@pytest.mark.parametrize(("network", "method"), [("hog", "aae"), ("conv", "aae"), ("mlp", "ae")])
def test_a_bfloat16_run_trains_to_the_loss_of_a_float32_run(shapes: Shapes, network: str, method: str) -> None:
    full, mixed = (trained(shapes, amp=amp, network=network, method=method) for amp in (False, True))
    first, last = full.rows[0].reconstruction_loss, full.rows[-1].reconstruction_loss
    assert last < 0.9 * first
    assert mixed.rows[-1].reconstruction_loss != last
    assert mixed.rows[-1].reconstruction_loss == pytest.approx(last, rel=LOSS_TOLERANCE)


def test_layers_compute_in_bfloat16_while_they_train_and_in_float32_when_they_score(shapes: Shapes) -> None:
    trainer = trained(shapes, amp=True)
    seen: list[torch.dtype] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output.dtype)

    for layer in trainer.strategy.autoencoder.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(note)
    criteria, codes = trainer.strategy.criteria_and_codes()
    assert set(seen) == {torch.float32}
    assert criteria.dtype == codes.dtype == np.float32
    seen.clear()
    n = 8
    prepared = trainer.strategy.autoencoder.prepare(torch.rand(n, 1, 16, 16))
    losses = trainer.strategy.learner.step(prepared, torch.ones(n), torch.randn(n, 4))
    assert set(seen) == {torch.bfloat16}
    assert {loss.dtype for loss in (losses.reconstruction, losses.encoder, losses.discriminator)} == {torch.float32}
    floats = [tensor for tensor in trainer.snapshot().tensors.values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}


def test_out_of_fold_criteria_and_the_density_of_a_bfloat16_run_are_float32(shapes: Shapes) -> None:
    trainer = trained(
        shapes, amp=True, refine="robust", schedule=Schedule(train=2, refine=2), robust=RobustSettings(folds=2)
    )
    criteria = trainer.strategy.calibration_criteria()
    assert criteria.dtype == np.float32
    assert np.isfinite(criteria).all()
    # A value that went through bfloat16 has the lower 16 bits of its float32 clear.
    assert (criteria.view(np.uint32) & 0xFFFF).any(axis=0).all()


def test_the_cpu_uses_bfloat16_only_when_asked() -> None:
    assert not uses_amp(None, CPU)
    assert not uses_amp(False, CPU)
    assert uses_amp(True, CPU)


def test_the_precision_survives_the_run_folders_settings() -> None:
    settings = TrainSettings(network="hog", latent_dim=4, schedule=Schedule(train=1), batch_size=16, amp=True)
    assert TrainSettings.from_json(settings.to_json()).amp is True
    older = {key: value for key, value in settings.to_json().items() if key != "amp"}
    assert TrainSettings.from_json(older) == replace(settings, amp=None)


def test_patch_refuses_bfloat16() -> None:
    with pytest.raises(ConfigError, match="--amp: network patch takes bfloat16 by itself"):
        TrainSettings(network="patch", latent_dim=4, schedule=Schedule(train=1), batch_size=16, amp=True)
