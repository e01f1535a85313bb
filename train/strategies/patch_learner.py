"""One step of training `patch`: defects marked, clean tiles reconstructed, codes held to the prior at every site."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from edge_runtime.errors import ConfigError
from edge_runtime.model.self_reference import MASK
from train.learning.adversarial_step import StepLosses, named_optimizers
from train.learning.snapshot import ADVERSARY
from train.networks.patch_network import RECONSTRUCTED, PatchNetwork, SiteDiscriminator
from train.networks.structure_losses import multi_scale_dissimilarity, valid_blocks
from train.precision import has_bfloat16
from train.synthesis.patch_batches import Batch

__all__ = ["LossWeights", "PatchLearner"]

PIXEL_SCALE = 12.0
"""Of the absolute error: an error of a twelfth, what medians leave, counts one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """What each part of the loss counts."""

    focal: float = 5.0
    """Cross-entropy of each cell of the map, scaled by how wrong it is (Lin et al. 2017, arXiv 1708.02002)."""
    positive: float = 2.0
    """Factor on cells with a defect, which are few."""
    dice: float = 0.3
    """1 - overlap of map and mask, which a small defect moves as much as a large one."""
    whole: float = 0.3
    """Cross-entropy of the tile."""
    reconstruction: float = 0.2
    """Absolute error and gradient dissimilarity of clean tiles."""
    adversarial: float = 0.02
    """-log D(z) of clean tiles at every site."""

    def __post_init__(self) -> None:
        for name in ("focal", "positive", "dice", "whole", "reconstruction", "adversarial"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"loss weight {name} is {getattr(self, name)}, expected 0 or more")


class PatchLearner:
    """Network, discriminator, optimisers, and the running mean of the weights, which is what is kept."""

    def __init__(
        self,
        autoencoder: PatchNetwork,
        discriminator: SiteDiscriminator | None,
        *,
        learning_rate: float,
        weights: LossWeights,
        decay: float = 0.99,
    ) -> None:
        """decay: of the running mean of weights, a step. discriminator: None trains without a prior."""
        self.training = autoencoder
        self.autoencoder = copy.deepcopy(autoencoder).eval()
        self.discriminator = discriminator
        self.weights = weights
        self.decay = decay
        self.steps = 0
        self.optimizer = torch.optim.AdamW(
            autoencoder.parameters(), lr=learning_rate, weight_decay=1e-3, betas=(0.9, 0.99)
        )
        self.discriminator_optimizer = (
            torch.optim.Adam(discriminator.parameters(), lr=1e-3) if discriminator is not None else None
        )

    def step(self, batch: Batch, draws: Tensor) -> StepLosses:
        """One step of every network. draws: (B', D, h, w) from the prior, at least as many as there are clean tiles."""
        device = next(self.training.parameters()).device
        x = batch.tiles.to(device).to(torch.float32, memory_format=torch.channels_last) / 255.0
        masks = batch.masks.to(device)
        target = 1.0 - valid_blocks((~masks).float())  # (B, H/2, W/2), any pixel of four
        clean = ~masks.flatten(1).any(dim=1)
        self.training.train()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=has_bfloat16(device)):
            z, logits = self.training.marked(x)
            whole = self.training.head.whole(logits)
            z_clean = z[clean]
            x_hat = self.training.decoder(z_clean)
        z_clean, logits, whole = z_clean.float(), logits.float(), whole.float()
        loss = self._marking(logits, whole, target, x[:, MASK], clean)
        restoring = self._restoring(x[clean], x_hat.float()) if len(z_clean) else loss.new_zeros(())
        fooled = loss.new_zeros(())
        if self.discriminator is not None and len(z_clean):
            fooled = softplus(-self.discriminator(z_clean)).mean()
        total = loss + self.weights.reconstruction * restoring + self.weights.adversarial * fooled
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.training.parameters(), 5.0)
        self.optimizer.step()
        told_apart = self._discriminate(z_clean.detach(), draws.to(device))
        self._average()
        self.marking = loss.detach()
        return StepLosses((loss + restoring).detach(), fooled.detach(), told_apart)

    def set_learning_rate(self, learning_rate: float) -> None:
        """Change the network's rate from the next step on."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def modules(self) -> dict[str, nn.Module]:
        """The networks by the name under which their weights are stored: the mean of weights under the plain names."""
        named = self.autoencoder.parts()
        named |= {f"raw_{name}": module for name, module in self.training.parts().items()}
        if self.discriminator is not None:
            named[ADVERSARY] = self.discriminator
        return named

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by the name under which their state is stored."""
        return named_optimizers(self.optimizer, self.discriminator_optimizer)

    def _marking(self, logits: Tensor, whole: Tensor, target: Tensor, valid: Tensor, clean: Tensor) -> Tensor:
        weights = self.weights
        cells = valid_blocks(valid)  # (B, H/2, W/2), 1 where nothing is padding
        entropy = binary_cross_entropy_with_logits(logits, target, reduction="none")
        p = logits.sigmoid()
        wrong = target * (1.0 - p) + (1.0 - target) * p
        cell_loss = entropy * wrong * (1.0 + (weights.positive - 1.0) * target) * cells
        focal = cell_loss.sum() / cells.sum().clamp(min=1.0)
        overlap = 2.0 * (p * target * cells).sum(dim=(1, 2)) + 1.0
        union = ((p + target) * cells).sum(dim=(1, 2)) + 1.0
        with_defect = (~clean).float()
        dice = ((1.0 - overlap / union) * with_defect).sum() / with_defect.sum().clamp(min=1.0)
        whole_loss = binary_cross_entropy_with_logits(whole, with_defect)
        return weights.focal * focal + weights.dice * dice + weights.whole * whole_loss

    def _restoring(self, x: Tensor, x_hat: Tensor) -> Tensor:
        valid = x[:, MASK:]
        pixels = ((x[:, :RECONSTRUCTED] - x_hat).abs() * valid).sum() / (RECONSTRUCTED * valid.sum()).clamp(min=1.0)
        structure = sum(part.mean() for part in multi_scale_dissimilarity(x[:, :1], x_hat[:, :1], valid)[1:])
        return PIXEL_SCALE * pixels + structure

    def _discriminate(self, z: Tensor, draws: Tensor) -> Tensor:
        if self.discriminator is None or self.discriminator_optimizer is None or not len(z):
            return torch.zeros(())
        on_prior = softplus(-self.discriminator(draws[: len(z)])).mean()
        on_codes = softplus(self.discriminator(z)).mean()
        # Clearing first drops what the encoder's adversarial loss left in the discriminator's gradients.
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        (on_prior + on_codes).backward()
        self.discriminator_optimizer.step()
        return (on_prior + on_codes).detach()

    @torch.no_grad()
    def _average(self) -> None:
        self.steps += 1
        # Early on the mean reaches back over the few steps there are, not to the random start.
        share = max(1.0 - self.decay, 1.0 / (1.0 + self.steps))
        mean = [value for value in self.autoencoder.state_dict().values() if value.is_floating_point()]
        now = [value for value in self.training.state_dict().values() if value.is_floating_point()]
        torch._foreach_lerp_(mean, now, share)
