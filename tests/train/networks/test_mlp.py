"""The paper's networks, layer by layer, and the input sizes that they take."""

from __future__ import annotations

import re

import torch
from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.autoencoder import Autoencoder, Discriminator
from train.networks.mlp import MLP_MAX_INPUTS, check_mlp_size
from train.networks.registry import build_autoencoder


def paper_network(*, batch_norm: bool, latent_dim: int) -> Autoencoder:
    return build_autoencoder("mlp", channels=1, height=28, width=28, latent_dim=latent_dim, batch_norm=batch_norm)


def kinds_and_sizes(module: nn.Module) -> list[str]:
    """The layers in short: `Linear 784-1000`, `ReLU`."""
    layers = []
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layers.append(f"Linear {layer.in_features}-{layer.out_features}")
        elif isinstance(layer, nn.BatchNorm1d):
            layers.append(f"BatchNorm {layer.num_features}")
        elif not list(layer.children()):
            layers.append(type(layer).__name__)
    return layers


def n_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def refusal(channels: int, height: int, width: int) -> str | None:
    """The message that refuses an input size, None where it is taken."""
    try:
        check_mlp_size(channels, height, width)
    except ConfigError as error:
        return str(error)
    return None


def test_the_mlp_of_the_aae_normalises_both_hidden_encoder_layers_and_ends_linear() -> None:
    network = paper_network(batch_norm=True, latent_dim=2)
    assert kinds_and_sizes(network.encoder) == [
        "Flatten",
        "Linear 784-1000",
        "BatchNorm 1000",
        "ReLU",
        "Linear 1000-1000",
        "BatchNorm 1000",
        "ReLU",
        "Linear 1000-2",
    ]
    assert kinds_and_sizes(network.decoder) == [
        "Linear 2-1000",
        "ReLU",
        "Linear 1000-1000",
        "ReLU",
        "Linear 1000-784",
        "Sigmoid",
        "Unflatten",
    ]


def test_the_mlp_of_the_conventional_autoencoder_has_no_batch_normalisation() -> None:
    encoder = paper_network(batch_norm=False, latent_dim=32).encoder
    assert kinds_and_sizes(encoder) == [
        "Flatten",
        "Linear 784-1000",
        "ReLU",
        "Linear 1000-1000",
        "ReLU",
        "Linear 1000-32",
    ]


def test_the_mlp_has_the_papers_number_of_parameters() -> None:
    aae = paper_network(batch_norm=True, latent_dim=2)
    # 784*1000 + 1000, 2*1000 of the norm, 1000*1000 + 1000, 2*1000, 1000*2 + 2
    assert n_parameters(aae.encoder) == 785_000 + 2_000 + 1_001_000 + 2_000 + 2_002
    # 2*1000 + 1000, 1000*1000 + 1000, 1000*784 + 784
    assert n_parameters(aae.decoder) == 3_000 + 1_001_000 + 784_784
    ae = paper_network(batch_norm=False, latent_dim=32)
    assert n_parameters(ae.encoder) == 785_000 + 1_001_000 + 32_032
    assert n_parameters(ae.decoder) == 33_000 + 1_001_000 + 784_784


def test_the_discriminator_is_two_layers_of_1000_units_and_one_logit_an_image() -> None:
    discriminator = Discriminator(2)
    assert kinds_and_sizes(discriminator) == [
        "Linear 2-1000",
        "ReLU",
        "Linear 1000-1000",
        "ReLU",
        "Linear 1000-1",
    ]
    assert n_parameters(discriminator) == 3_000 + 1_001_000 + 1_001
    far = discriminator(1e4 * torch.randn(64, 2))
    assert far.shape == (64,)
    assert far.abs().max() > 1.0, "the sigmoid belongs to the loss"


def test_mlp_gives_codes_and_images_of_the_input_s_shape() -> None:
    network = build_autoencoder("mlp", channels=3, height=8, width=12, latent_dim=5, batch_norm=True)
    z, x_hat = network(torch.rand(2, 3, 8, 12))
    assert z.shape == (2, 5)
    assert x_hat.shape == (2, 3, 8, 12)


def test_mlp_takes_sides_from_8_and_at_most_128x128_in_colour() -> None:
    assert refusal(1, 8, 8) is None
    assert refusal(3, 128, 128) is None
    assert MLP_MAX_INPUTS == 3 * 128 * 128
    assert refusal(3, 128, 129) is not None
    assert refusal(1, 7, 64) is not None


def test_every_size_that_mlp_refuses_comes_with_one_it_takes() -> None:
    for side in (*range(1, 8), *range(222, 521)):
        for channels in (1, 3):
            message = refusal(channels, side, side)
            assert message is not None
            found = re.search(r"\((\d+)x(\d+) in colour\); use --network conv or a smaller size$", message)
            assert found, message
            assert refusal(3, int(found[1]), int(found[2])) is None


def test_the_global_generator_decides_the_weights() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(paper_network(batch_norm=True, latent_dim=2).parameters())

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))
