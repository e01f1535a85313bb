"""What `hog` reads and reconstructs: pixels and histograms of oriented gradients, standardised; no learnt weights.

The histograms are fixed, traceable operations after Dalal and Triggs 2005, without block normalisation, on operators
that TensorRT's ONNX parser takes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from edge_runtime.errors import ConfigError

__all__ = [
    "BINS",
    "HOG_MIN_SIDE",
    "HogBlocks",
    "OrientedGradients",
    "cell_histograms",
    "check_hog_size",
    "grey",
]

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

BLOCK_VARIANCE = 7.0
"""Each block of inputs (pixels, coarse, fine gradients) is scaled to this total variance over the training images, so
that none outweighs the others in the loss."""

BINS = 8
"""Orientations over the full circle: dark-to-light and light-to-dark edges differ."""
EDGE = math.sqrt(0.5)
"""Cosine of 45 degrees, from a bin's direction to where its part ends: the direction of its neighbour."""

MAGNITUDE_EPSILON = 1e-12
"""Under the root of the squared gradient, whose slope is infinite where an image is flat; it stands in denominators."""
HISTOGRAM_EPSILON = 1e-6
"""Under the root of a histogram's entry; a thousandth of one grey level's step in one pixel."""

GREY_STEPS = 255_000
"""From black to white, thousandths of a grey level: of a uint8 image GREY_WEIGHTS make whole ones. float32 adds whole
numbers below 2**24 without rounding, in any order, so that what cancels leaves nothing on any processor; the root of a
histogram near zero would multiply what is left by five hundred."""

GREY_WEIGHTS = (0.114, 0.587, 0.299)
"""Of blue, green and red: ITU-R BT.601, as OpenCV's BGR2GRAY has them."""


def check_hog_size(height: int, width: int) -> None:
    """Raise ConfigError, naming a size that would do, where the network cannot take this input size (pixels)."""
    if _takes(height) and _takes(width):
        return
    near = "x".join(str(_nearest_side(side)) for side in (height, width))
    raise ConfigError(
        f"--imgsz {height}x{width}: network hog takes sides from {HOG_MIN_SIDE} to {MAX_SIDE} that divide into "
        f"its cells, such as 28, 32, 56, 64, 112, 128 and 256; try --imgsz {near}"
    )


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
        self.gradients = OrientedGradients(1.0 / GREY_STEPS)
        self.register_buffer("center", torch.zeros(sum(self.sizes)))
        self.register_buffer("scale", torch.ones(sum(self.sizes)))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised inputs (B, F) of images (B, C, H, W) in [0, 1]."""
        return (self.raw(x) - self.center) * self.scale

    def raw(self, x: Tensor) -> Tensor:
        """Inputs (B, F) before they are standardised."""
        pixels = avg_pool2d(x, self.pixel_pool) if max(self.pixel_pool) > 1 else x
        steps = (grey(x) * GREY_STEPS).round()
        if max(self.gradient_pool) > 1:
            steps = avg_pool2d(steps, self.gradient_pool)
        oriented = self.gradients(steps)
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


def grey(x: Tensor) -> Tensor:
    """(B, 1, H, W) luminance of (B, 1, H, W) grey or (B, 3, H, W) BGR images."""
    if x.shape[1] == 1:
        return x
    blue, green, red = GREY_WEIGHTS
    return blue * x[:, 0:1] + green * x[:, 1:2] + red * x[:, 2:3]


class OrientedGradients(nn.Module):
    """Gradient magnitude shared out over orientations: (B, 1, H, W) -> (B, BINS, H, W), >= 0, white less black is 1.

    Central differences, zero at the border. Each bin takes the part of the gradient that points at most 45 degrees
    away from its direction, falling from all to nothing: with eight bins, two neighbours share each gradient.
    """

    def __init__(self, step: float = 1.0) -> None:
        """step: what 1 in an image stands for, of black to white."""
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        """The oriented magnitudes of each pixel.

        A bin's part is (p - c m) / (1 - c), of the gradient's length m, its projection p on the bin and c = cos 45
        degrees. Where p is nearly c m float32 keeps no digit of the difference, hence (p^2 - m^2 / 2) / (p + c m),
        whose numerator is a product.
        """
        dx = pad(x[..., :, 2:] - x[..., :, :-2], (1, 1, 0, 0))
        dy = pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
        # In the image's own unit: a summand below 1e-8 the ONNX exporter leaves out, and 0 / 0 would follow.
        least = EDGE * (dx * dx + dy * dy + MAGNITUDE_EPSILON / self.step**2).sqrt()
        ahead = (dx.relu(), dy.relu(), (-dx).relu(), (-dy).relu())  # right, down, left, up
        across = (dy.abs(), dx.abs()) * 2
        shares = []
        for index, along in enumerate(ahead):
            aside, turned = across[index], ahead[(index + 1) % len(ahead)]
            shares.append(0.5 * (along - aside).relu() * (along + aside) / (along + least))
            shares.append(along * turned / (EDGE * (along + turned) + least))
        return torch.cat(shares, dim=1) * (self.step / (1.0 - EDGE))


def cell_histograms(oriented: Tensor, cell: tuple[int, int]) -> Tensor:
    """Square roots of the sums over cells: (B, BINS, H, W) -> (B, BINS * H/ch * W/cw).

    cell: (ch, cw) pixels; sides are multiples of it. The root makes a strong edge count less than its contrast.
    """
    ch, cw = cell
    histograms = avg_pool2d(oriented, (ch, cw)) * float(ch * cw)
    return (histograms + HISTOGRAM_EPSILON).sqrt().flatten(1)


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
