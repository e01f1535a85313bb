"""What every network is to training, scoring and export: encoder and decoder with criteria, and their adversary."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA, Term, anomaly_map, reconstruction_error
from train.backbones.backbone import Backbone

__all__ = ["EXPOSURE", "NORM_EPSILON", "Autoencoder", "Discriminator", "Exposure", "Measured"]

EXPOSURE = "exposure"
"""Name of the criterion that Exposure adds."""

NORM_EPSILON = 1e-12
"""Under the root of the squared error, whose slope is infinite at a perfect reconstruction."""

DISCRIMINATOR_UNITS = 1000
"""Of both hidden layers, arXiv 1901.06355 section 5."""


class Measured(NamedTuple):
    """What a detector finds in a batch: the outputs of the exported graph."""

    criteria: Tensor
    """(B, K), columns named by the network's criteria, higher = more anomalous"""
    latent: Tensor
    """(B, D), or (B, D, h, w) where every site has a code"""
    anomaly_map: Tensor
    """(B, h, w), higher = more anomalous"""


class Autoencoder(nn.Module):
    """Encoder f: X -> Z and decoder g: Z -> X, with what training, scoring and export ask of every network.

    A network that works on more than pixels overrides what differs: `prepare`, `reconstruct`, `measure_prepared`.
    """

    own_criteria: tuple[str, ...] = CRITERIA
    """Names of the columns that `measure_prepared` gives."""
    backbone: Backbone | None = None
    """What images are read through, where they are read through a pretrained one."""
    standardises_inputs: bool = False
    """Whether `prepare` reads images through numbers that fit_inputs finds."""
    latent_dim: int

    def __init__(self, encoder: nn.Module, decoder: nn.Module, latent_dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.exposure: Exposure | None = None

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the columns that `measure` gives."""
        return self.own_criteria if self.exposure is None else (*self.own_criteria, EXPOSURE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Latent z (B, D) and reconstruction x_hat, shaped as x, in [0, 1]."""
        z = self.encoder(x)  # (B, D)
        return z, self.decoder(z)  # (B, C, H, W)

    def parts(self) -> dict[str, nn.Module]:
        """The modules whose weights a run keeps, by name."""
        named = {"encoder": self.encoder, "decoder": self.decoder}
        return named if self.exposure is None else {**named, "exposure": self.exposure}

    def attach_exposure(self) -> Exposure:
        """Add the criterion `exposure`, untrained; see Exposure."""
        self.exposure = Exposure(self.latent_dim)
        return self.exposure

    def terms(self, prior: Prior) -> dict[str, Term]:
        """How the own criteria add up in the fused score: the mean log of squared distances, scales cancelled."""
        return {
            "reconstruction_error": Term(weight=1.0),  # the log of its square, halved
            "neg_log_prior": Term(weight=0.5, floor=prior.floor),
        }

    def fit_inputs(self, images: Tensor) -> None:
        """Find what images are standardised by, from uint8 images (N, C, H, W): before training, and fixed from then
        on; here nothing."""

    def input_statistics(self) -> dict[str, Tensor]:
        """What fit_inputs found, by name; the same for every network that is to read the same images."""
        return {}

    def load_input_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Read images as the network did that gave these statistics."""

    def prepare(self, x: Tensor) -> Tensor:
        """What training works on, for images (B, C, H, W) in [0, 1]; fixed, so it may be computed once and kept."""
        return x

    def reconstruct(self, prepared: Tensor, code_noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes (B, D) and the loss of each sample (B,): here the Euclidean error that the paper minimises.

        code_noise: (B, D), added to the codes on their way to the decoder.
        """
        z = self.encoder(prepared)
        x_hat = self.decoder(z if code_noise is None else z + code_noise)
        return z, ((prepared - x_hat).square().sum(dim=(1, 2, 3)) + NORM_EPSILON).sqrt()

    def fit_statistics(self, prepared: Tensor) -> None:
        """Fit what criteria need beyond the weights, on prepared images (N, ...) believed normal; here nothing."""

    def measure(self, x: Tensor, prior: Prior) -> Measured:
        """The outputs of the exported detector for images (B, C, H, W) in [0, 1]."""
        return self.measure_with_exposure(self.prepare(x), prior)

    def measure_with_exposure(self, prepared: Tensor, prior: Prior) -> Measured:
        """`measure` for what `prepare` gave."""
        measured = self.measure_prepared(prepared, prior)
        if self.exposure is None:
            return measured
        exposure = self.exposure(measured.latent)
        return measured._replace(criteria=torch.cat((measured.criteria, exposure[:, None]), dim=1))

    def measure_prepared(self, prepared: Tensor, prior: Prior) -> Measured:
        """`measure` for what `prepare` gave, without the exposure."""
        z, x_hat = self(prepared)
        criteria = torch.stack((reconstruction_error(prepared, x_hat), prior.neg_log_density(z)), dim=1)
        return Measured(criteria, z, anomaly_map(prepared, x_hat))


class Exposure(nn.Module):
    """How much a code looks like those of images that a person rejected: a probability, so what it adds is bounded.

    Logistic regression on the codes of a trained encoder; fitted by train/strategies/robust.py.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(latent_dim, 1)

    def forward(self, z: Tensor) -> Tensor:
        """Probability (B,) of having been rejected, for codes (B, D)."""
        logits: Tensor = self.linear(z)
        return logits.squeeze(1).sigmoid()


class Discriminator(nn.Module):
    """Tells draws from the prior from codes of the encoder: 2 x 1000 units, arXiv 1901.06355 section 5.

    Gives logits; the paper's sigmoid output is part of the loss, where it is stable.
    """

    def __init__(self, latent_dim: int, units: int = DISCRIMINATOR_UNITS) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, units),
            nn.ReLU(),
            nn.Linear(units, units),
            nn.ReLU(),
            nn.Linear(units, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Logit that z (B, D) came from the prior: (B,)."""
        logits: Tensor = self.layers(z)
        return logits.squeeze(1)
