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

from train.networks import Autoencoder, Discriminator

__all__ = ["ADVERSARIAL_CAP", "Learner", "StepLosses", "weighted_mean"]

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


def weighted_mean(loss: Tensor, weights: Tensor, cap: float) -> Tensor:
    """sum_i w_i l_i / B, with l_i held at `cap` where w_i < 0, so that the sum is bounded below.

    loss, weights: (B,). Beyond the cap a negatively weighted sample has no gradient: it is far enough away.
    """
    bounded = torch.where(weights < 0, loss.clamp(max=cap), loss)
    return (weights * bounded).mean()


class Learner:
    """Autoencoder, discriminator and their optimisers."""

    def __init__(
        self,
        autoencoder: Autoencoder,
        discriminator: Discriminator | None,
        *,
        learning_rate: float,
        adversarial_weight: float,
    ) -> None:
        """discriminator: None trains a conventional autoencoder, on the reconstruction error alone."""
        self.autoencoder = autoencoder
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.optimizer = torch.optim.Adam(autoencoder.parameters(), lr=learning_rate)
        self.discriminator_optimizer = (
            torch.optim.Adam(discriminator.parameters(), lr=learning_rate) if discriminator is not None else None
        )

    def step(
        self,
        prepared: Tensor,
        weights: Tensor,
        prior_draws: Tensor,
        *,
        error_cap: float = math.inf,
        code_noise: Tensor | None = None,
    ) -> StepLosses:
        """One step of the autoencoder and one of the discriminator.

        prepared: what the network prepares for images (B, C, H, W) in [0, 1]; weights: (B,), w_i; prior_draws: (B, D)
        from the prior. error_cap: where a negatively weighted reconstruction error stops counting. code_noise: (B, D),
        added to the codes before they are decoded.
        """
        z, error = self.autoencoder.reconstruct(prepared, code_noise)
        reconstruction = weighted_mean(error, weights, error_cap)
        if self.discriminator is None:
            _descend(self.optimizer, reconstruction)
            zero = torch.zeros_like(reconstruction)
            return StepLosses(reconstruction.detach(), zero, zero)

        fooled = weighted_mean(softplus(-self.discriminator(z)), weights, ADVERSARIAL_CAP)
        _descend(self.optimizer, reconstruction + self.adversarial_weight * fooled)

        assert self.discriminator_optimizer is not None, "made together with the discriminator"
        on_prior = softplus(-self.discriminator(prior_draws)).mean()
        on_codes = weighted_mean(softplus(self.discriminator(z.detach())), weights, ADVERSARIAL_CAP)
        _descend(self.discriminator_optimizer, on_prior + on_codes)
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
            named["discriminator"] = self.discriminator
        return named

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by the name under which their state is stored."""
        named: dict[str, torch.optim.Optimizer] = {"autoencoder": self.optimizer}
        if self.discriminator_optimizer is not None:
            named["discriminator"] = self.discriminator_optimizer
        return named


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    # Clearing first drops what the encoder's adversarial loss left in the discriminator's gradients.
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def draw_prior(dim: int, n: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(n, dim) float32 draws from N(0, I), which the adversary holds codes to.

    generator: the run's own, on the CPU: the same draws on every device.
    """
    return torch.randn(n, dim, generator=generator).to(device)
