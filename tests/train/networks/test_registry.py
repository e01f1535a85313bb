"""What holds for every network, and the defaults and traits that stand in their specs."""

from __future__ import annotations

from typing import get_args

import pytest
import torch

from edge_runtime.errors import ConfigError
from train.networks.registry import NETWORKS, NetworkName, build_autoencoder, network_spec
from train.schedule import MethodName, RefineName

GREY = [name for name, spec in NETWORKS.items() if not (spec.cuts_tiles or spec.reads_backbone)]
"""Networks that give pixels back; `patch` and `features` have tests of their own."""


def refusal(network: NetworkName, channels: int, height: int, width: int) -> str | None:
    """The message that refuses an input size, None where it is taken."""
    try:
        network_spec(network).check_size(channels, height, width)
    except ConfigError as error:
        return str(error)
    return None


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


@pytest.mark.parametrize("name", GREY)
def test_the_smallest_side_is_taken_and_one_less_is_not(name: NetworkName) -> None:
    side = network_spec(name).smallest_side
    assert refusal(name, 1, side, side) is None
    assert refusal(name, 1, side - 1, side - 1) is not None


def test_a_latent_of_no_dimension_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--latent is 0, expected at least 1"):
        build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=0, batch_norm=True)


def test_every_name_has_the_spec_of_that_name() -> None:
    assert get_args(NetworkName) == tuple(NETWORKS)
    assert [spec.name for spec in NETWORKS.values()] == list(NETWORKS)


def test_a_name_that_is_no_network_s_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"^network is 'vgg', expected one of mlp, conv, hog, patch, features$"):
        network_spec("vgg")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "method", "refine", "epochs"),
    [
        ("mlp", "ae", "none", (4000, 0, 0)),
        ("mlp", "aae", "none", (1000, 0, 0)),
        ("mlp", "aae", "itsr", (500, 100, 500)),
        ("mlp", "aae", "robust", (100, 50, 0)),
        ("mlp", "ae", "robust", (100, 50, 0)),
        ("conv", "aae", "none", (100, 0, 0)),
        ("conv", "ae", "none", (100, 0, 0)),
        ("conv", "aae", "itsr", (50, 5, 50)),
        ("conv", "aae", "robust", (40, 20, 0)),
        ("hog", "aae", "none", (40, 0, 0)),
        ("hog", "ae", "robust", (20, 11, 0)),
        ("hog", "aae", "itsr", (40, 0, 0)),
        ("patch", "aae", "none", (200, 0, 0)),
        ("patch", "aae", "robust", (150, 40, 0)),
        ("features", "aae", "none", (12, 0, 0)),
        ("features", "ae", "robust", (12, 0, 0)),
    ],
)
def test_the_default_schedule_is_the_paper_s_for_mlp_and_a_short_one_for_the_others(
    network: NetworkName, method: MethodName, refine: RefineName, epochs: tuple[int, int, int]
) -> None:
    schedule = network_spec(network).schedule(method, refine)
    assert (schedule.train, schedule.refine, schedule.retrain) == epochs


def test_the_default_latent_is_the_paper_s_for_mlp() -> None:
    of_aae = {name: spec.latent_dim("aae") for name, spec in NETWORKS.items()}
    of_ae = {name: spec.latent_dim("ae") for name, spec in NETWORKS.items()}
    assert of_aae == {"mlp": 2, "conv": 32, "hog": 32, "patch": 16, "features": 16}
    assert of_ae == {"mlp": 32, "conv": 32, "hog": 32, "patch": 16, "features": 16}


def test_the_default_batch_is_smaller_where_maps_are_large() -> None:
    sizes = {name: spec.batch_size for name, spec in NETWORKS.items()}
    assert sizes == {"mlp": 128, "conv": 32, "hog": 128, "patch": 16, "features": 16}


def test_the_adversary_pulls_less_against_smaller_losses() -> None:
    weights = {name: spec.adversarial_weight for name, spec in NETWORKS.items()}
    assert weights == {"mlp": 4.0, "conv": 4.0, "hog": 0.02, "patch": 0.1, "features": 0.1}
