"""`hog`: an autoencoder that reads and reconstructs pixels and gradient histograms, with one global latent vector.

Gradients see shape where pixels see brightness: they are what a detector of foreign objects needs most. Everything
from image to criteria is one graph.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA, Term, reconstruction_error
from train.networks.autoencoder import Autoencoder, Measured
from train.networks.hog import BINS, OrientedGradients, cell_histograms, grey

__all__ = ["HOG_MIN_SIDE", "HogNetwork", "check_hog_size"]

HOG_MIN_SIDE = 16
"""Pixels: four cells of four."""

PIXEL_SIDE = 32
"""Pixels of the longer side that are reconstructed; larger images are averaged down to it."""
GRADIENT_SIDE = 64
"""Pixels of the longer side at which gradients are taken: below it lies noise more than shape."""
COARSE_CELLS = 4
FINE_CELLS = (7, 8)
"""Cells along each side: 4 and 7 of an image whose sides are multiples of 7 pixels, 4 and 8 otherwise."""
MAX_SIDE = 512

HIDDEN = (320, 160)
"""Units of the two hidden layers at width 1: a million weights on 28x28 images."""
SLOPE = 0.1
BLOCK_VARIANCE = 7.0
"""Each block of inputs (pixels, coarse, fine gradients) is scaled to this total variance over the training images, so
that none outweighs the others in the loss."""
RIDGE = 0.01
"""Of the mean variance, added to each residual's: directions that hardly vary must not blow up the distance."""


def check_hog_size(height: int, width: int) -> None:
    """Raise ConfigError, naming a size that would do, where the network cannot take this input size (pixels)."""
    if _takes(height) and _takes(width):
        return
    near = "x".join(str(_nearest_side(side)) for side in (height, width))
    raise ConfigError(
        f"--imgsz {height}x{width}: network hog takes sides from {HOG_MIN_SIDE} to {MAX_SIDE} that divide into "
        f"its cells, such as 28, 32, 56, 64, 112, 128 and 256; try --imgsz {near}"
    )


class HogNetwork(Autoencoder):
    """Fully connected encoder and decoder, each with a linear path beside it, on standardised pixels and gradients.

    The linear path alone is principal component analysis; the rest bends it.
    """

    own_criteria = (*CRITERIA, "coarse_gradient_error", "fine_gradient_error", "gradient_distance")
    """After the two that every network has: summed squared errors of both gradient blocks in units of BLOCK_VARIANCE
    over the training images, and the squared Mahalanobis distance of the coarse block's residual."""

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

    def fit_blocks(self, images: Tensor) -> None:
        """Centre and scale of each block, from uint8 images (N, C, H, W): before training, and fixed from then on."""
        self.encoder.blocks.fit(images)
        self.decoder.blocks.load_state_dict(self.encoder.blocks.state_dict())

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


class HogBlocks(nn.Module):
    """Image to standardised inputs and back: pixels, then coarse, then fine gradient histograms."""

    center: Tensor
    scale: Tensor

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (channels, height, width)
        self.pixel_pool = (_pool(height, PIXEL_SIDE), _pool(width, PIXEL_SIDE))
        self.gradient_pool = (_pool(height, GRADIENT_SIDE), _pool(width, GRADIENT_SIDE))
        self.pixel_shape = (channels, height // self.pixel_pool[0], width // self.pixel_pool[1])
        sides = (height // self.gradient_pool[0], width // self.gradient_pool[1])
        fine = tuple(_cells_of(side) or 0 for side in (height, width))
        self.coarse_cell = (sides[0] // COARSE_CELLS, sides[1] // COARSE_CELLS)
        self.fine_cell = (sides[0] // fine[0], sides[1] // fine[1])
        self.sizes = [math.prod(self.pixel_shape), BINS * COARSE_CELLS * COARSE_CELLS, BINS * math.prod(fine)]
        self.gradients = OrientedGradients()
        self.register_buffer("center", torch.zeros(sum(self.sizes)))
        self.register_buffer("scale", torch.ones(sum(self.sizes)))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised inputs (B, F) of images (B, C, H, W) in [0, 1]."""
        return (self.raw(x) - self.center) * self.scale

    def raw(self, x: Tensor) -> Tensor:
        """Inputs (B, F) before they are standardised."""
        pixels = avg_pool2d(x, self.pixel_pool) if max(self.pixel_pool) > 1 else x
        luminance = grey(x)
        if max(self.gradient_pool) > 1:
            luminance = avg_pool2d(luminance, self.gradient_pool)
        oriented = self.gradients(luminance)
        histograms = [cell_histograms(oriented, cell) for cell in (self.coarse_cell, self.fine_cell)]
        return torch.cat([pixels.flatten(1), *histograms], dim=1)

    def pixels(self, inputs: Tensor) -> Tensor:
        """The pixels (B, C, h, w) that standardised inputs (B, F) hold."""
        n_pixels = self.sizes[0]
        flat = inputs[:, :n_pixels] / self.scale[:n_pixels] + self.center[:n_pixels]
        return flat.reshape(-1, *self.pixel_shape)

    @torch.inference_mode()
    def fit(self, images: Tensor, chunk: int = 512, most: int = 20_000) -> None:
        """Median and scale of each block over uint8 images (N, C, H, W), evenly drawn where there are more than `most`.

        Medians, because anomalies among the images move them least.
        """
        step = max(1, math.ceil(len(images) / most))
        raw = torch.cat([self.raw(part.float() / 255.0) for part in images[::step].split(chunk)])
        self.center.copy_(raw.median(dim=0).values)
        variances = (raw - self.center).square().mean(dim=0).split(self.sizes)
        scales = [(BLOCK_VARIANCE / variance.sum().clamp(min=1e-9)).sqrt() for variance in variances]
        self.scale.copy_(torch.cat([scale.expand(size) for scale, size in zip(scales, self.sizes, strict=True)]))


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
        covariance = torch.cov(values.T)
        covariance += RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=torch.float64)
        self.mean.copy_(values.mean(dim=0))
        self.whitening.copy_(torch.linalg.cholesky(torch.linalg.inv(covariance)))


def _layers(units: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index, (n_in, n_out) in enumerate(itertools.pairwise(units)):
        layers.append(nn.Linear(n_in, n_out))
        if index < len(units) - 2:
            layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)


def _pool(side: int, most: int) -> int:
    """The smallest factor by which a side is averaged to at most `most` pixels; a divisor of the side."""
    return next(factor for factor in range(1, side + 1) if side % factor == 0 and side // factor <= most)


def _takes(side: int) -> bool:
    return HOG_MIN_SIDE <= side <= MAX_SIDE and _cells_of(side) is not None


def _nearest_side(side: int) -> int:
    return min((other for other in range(HOG_MIN_SIDE, MAX_SIDE + 1) if _takes(other)), key=lambda o: abs(o - side))


def _cells_of(side: int) -> int | None:
    """Fine cells along a side, None where the side does not divide into coarse and fine cells."""
    at_gradients = side // _pool(side, GRADIENT_SIDE)
    if at_gradients < HOG_MIN_SIDE or side // _pool(side, PIXEL_SIDE) < HOG_MIN_SIDE or at_gradients % COARSE_CELLS:
        return None
    return next((cells for cells in FINE_CELLS if at_gradients % cells == 0), None)
