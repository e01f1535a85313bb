"""One step of training the autoencoder of `features`: reduced features reconstructed, codes held to a prior.

Adversarial autoencoder: Makhzani et al. 2015, arXiv 1511.05644; at every site, as `patch` has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from train.learning.adversarial_step import StepLosses, named_optimizers
from train.learning.snapshot import ADVERSARY
from train.networks.features_network import FeaturesNetwork
from train.networks.patch_network import SiteDiscriminator
from train.structure.learner import StructureLearner

__all__ = ["SiteLearner"]


class SiteLearner:
    """Code and decoder layers, their adversary, and optimisers of both."""

    def __init__(
        self,
        autoencoder: FeaturesNetwork,
        discriminator: SiteDiscriminator | None,
        *,
        learning_rate: float,
        adversarial_weight: float,
    ) -> None:
        """discriminator: None trains on the reconstruction error alone."""
        self.autoencoder = autoencoder
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.structure: StructureLearner | None = None
        """Of the head, where the network has one"""
        self._layers = nn.ModuleList((autoencoder.encoder.to_code, autoencoder.decoder))
        self.optimizer = torch.optim.Adam(self._layers.parameters(), lr=learning_rate, fused=True)
        self.discriminator_optimizer = (
            None
            if discriminator is None
            else torch.optim.Adam(discriminator.parameters(), lr=learning_rate, fused=True)
        )

    def step(self, reduced: Tensor, draws: Tensor) -> StepLosses:
        """One step of each. reduced: features (B, d, h, w); draws: (B, D, h, w) from N(0, I)."""
        z = self.autoencoder.encoder.to_code(reduced)
        error = (reduced - self.autoencoder.decoder(z)).square().mean()
        fooled = error.new_zeros(()) if self.discriminator is None else softplus(-self.discriminator(z)).mean()
        self.optimizer.zero_grad(set_to_none=True)
        (error + self.adversarial_weight * fooled).backward(inputs=list(self._layers.parameters()))
        self.optimizer.step()
        return StepLosses(error.detach(), fooled.detach(), self._discriminate(z.detach(), draws))

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the autoencoder's rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def modules(self) -> dict[str, nn.Module]:
        """The networks, and what was fitted, by the name under which they are stored."""
        named = self.autoencoder.parts()
        return named if self.discriminator is None else {**named, ADVERSARY: self.discriminator}

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by the name under which their state is stored."""
        named = named_optimizers(self.optimizer, self.discriminator_optimizer)
        return named if self.structure is None else {**named, "head": self.structure.optimizer}

    def _discriminate(self, z: Tensor, draws: Tensor) -> Tensor:
        if self.discriminator is None or self.discriminator_optimizer is None:
            return z.new_zeros(())
        told_apart = softplus(-self.discriminator(draws)).mean() + softplus(self.discriminator(z)).mean()
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        told_apart.backward()
        self.discriminator_optimizer.step()
        return told_apart.detach()
