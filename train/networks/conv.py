"""`conv`: a convolutional encoder and decoder with one global latent vector."""

from __future__ import annotations

import itertools
import math

from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.autoencoder import Autoencoder
from train.networks.spec import Architecture, NetworkSpec
from train.schedule import Schedule

__all__ = ["CONV", "CONV_WIDTHS"]

CONV_MIN_SIDE = 16
CONV_MAX_SIDE = 512
CONV_GRID = (4, 7)
"""Rows and columns of the last feature map: both sides are halved until the shorter one is in this range."""
CONV_WIDTHS = (16, 32, 64, 96, 128)
"""Channels after each halving; further halvings keep the last."""


def check_conv_size(channels: int, height: int, width: int) -> None:
    """Raise ConfigError, naming a size that would do, where the network cannot take this input size (pixels)."""
    size = f"{height}x{width}"
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


def build_conv(architecture: Architecture) -> Autoencoder:
    """As many halvings as bring the input near the grid."""
    channels, latent_dim = architecture.channels, architecture.latent_dim
    height, width = architecture.height, architecture.width
    n_halvings = _halvings(min(height, width))
    widths = [CONV_WIDTHS[min(i, len(CONV_WIDTHS) - 1)] for i in range(n_halvings)]
    grid = (height >> n_halvings, width >> n_halvings)
    return Autoencoder(
        _conv_encoder(channels, widths, grid, latent_dim),
        _conv_decoder(channels, widths, grid, latent_dim),
        latent_dim,
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


CONV = NetworkSpec(
    name="conv",
    smallest_side=CONV_MIN_SIDE,
    check_size=check_conv_size,
    build=build_conv,
    # Minutes on two CPU cores for a thousand images of 128x128.
    schedules={
        "none": Schedule(train=100),
        "itsr": Schedule(train=50, refine=5, retrain=50),
        "robust": Schedule(train=40, refine=20),
    },
    latent_dims={"aae": 32, "ae": 32},
    batch_size=32,  # its maps then stay in the cache
)
