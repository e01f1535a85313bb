"""`hog`: an autoencoder that reads and reconstructs pixels and gradient histograms, with one global latent vector.

Gradients see shape where pixels see brightness: they are what a detector of foreign objects needs most. Everything
from image to criteria is one graph.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA, Term, reconstruction_error
from train.networks.autoencoder import Autoencoder, Measured
from train.networks.hog import HOG_MIN_SIDE, HogBlocks, check_hog_size
from train.networks.spec import NetworkSpec
from train.networks.whitening import ridged, whitening
from train.schedule import Schedule

__all__ = ["HOG", "HogNetwork"]

HIDDEN = (320, 160)
"""Units of the two hidden layers at width 1: a million weights on 28x28 images."""
SLOPE = 0.1


class HogNetwork(Autoencoder):
    """Fully connected encoder and decoder, each with a linear path beside it, on standardised pixels and gradients.

    The linear path alone is principal component analysis; the rest bends it.
    """

    own_criteria = (*CRITERIA, "coarse_gradient_error", "fine_gradient_error", "gradient_distance")
    """After the two that every network has: summed squared errors of both gradient blocks in units of BLOCK_VARIANCE
    over the training images, and the squared Mahalanobis distance of the coarse block's residual."""

    standardises_inputs = True

    encoder: HogEncoder
    decoder: HogDecoder

    def __init__(self, *, channels: int, height: int, width: int, latent_dim: int, hidden: float = 1.0) -> None:
        """hidden: factor on the hidden layers' units. Raises ConfigError for sizes that the network cannot take."""
        check_hog_size(height, width)
        blocks = HogBlocks(channels, height, width)
        units = [max(8, round(hidden * n)) for n in HIDDEN]
        super().__init__(HogEncoder(blocks, latent_dim, units), HogDecoder(blocks, latent_dim, units), latent_dim)
        self.statistics = ResidualStatistics(blocks.sizes[1])
        self.sizes = blocks.sizes

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and decoder, each with the standardisation it needs, and the residual's statistics."""
        return {**super().parts(), "statistics": self.statistics}

    def terms(self, prior: Prior) -> dict[str, Term]:
        """The mean of the logs of five squared distances, each over what is usual for it."""
        share = 1.0 / len(self.own_criteria)
        return {
            "reconstruction_error": Term(weight=2.0 * share),  # the log of its square
            "neg_log_prior": Term(weight=share, floor=prior.floor),
            **{name: Term(weight=share) for name in self.own_criteria[len(CRITERIA) :]},
        }

    def prepare(self, x: Tensor) -> Tensor:
        """Standardised pixels and gradients (B, F) of images (B, C, H, W) in [0, 1]."""
        return self.encoder.blocks(x)

    def reconstruct(self, prepared: Tensor, code_noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Codes (B, D) and the summed squared error of all blocks (B,), of inputs (B, F)."""
        z = self.encoder.code(prepared)
        restored = self.decoder.restore(z if code_noise is None else z + code_noise)
        return z, (prepared - restored).square().sum(dim=1)

    def fit_inputs(self, images: Tensor) -> None:
        """Centre and scale of each block, from uint8 images (N, C, H, W)."""
        self.encoder.blocks.fit(images)
        self.load_input_statistics(self.input_statistics())

    def input_statistics(self) -> dict[str, Tensor]:
        """Centre and scale of each block."""
        return {name: value.clone() for name, value in self.encoder.blocks.state_dict().items()}

    def load_input_statistics(self, statistics: dict[str, Tensor]) -> None:
        """Encoder and decoder standardise alike."""
        for blocks in (self.encoder.blocks, self.decoder.blocks):
            blocks.load_state_dict(statistics)

    @torch.inference_mode()
    def fit_statistics(self, prepared: Tensor) -> None:
        """Covariance of the coarse gradients' residual, over prepared images (N, F) believed normal."""
        residual = prepared - self.decoder.restore(self.encoder.code(prepared))
        self.statistics.fit(residual.split(self.sizes, dim=1)[1])

    def measure_prepared(self, prepared: Tensor, prior: Prior) -> Measured:
        """The outputs of the exported detector for inputs (B, F)."""
        z = self.encoder.code(prepared)
        restored = self.decoder.restore(z)
        _, coarse, fine = (prepared - restored).split(self.sizes, dim=1)
        blocks = self.encoder.blocks
        x, x_hat = blocks.pixels(prepared), blocks.pixels(restored).clamp(0.0, 1.0)
        criteria = (
            # As if every pixel of the full image had its average's error.
            reconstruction_error(x, x_hat) * math.sqrt(math.prod(blocks.pixel_pool)),
            prior.neg_log_density(z),
            coarse.square().sum(dim=1),
            fine.square().sum(dim=1),
            self.statistics(coarse),
        )
        return Measured(torch.stack(criteria, dim=1), z, (x - x_hat).square().mean(dim=1))


class HogEncoder(nn.Module):
    """Images to codes."""

    def __init__(self, blocks: HogBlocks, latent_dim: int, units: list[int]) -> None:
        super().__init__()
        n_inputs = sum(blocks.sizes)
        self.blocks = blocks
        self.layers = _layers([n_inputs, *units, latent_dim])
        self.linear = nn.Linear(n_inputs, latent_dim, bias=False)

    def code(self, prepared: Tensor) -> Tensor:
        """Codes (B, D) of standardised inputs (B, F)."""
        bent: Tensor = self.layers(prepared)
        return bent + self.linear(prepared)

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D) of images (B, C, H, W) in [0, 1]."""
        return self.code(self.blocks(x))


class HogDecoder(nn.Module):
    """Codes to images; training and scoring use the gradients too, which it restores beside the pixels."""

    def __init__(self, blocks: HogBlocks, latent_dim: int, units: list[int]) -> None:
        super().__init__()
        self.blocks = HogBlocks(*blocks.shape)
        n_inputs = sum(blocks.sizes)
        self.layers = _layers([latent_dim, *reversed(units), n_inputs])
        self.linear = nn.Linear(latent_dim, n_inputs, bias=False)

    def restore(self, z: Tensor) -> Tensor:
        """Standardised inputs (B, F) that codes (B, D) stand for."""
        bent: Tensor = self.layers(z)
        return bent + self.linear(z)

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], blocky where pixels were averaged."""
        x_hat = self.blocks.pixels(self.restore(z)).clamp(0.0, 1.0)
        if max(self.blocks.pixel_pool) == 1:
            return x_hat
        scales = [float(factor) for factor in self.blocks.pixel_pool]
        return interpolate(x_hat, scale_factor=scales, mode="nearest")


class ResidualStatistics(nn.Module):
    """Squared Mahalanobis distance of a residual (B, F) to those of normal images: (B,), F on average."""

    mean: Tensor
    whitening: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("whitening", torch.eye(size))

    def forward(self, residual: Tensor) -> Tensor:
        """The distance of each row."""
        return ((residual - self.mean) @ self.whitening).square().sum(dim=1)

    def fit(self, residual: Tensor) -> None:
        """Mean and covariance of residuals (N, F), with a ridge."""
        values = residual.double()
        covariance = torch.cov(values.T).cpu().numpy()
        self.mean.copy_(values.mean(dim=0))
        self.whitening.copy_(torch.from_numpy(whitening(ridged(covariance))))


def _layers(units: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(units)):
        layers.append(nn.Linear(n_in, n_out))
        if index < len(units) - 2:
            layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


HOG = NetworkSpec(
    name="hog",
    smallest_side=HOG_MIN_SIDE,
    check_size=lambda channels, height, width: check_hog_size(height, width),
    build=lambda architecture: HogNetwork(
        channels=architecture.channels,
        height=architecture.height,
        width=architecture.width,
        latent_dim=architecture.latent_dim,
    ),
    # A minute of one core for six thousand images of 28x28 with `robust`, whose `refine` epochs screen and whose
    # `train` epochs are those of the judging networks and of the last.
    schedules={"none": Schedule(train=40), "robust": Schedule(train=20, refine=11)},
    latent_dims={"aae": 32, "ae": 32},
    adversarial_weight=0.02,  # against summed squares
)
