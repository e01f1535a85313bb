"""The networks by name; here `mlp`, the paper's, and `conv`, convolutional with one global latent vector.

`hog` stands in hog_network.py, `patch` in patch_network.py.

All take images (B, C, H, W) float in [0, 1] and give reconstructions of the same shape and range. Layers come from
the list that TensorRT's ONNX parser takes: strided convolution, nearest upsampling, pixel shuffle, batch
normalisation, (leaky) ReLU.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.autoencoder import Autoencoder
from train.networks.hog_network import HOG_MIN_SIDE, HogNetwork, check_hog_size
from train.networks.patch_network import PATCH_MIN_SIDE, PatchNetwork, check_patch_size

__all__ = ["NETWORKS", "build_autoencoder", "check_input_size", "smallest_side"]

NetworkName = Literal["mlp", "conv", "hog", "patch"]
NETWORKS: tuple[NetworkName, ...] = ("mlp", "conv", "hog", "patch")

MLP_HIDDEN = 1000
"""Units of each hidden layer, arXiv 1901.06355 section 5."""
MLP_MIN_SIDE = 8
"""Below 8x8 pixels there is nothing to reconstruct."""
MLP_MAX_INPUTS = 3 * 128 * 128
"""Two dense layers of 1000 units on more inputs pass 100 million weights: use `conv` for such images."""

CONV_MIN_SIDE = 16
CONV_MAX_SIDE = 512
CONV_GRID = (4, 7)
"""Rows and columns of the last feature map: both sides are halved until the shorter one is in this range."""
CONV_WIDTHS = (16, 32, 64, 96, 128)
"""Channels after each halving; further halvings keep the last."""


def smallest_side(network: NetworkName) -> int:
    """The smallest image side in pixels that a network takes."""
    return {"mlp": MLP_MIN_SIDE, "conv": CONV_MIN_SIDE, "hog": HOG_MIN_SIDE, "patch": PATCH_MIN_SIDE}[network]


def check_input_size(network: NetworkName, channels: int, height: int, width: int) -> None:
    """Raise ConfigError, naming sizes that would do, where a network cannot take this input size (pixels)."""
    size = f"{height}x{width}"
    if network == "mlp":
        if min(height, width) < MLP_MIN_SIDE or channels * height * width > MLP_MAX_INPUTS:
            raise ConfigError(
                f"--imgsz {size} with {channels} channel(s): network mlp takes sides of at least {MLP_MIN_SIDE} "
                f"and at most {MLP_MAX_INPUTS} inputs (128x128 in colour); use --network conv or a smaller size"
            )
        return
    if network == "hog":
        check_hog_size(height, width)
        return
    if network == "patch":
        check_patch_size(channels, height, width)
        return
    if min(height, width) < CONV_MIN_SIDE or max(height, width) > CONV_MAX_SIDE:
        raise ConfigError(
            f"--imgsz {size}: network conv takes sides from {CONV_MIN_SIDE} to {CONV_MAX_SIDE}; "
            f"try --imgsz {_nearest_size(height, width)}"
        )
    step = 2 ** _halvings(min(height, width))
    if height % step or width % step or not CONV_GRID[0] <= min(height, width) // step <= CONV_GRID[1]:
        raise ConfigError(
            f"--imgsz {size}: network conv halves this size {_halvings(min(height, width))} times, "
            f"so both sides must be multiples of {step}; try --imgsz {_nearest_size(height, width)}"
        )


def build_autoencoder(
    network: NetworkName,
    *,
    channels: int,
    height: int,
    width: int,
    latent_dim: int,
    batch_norm: bool,
    width_factor: float = 1.0,
) -> Autoencoder:
    """An untrained autoencoder; weights come from torch's global generator.

    batch_norm: after each hidden encoder layer of `mlp`, as the paper's AAE has and its AE has not; `conv` always
    has it. width_factor: on the channels of `patch`. Raises ConfigError for sizes that the network cannot take.
    """
    check_input_size(network, channels, height, width)
    if latent_dim < 1:
        raise ConfigError(f"--latent is {latent_dim}, expected at least 1")
    if network == "mlp":
        return Autoencoder(
            _mlp_encoder(channels * height * width, latent_dim, batch_norm),
            _mlp_decoder((channels, height, width), latent_dim),
            latent_dim,
        )
    if network == "hog":
        return HogNetwork(channels=channels, height=height, width=width, latent_dim=latent_dim)
    if network == "patch":
        return PatchNetwork(channels=channels, height=height, width=width, latent_dim=latent_dim, factor=width_factor)
    n_halvings = _halvings(min(height, width))
    widths = [CONV_WIDTHS[min(i, len(CONV_WIDTHS) - 1)] for i in range(n_halvings)]
    grid = (height >> n_halvings, width >> n_halvings)
    return Autoencoder(
        _conv_encoder(channels, widths, grid, latent_dim),
        _conv_decoder(channels, widths, grid, latent_dim),
        latent_dim,
    )


def _mlp_encoder(n_inputs: int, latent_dim: int, batch_norm: bool) -> nn.Sequential:
    # The paper normalises "after each encoder layer"; read as the two hidden ones, because its last layer is
    # stated to be linear and the adversary alone shapes the codes.
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in in (n_inputs, MLP_HIDDEN):
        layers.append(nn.Linear(n_in, MLP_HIDDEN))
        if batch_norm:
            layers.append(nn.BatchNorm1d(MLP_HIDDEN))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(MLP_HIDDEN, latent_dim))


def _mlp_decoder(image_shape: tuple[int, int, int], latent_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(latent_dim, MLP_HIDDEN),
        nn.ReLU(),
        nn.Linear(MLP_HIDDEN, MLP_HIDDEN),
        nn.ReLU(),
        nn.Linear(MLP_HIDDEN, math.prod(image_shape)),
        nn.Sigmoid(),
        nn.Unflatten(1, image_shape),
    )


def _conv_encoder(channels: int, widths: list[int], grid: tuple[int, int], latent_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for n_in, n_out in zip([channels, *widths], widths, strict=False):
        layers += [
            nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.LeakyReLU(0.1),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * math.prod(grid), latent_dim))


def _conv_decoder(channels: int, widths: list[int], grid: tuple[int, int], latent_dim: int) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Linear(latent_dim, widths[-1] * math.prod(grid)),
        nn.Unflatten(1, (widths[-1], *grid)),
    ]
    inwards = list(reversed(widths))
    for n_in, n_out in itertools.pairwise(inwards):
        layers += [
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(),
        ]
    # The last doubling is a pixel shuffle: no feature map ever has the image's full size, where memory traffic
    # would take most of the time.
    return nn.Sequential(*layers, nn.Conv2d(widths[0], 4 * channels, 3, padding=1), nn.PixelShuffle(2), nn.Sigmoid())


def _halvings(side: int) -> int:
    """How often a side is halved so that at most CONV_GRID[1] rows remain."""
    return max(1, math.ceil(math.log2(side / (CONV_GRID[1] + 1) + 1e-9)))


def _nearest_size(height: int, width: int) -> str:
    """A size near this one that `conv` takes, as --imgsz takes it."""
    sides = [min(max(side, CONV_MIN_SIDE), CONV_MAX_SIDE) for side in (height, width)]
    rounded: list[int] = []
    # Rounding may bring the shorter side to where one halving more is needed: round again, until it holds.
    while rounded != sides:
        rounded = sides
        step = 2 ** _halvings(min(rounded))
        sides = [step * round(side / step) for side in rounded]
    return "x".join(map(str, sides))
