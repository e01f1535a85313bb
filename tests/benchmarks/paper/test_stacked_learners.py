"""Learners in a stack take the very steps they take alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmarks.paper.stacked_learners import StackedLearner, StackedSequential
from edge_runtime.errors import ConfigError
from train.learning.adversarial_step import Learner
from train.networks.autoencoder import Discriminator
from train.networks.registry import build_autoencoder

M, B, SIDE, D = 3, 12, 8, 2
STEPS = 6
# Rounding of double precision, grown over the steps by Adam.
TOLERANCE = 1e-8


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of 40 units for the paper's 1000."""
    monkeypatch.setattr("train.networks.mlp.MLP_HIDDEN", 40)


def learner(seed: int, *, adversarial: bool = True) -> Learner:
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(
        "mlp", channels=1, height=SIDE, width=SIDE, latent_dim=D, batch_norm=adversarial
    ).double()
    discriminator = Discriminator(D).double() if adversarial else None
    return Learner(autoencoder, discriminator, learning_rate=1e-3, adversarial_weight=4.0)


def batches(seed: int) -> list[tuple[torch.Tensor, ...]]:
    """(x, weights, prior draws, caps) of every step for M members; the first has caps that are reached."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    caps = torch.tensor([1.5, 100.0, math.inf], dtype=torch.float64)
    signs = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64)
    return [
        (
            drawn(M, B, 1, SIDE, SIDE),
            signs[torch.randint(0, 3, (M, B), generator=generator)],
            drawn(M, B, D) * 2 - 1,
            caps,
        )
        for _ in range(STEPS)
    ]


def assert_equal_networks(one: Learner, other: Learner) -> None:
    for name, network in one.modules().items():
        expected = other.modules()[name].state_dict()
        for key, value in network.state_dict().items():
            torch.testing.assert_close(value, expected[key], rtol=TOLERANCE, atol=TOLERANCE, msg=f"{name}.{key}")


@pytest.mark.parametrize("adversarial", [True, False])
def test_stacked_steps_equal_steps_one_after_another(adversarial: bool) -> None:
    alone = [learner(seed, adversarial=adversarial) for seed in range(M)]
    together = [learner(seed, adversarial=adversarial) for seed in range(M)]
    stack = StackedLearner(together, learning_rate=1e-3, captured=False)
    for x, weights, draws, caps in batches(0):
        losses = stack.step(x.flatten(2), weights, draws, caps)
        for m, single in enumerate(alone):
            expected = single.step(x[m], weights[m], draws[m], error_cap=float(caps[m]))
            torch.testing.assert_close(
                losses[m], torch.stack((expected.reconstruction, expected.encoder, expected.discriminator))
            )
    for m in range(M):
        stack.write_back(m, together[m])
        assert_equal_networks(together[m], alone[m])


def test_a_member_that_leaves_does_not_disturb_the_others() -> None:
    alone = [learner(seed) for seed in range(M)]
    together = [learner(seed) for seed in range(M)]
    stack = StackedLearner(together, learning_rate=1e-3, captured=False)
    staying = torch.tensor([0, 2])
    for number, (x, weights, draws, caps) in enumerate(batches(1)):
        for m, single in enumerate(alone):
            single.step(x[m], weights[m], draws[m], error_cap=float(caps[m]))
        if number == STEPS // 2:
            stack.keep(staying)
        if number >= STEPS // 2:
            x, weights, draws, caps = (values[staying] for values in (x, weights, draws, caps))
        stack.step(x.flatten(2), weights, draws, caps)
    for position, m in enumerate(staying.tolist()):
        stack.write_back(position, together[m])
        assert_equal_networks(together[m], alone[m])


def test_layers_beyond_dense_ones_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="dense layers of network mlp, not Conv2d"):
        StackedSequential([nn.Sequential(nn.Conv2d(1, 1, 3))])
