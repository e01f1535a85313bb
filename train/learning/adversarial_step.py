"""One step of (adversarial) autoencoder training with per-sample weights in every loss.

Adversarial autoencoder: Makhzani et al. 2015, arXiv 1511.05644. Weights: Beggel, Pfeiffer, Bischl 2019,
arXiv 1901.06355 section 4.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from train.distributed import ALONE, World
from train.learning.shared_norm import share_norms
from train.learning.snapshot import ADVERSARY
from train.learning.task import Task
from train.networks.autoencoder import DISCRIMINATOR_UNITS, Autoencoder, Discriminator
from train.networks.registry import build_autoencoder
from train.precision import uses_amp

__all__ = [
    "ADVERSARIAL_CAP",
    "Learner",
    "StepLosses",
    "draw_prior",
    "fresh_learner",
    "named_optimizers",
    "weighted_mean",
]

ADVERSARIAL_CAP = 4.0 * math.log(2.0)
"""A negatively weighted adversarial loss counts up to this, four times its value for an undecided discriminator
(nats); without a bound, minus a cross-entropy falls for ever."""


@dataclass(frozen=True, slots=True)
class StepLosses:
    """Losses of one step, detached scalars."""

    reconstruction: Tensor
    """sum_i w_i ||x_i - x_hat_i|| / B"""
    encoder: Tensor
    """sum_i w_i (-log D(z_i)) / B, nats; zero without an adversary"""
    discriminator: Tensor
    """Cross-entropy of prior draws and weighted codes, nats; zero without an adversary"""


def weighted_mean(loss: Tensor, weights: Tensor, cap: float, batch_size: int | None = None) -> Tensor:
    """sum_i w_i l_i / B, with l_i held at `cap` where w_i < 0, so that the sum is bounded below.

    loss, weights: (B,), or a share of B samples where batch_size says so. Beyond the cap a negatively weighted sample
    has no gradient: it is far enough away.
    """
    bounded = torch.where(weights < 0, loss.clamp(max=cap), loss)
    return (weights * bounded).sum() / (batch_size or len(loss))


class Learner:
    """Autoencoder, discriminator and their optimisers."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        discriminator: Discriminator | None,
        *,
        learning_rate: float,
        adversarial_weight: float,
        world: World = ALONE,
        amp: bool = False,
    ) -> None:
        """discriminator: None trains a conventional autoencoder, on the reconstruction error alone.

        world: the processes that share every batch. amp: networks run in bfloat16 where autocast takes them there;
        losses, gradients and weights stay float32.
        """
        self.autoencoder = autoencoder
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.world = world
        self.amp = amp
        share_norms(autoencoder, world)
        # Fused: a quarter of the time of a step over each moment in turn, and half of a training step of `mlp`.
        self.optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate, fused=True)
        self.discriminator_optimizer = (
            None
            if discriminator is None
            else torch.optim.Adam(discriminator.parameters(), lr=learning_rate, fused=True)
        )

    def step(
        self,
        prepared: Tensor,
        weights: Tensor,
        prior_draws: Tensor,
        *,
        error_cap: float = math.inf,
        code_noise: Tensor | None = None,
        batch_size: int | None = None,
    ) -> StepLosses:
        """One step of the autoencoder and one of the discriminator.

        prepared: what the network prepares for images (B, C, H, W) in [0, 1]; weights: (B,), w_i; prior_draws: (B, D)
        from the prior. error_cap: where a negatively weighted reconstruction error stops counting. code_noise: (B, D),
        added to the codes before they are decoded. batch_size: of the whole batch, where B is this process's share of
        it; losses come back as this share's summands.
        """
        n = len(weights) if batch_size is None else batch_size
        with self._autocast(prepared):
            z, error = self.autoencoder.reconstruct(prepared, code_noise)
        reconstruction = weighted_mean(_at_least_float32(error), weights, error_cap, n)
        if self.discriminator is None:
            self._descend(self.optimizer, reconstruction)
            zero = torch.zeros_like(reconstruction)
            return StepLosses(reconstruction.detach(), zero, zero)

        # One pass serves both losses: the discriminator changes only after the second.
        on_z = self._logits(z)
        fooled = weighted_mean(softplus(-on_z), weights, ADVERSARIAL_CAP, n)
        self._descend(self.optimizer, reconstruction + self.adversarial_weight * fooled, again=True)

        assert self.discriminator_optimizer is not None, "made together with the discriminator"
        on_prior = softplus(-self._logits(prior_draws)).sum() / n
        on_codes = weighted_mean(softplus(on_z), weights, ADVERSARIAL_CAP, n)
        self._descend(self.discriminator_optimizer, on_prior + on_codes)
        return StepLosses(reconstruction.detach(), fooled.detach(), (on_prior + on_codes).detach())

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the rate of both optimisers from the next step on."""
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def modules(self) -> dict[str, nn.Module]:
        """The networks by the name under which their weights are stored."""
        named = self.autoencoder.parts()
        if self.discriminator is not None:
            named[ADVERSARY] = self.discriminator
        return named

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by the name under which their state is stored."""
        return named_optimizers(self.optimizer, self.discriminator_optimizer)

    def _autocast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.amp)

    def _logits(self, z: Tensor) -> Tensor:
        assert self.discriminator is not None, "asked for with an adversary alone"
        with self._autocast(z):
            logits: Tensor = self.discriminator(z)
        return _at_least_float32(logits)

    def _descend(self, optimizer: torch.optim.Optimizer, loss: Tensor, *, again: bool = False) -> None:
        """again: another loss goes back through parts of the same graph."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        # Their gradients alone: those of the other network would cost a third of its backward pass, for nothing.
        loss.backward(inputs=parameters, retain_graph=again)
        self.world.sum_gradients(parameters)
        optimizer.step()


def fresh_learner(task: Task, seed: int, *, latent_dim: int | None = None, units: int = DISCRIMINATOR_UNITS) -> Learner:
    """The network that the task's settings name, with weights drawn by the seed, and its adversary with method aae.

    latent_dim: None takes the settings'. units: of the adversary's hidden layers.
    """
    settings = task.settings
    latent_dim = latent_dim or settings.latent_dim
    channels, height, width = task.input_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = build_autoencoder(
            settings.network,
            channels=channels,
            height=height,
            width=width,
            latent_dim=latent_dim,
            batch_norm=settings.method == "aae",
            width_factor=settings.width,
        )
        discriminator = Discriminator(latent_dim, units) if settings.method == "aae" else None
    return Learner(
        # Channels last is 1.5 to 2.5 times faster for these convolutions on a CPU.
        autoencoder.to(task.device).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        discriminator.to(task.device) if discriminator is not None else None,
        learning_rate=settings.learning_rate,
        adversarial_weight=settings.adversary_pull,
        world=task.world,
        amp=uses_amp(settings.amp, task.device),
    )


def named_optimizers(
    autoencoder: torch.optim.Optimizer, discriminator: torch.optim.Optimizer | None
) -> dict[str, torch.optim.Optimizer]:
    """The optimisers by the name under which their state is stored; None: there is no adversary."""
    named = {"autoencoder": autoencoder}
    return named if discriminator is None else {**named, ADVERSARY: discriminator}


def _at_least_float32(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def draw_prior(dim: int, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(n, dim) float32 draws from N(0, I), which the adversary holds codes to.

    generator: the run's own, on the CPU: the same draws on every device.
    """
    return torch.randn(n, dim, generator=generator).to(device)
