"""`conv`: shapes, and input sizes that are taken, or refused with one that is."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from edge_runtime.errors import ConfigError
from train.networks.conv import check_conv_size
from train.networks.registry import build_autoencoder


def refusal(height: int, width: int) -> str | None:
    """The message that refuses an input size, None where it is taken."""
    try:
        check_conv_size(1, height, width)
    except ConfigError as error:
        return str(error)
    return None


def suggested(message: str) -> tuple[int, int]:
    found = re.search(r"try --imgsz (\d+)(?:x(\d+))?$", message)
    assert found, f"no size suggested: {message}"
    return int(found[1]), int(found[2] or found[1])


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


def test_conv_normalises_whatever_the_method() -> None:
    with_flag, without = (
        build_autoencoder("conv", channels=1, height=32, width=32, latent_dim=2, batch_norm=flag)
        for flag in (True, False)
    )
    assert [type(layer) for layer in with_flag.modules()] == [type(layer) for layer in without.modules()]
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in without.encoder.modules())


def test_every_square_size_that_conv_takes_comes_back_in_its_own_shape() -> None:
    taken = [side for side in range(8, 81) if refusal(side, side) is None]
    for side in taken:
        network = build_autoencoder("conv", channels=1, height=side, width=side, latent_dim=2, batch_norm=True)
        assert network(torch.rand(2, 1, side, side))[1].shape == (2, 1, side, side)
    assert {16, 28, 32, 64} <= set(taken)


def test_a_refused_square_size_comes_with_one_that_conv_takes() -> None:
    refused = 0
    for side in range(8, 521):
        message = refusal(side, side)
        if message is None:
            continue
        refused += 1
        height, width = suggested(message)
        assert refusal(height, width) is None, f"{message}: that is refused as well"
    assert refused > 400


def test_a_refused_rectangle_comes_with_one_that_conv_takes() -> None:
    wrong = []
    for height in range(8, 521, 3):
        for width in range(8, 521, 3):
            message = refusal(height, width)
            if message is not None and refusal(*suggested(message)) is not None:
                wrong.append(message)
    assert not wrong, f"{len(wrong)} suggestions are refused themselves, such as: {wrong[0]}"


def test_a_refused_rectangle_comes_with_one_close_by() -> None:
    for height in range(16, 513, 5):
        for width in range(16, 513, 5):
            message = refusal(height, width)
            if message is None:
                continue
            near = suggested(message)
            assert abs(near[0] - height) <= height // 4, message


def test_a_side_below_or_beyond_conv_s_range_is_refused_with_the_range() -> None:
    with pytest.raises(ConfigError, match=r"--imgsz 15x64: network conv takes sides from 16 to 512"):
        check_conv_size(1, 15, 64)
    with pytest.raises(ConfigError, match=r"--imgsz 64x513: network conv takes sides from 16 to 512"):
        check_conv_size(1, 64, 513)


def test_a_side_that_cannot_be_halved_is_refused_with_the_multiple() -> None:
    with pytest.raises(ConfigError, match=r"halves this size 4 times.*multiples of 16; try --imgsz 96x96$"):
        check_conv_size(1, 100, 100)
