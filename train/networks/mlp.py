"""`mlp`: the paper's networks, two hidden layers of 1000 units each way, arXiv 1901.06355 section 5."""

from __future__ import annotations

import math

from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.autoencoder import Autoencoder
from train.networks.spec import Architecture, NetworkSpec
from train.schedule import Schedule

__all__ = ["MLP", "MLP_HIDDEN", "MLP_MAX_INPUTS"]

MLP_HIDDEN = 1000
"""Units of each hidden layer, arXiv 1901.06355 section 5."""
MLP_MIN_SIDE = 8
"""Below 8x8 pixels there is nothing to reconstruct."""
MLP_MAX_INPUTS = 3 * 128 * 128
"""Two dense layers of 1000 units on more inputs pass 100 million weights: use `conv` for such images."""


def check_mlp_size(channels: int, height: int, width: int) -> None:
    """Raise ConfigError, naming sizes that would do, where the network cannot take this input size (pixels)."""
    if min(height, width) < MLP_MIN_SIDE or channels * height * width > MLP_MAX_INPUTS:
        raise ConfigError(
            f"--imgsz {height}x{width} with {channels} channel(s): network mlp takes sides of at least {MLP_MIN_SIDE} "
            f"and at most {MLP_MAX_INPUTS} inputs (128x128 in colour); use --network conv or a smaller size"
        )


def build_mlp(architecture: Architecture) -> Autoencoder:
    """Batch normalisation follows each hidden encoder layer where the architecture says so: the paper's AAE has it,
    its AE has not."""
    shape, latent_dim = (architecture.channels, architecture.height, architecture.width), architecture.latent_dim
    return Autoencoder(
        _mlp_encoder(math.prod(shape), latent_dim, architecture.batch_norm), _mlp_decoder(shape, latent_dim), latent_dim
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


MLP = NetworkSpec(
    name="mlp",
    smallest_side=MLP_MIN_SIDE,
    check_size=check_mlp_size,
    build=build_mlp,
    # arXiv 1901.06355 section 5. Where the paper has one figure for each data set this is the AE's for MNIST (4000;
    # Fashion-MNIST 10000) and re-training for Fashion-MNIST (500; MNIST 1000).
    schedules={
        "none": Schedule(train=1000),
        "itsr": Schedule(train=500, refine=100, retrain=500),
        "robust": Schedule(train=100, refine=50),
    },
    ae_schedules={"none": Schedule(train=4000)},
    latent_dims={"aae": 2, "ae": 32},  # the paper's
)
