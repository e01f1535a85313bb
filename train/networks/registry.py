"""The networks by name. CONTRIBUTING.md says what it takes to add one.

All take images (B, C, H, W) float in [0, 1] and give reconstructions of the same shape and range. Layers come from
the list that TensorRT's ONNX parser takes: strided convolution, nearest upsampling, pixel shuffle, batch
normalisation, (leaky) ReLU.
"""

from __future__ import annotations

from typing import Literal

from edge_runtime.errors import ConfigError
from train.backbones.backbone import Backbone
from train.networks.autoencoder import Autoencoder
from train.networks.conv import CONV
from train.networks.features_network import FEATURES
from train.networks.hog_network import HOG
from train.networks.mlp import MLP
from train.networks.patch_network import PATCH
from train.networks.spec import Architecture, NetworkSpec

__all__ = ["NETWORKS", "NetworkName", "build_autoencoder", "network_spec"]

NetworkName = Literal["mlp", "conv", "hog", "patch", "features"]
NETWORKS: dict[NetworkName, NetworkSpec] = {
    "mlp": MLP,
    "conv": CONV,
    "hog": HOG,
    "patch": PATCH,
    "features": FEATURES,
}


def network_spec(network: NetworkName) -> NetworkSpec:
    """What there is to know of a network; raises ConfigError for a name that is none's."""
    if network not in NETWORKS:
        raise ConfigError(f"network is {network!r}, expected one of {', '.join(NETWORKS)}")
    return NETWORKS[network]


def build_autoencoder(
    network: NetworkName,
    *,
    channels: int,
    height: int,
    width: int,
    latent_dim: int,
    batch_norm: bool,
    width_factor: float = 1.0,
    backbone: Backbone | None = None,
    finer: int = 1,
    has_head: bool = False,
) -> Autoencoder:
    """An untrained autoencoder; weights come from torch's global generator.

    batch_norm, width_factor, backbone, finer, has_head: see Architecture. Raises ConfigError for sizes that the network
    cannot take.
    """
    spec = network_spec(network)
    spec.check_size(channels, height, width)
    if latent_dim < 1:
        raise ConfigError(f"--latent is {latent_dim}, expected at least 1")
    return spec.build(
        Architecture(
            channels=channels,
            height=height,
            width=width,
            latent_dim=latent_dim,
            batch_norm=batch_norm,
            width_factor=width_factor,
            backbone=backbone,
            finer=finer,
            has_head=has_head,
        )
    )
