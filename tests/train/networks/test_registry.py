from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.autoencoder import Autoencoder, Discriminator
from train.networks.registry import (
    MLP_MAX_INPUTS,
    NETWORKS,
    NetworkName,
    build_autoencoder,
    check_input_size,
    smallest_side,
)

GREY = [name for name in NETWORKS if name != "patch"]
"""Networks that take one channel as it is; `patch` has tests of its own."""


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


def refusal(network: NetworkName, channels: int, height: int, width: int) -> str | None:
    """The message that refuses an input size, None where it is taken."""
    try:
        check_input_size(network, channels, height, width)
    except ConfigError as error:
        return str(error)
    return None


def suggested(message: str) -> tuple[int, int]:
    found = re.search(r"try --imgsz (\d+)(?:x(\d+))?$", message)
    assert found, f"no size suggested: {message}"
    return int(found[1]), int(found[2] or found[1])


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


@pytest.mark.parametrize(
    ("channels", "height", "width"),
    [(1, 16, 16), (1, 28, 28), (3, 32, 48), (1, 96, 256), (3, 256, 96), (3, 128, 128)],
)
def test_conv_gives_codes_and_images_of_the_input_s_shape(channels: int, height: int, width: int) -> None:
    network = build_autoencoder("conv", channels=channels, height=height, width=width, latent_dim=5, batch_norm=True)
    x = torch.rand(2, channels, height, width)
    z, x_hat = network(x)
    assert z.shape == (2, 5)
    assert x_hat.shape == x.shape


def test_mlp_gives_codes_and_images_of_the_input_s_shape() -> None:
    network = build_autoencoder("mlp", channels=3, height=8, width=12, latent_dim=5, batch_norm=True)
    z, x_hat = network(torch.rand(2, 3, 8, 12))
    assert z.shape == (2, 5)
    assert x_hat.shape == (2, 3, 8, 12)


@pytest.mark.parametrize("name", GREY)
def test_reconstructions_stay_in_0_to_1_for_codes_far_out(name: NetworkName) -> None:
    torch.manual_seed(0)
    network = build_autoencoder(name, channels=1, height=16, width=16, latent_dim=2, batch_norm=True).eval()
    x_hat = network.decoder(1e4 * torch.randn(16, 2))
    assert x_hat.min() >= 0.0
    assert x_hat.max() <= 1.0
    assert x_hat.max() - x_hat.min() > 0.9, "the codes were not far out"


@pytest.mark.parametrize("name", GREY)
def test_codes_are_not_bounded(name: NetworkName) -> None:
    torch.manual_seed(0)
    network = build_autoencoder(name, channels=1, height=16, width=16, latent_dim=2, batch_norm=True).eval()
    codes = network.encoder(1e4 * torch.randn(16, 1, 16, 16))
    assert codes.min() < -1.0
    assert codes.max() > 1.0


def test_conv_normalises_whatever_the_method() -> None:
    with_flag, without = (
        build_autoencoder("conv", channels=1, height=32, width=32, latent_dim=2, batch_norm=flag)
        for flag in (True, False)
    )
    assert [type(layer) for layer in with_flag.modules()] == [type(layer) for layer in without.modules()]
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in without.encoder.modules())


def test_every_square_size_that_conv_takes_comes_back_in_its_own_shape() -> None:
    taken = [side for side in range(8, 81) if refusal("conv", 1, side, side) is None]
    for side in taken:
        network = build_autoencoder("conv", channels=1, height=side, width=side, latent_dim=2, batch_norm=True)
        assert network(torch.rand(2, 1, side, side))[1].shape == (2, 1, side, side)
    assert {16, 28, 32, 64} <= set(taken)


def test_a_refused_square_size_comes_with_one_that_conv_takes() -> None:
    refused = 0
    for side in range(8, 521):
        message = refusal("conv", 1, side, side)
        if message is None:
            continue
        refused += 1
        height, width = suggested(message)
        assert refusal("conv", 1, height, width) is None, f"{message}: that is refused as well"
    assert refused > 400


def test_a_refused_rectangle_comes_with_one_that_conv_takes() -> None:
    wrong = []
    for height in range(8, 521, 3):
        for width in range(8, 521, 3):
            message = refusal("conv", 1, height, width)
            if message is not None and refusal("conv", 1, *suggested(message)) is not None:
                wrong.append(message)
    assert not wrong, f"{len(wrong)} suggestions are refused themselves, such as: {wrong[0]}"


def test_a_refused_rectangle_comes_with_one_close_by() -> None:
    for height in range(16, 513, 5):
        for width in range(16, 513, 5):
            message = refusal("conv", 1, height, width)
            if message is None:
                continue
            near = suggested(message)
            assert abs(near[0] - height) <= height // 4, message


def test_a_side_below_or_beyond_conv_s_range_is_refused_with_the_range() -> None:
    with pytest.raises(ConfigError, match=r"--imgsz 15x64: network conv takes sides from 16 to 512"):
        check_input_size("conv", 1, 15, 64)
    with pytest.raises(ConfigError, match=r"--imgsz 64x513: network conv takes sides from 16 to 512"):
        check_input_size("conv", 1, 64, 513)


def test_a_side_that_cannot_be_halved_is_refused_with_the_multiple() -> None:
    with pytest.raises(ConfigError, match=r"halves this size 4 times.*multiples of 16; try --imgsz 96x96$"):
        check_input_size("conv", 1, 100, 100)


def test_mlp_takes_sides_from_8_and_at_most_128x128_in_colour() -> None:
    assert refusal("mlp", 1, 8, 8) is None
    assert refusal("mlp", 3, 128, 128) is None
    assert MLP_MAX_INPUTS == 3 * 128 * 128
    assert refusal("mlp", 3, 128, 129) is not None
    assert refusal("mlp", 1, 7, 64) is not None


def test_every_size_that_mlp_refuses_comes_with_one_it_takes() -> None:
    for side in (*range(1, 8), *range(222, 521)):
        for channels in (1, 3):
            message = refusal("mlp", channels, side, side)
            assert message is not None
            found = re.search(r"\((\d+)x(\d+) in colour\); use --network conv or a smaller size$", message)
            assert found, message
            assert refusal("mlp", 3, int(found[1]), int(found[2])) is None


@pytest.mark.parametrize("name", GREY)
def test_the_smallest_side_is_taken_and_one_less_is_not(name: NetworkName) -> None:
    side = smallest_side(name)
    assert refusal(name, 1, side, side) is None
    assert refusal(name, 1, side - 1, side - 1) is not None


def test_a_latent_of_no_dimension_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--latent is 0, expected at least 1"):
        build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=0, batch_norm=True)


def test_the_global_generator_decides_the_weights() -> None:
    def first_weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(paper_network(batch_norm=True, latent_dim=2).parameters())

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))
