from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edge_runtime.model.prior import StandardNormal
from train.learning.scoring import CHUNK, map_peaks, raw_criteria
from train.networks.autoencoder import Autoencoder
from train.networks.registry import build_autoencoder

LOG_2PI = math.log(2.0 * math.pi)


def two_pixel_network() -> Autoencoder:
    """On 2x2 images: z = (3 x_00, 4 x_11), x_hat = 0."""
    encoder = nn.Linear(4, 2, bias=False)
    decoder = nn.Linear(2, 4, bias=False)
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, 4.0]]))
        decoder.weight.zero_()
    return Autoencoder(nn.Sequential(nn.Flatten(), encoder), nn.Sequential(decoder, nn.Unflatten(1, (1, 2, 2))), 2)


def random_images(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 1, 16, 16), dtype=np.uint8))


def conv_network() -> Autoencoder:
    torch.manual_seed(0)
    return build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=3, batch_norm=True)


def test_the_criteria_are_euclidean_error_and_negative_log_density_in_nats() -> None:
    x = torch.tensor([[[[0.6, 0.0], [0.0, 0.8]]], [[[0.0, 0.0], [0.0, 0.0]]]])
    measured = two_pixel_network().measure(x, StandardNormal(2))
    # sqrt(0.36 + 0.64), (1.8^2 + 3.2^2) / 2 + log(2 pi); 0, log(2 pi)
    assert measured.criteria.flatten().tolist() == pytest.approx([1.0, 6.74 + LOG_2PI, 0.0, LOG_2PI], rel=1e-6)
    assert measured.anomaly_map[0].flatten().tolist() == pytest.approx([0.36, 0.0, 0.0, 0.64])


def test_raw_criteria_scale_uint8_images_to_0_to_1() -> None:
    images = torch.tensor([[[[255, 0], [0, 255]]], [[[0, 51], [0, 0]]]], dtype=torch.uint8)
    criteria, codes = raw_criteria(two_pixel_network(), StandardNormal(2), images)
    assert codes.tolist() == [[3.0, 4.0], [0.0, 0.0]]
    assert criteria[0].tolist() == pytest.approx([math.sqrt(2.0), 12.5 + LOG_2PI], rel=1e-6)
    assert criteria[1].tolist() == pytest.approx([51 / 255, LOG_2PI], rel=1e-6)


def test_raw_criteria_of_many_images_keep_their_order_across_passes() -> None:
    images = random_images(CHUNK + 3)
    network = conv_network().eval()
    criteria, codes = raw_criteria(network, StandardNormal(3), images)
    assert criteria.shape == (CHUNK + 3, 2)
    assert codes.shape == (CHUNK + 3, 3)
    for index in (0, CHUNK - 1, CHUNK, CHUNK + 2):
        alone, code = raw_criteria(network, StandardNormal(3), images[index : index + 1])
        np.testing.assert_allclose(criteria[index], alone[0], rtol=1e-4)
        np.testing.assert_allclose(codes[index], code[0], atol=1e-5)


def test_raw_criteria_leave_the_network_as_it_was() -> None:
    network = conv_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    raw_criteria(network, StandardNormal(3), random_images(8))
    assert network.training
    assert network.encoder.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), f"{name}: batch statistics were taken from scoring"
    network.eval()
    raw_criteria(network, StandardNormal(3), random_images(8))
    assert not network.training


def test_raw_criteria_of_one_image_do_not_depend_on_the_others() -> None:
    network = conv_network().train()
    images = random_images(8)
    together, _ = raw_criteria(network, StandardNormal(3), images)
    apart, _ = raw_criteria(network, StandardNormal(3), images[:1])
    np.testing.assert_allclose(together[0], apart[0], rtol=1e-5)


def test_the_peak_of_a_map_is_its_worst_pixel_s_squared_error_averaged_over_channels() -> None:
    images = torch.tensor([[[[255, 0], [0, 51]]], [[[0, 51], [0, 0]]]], dtype=torch.uint8)
    peaks = map_peaks(two_pixel_network(), StandardNormal(2), images)  # reconstructs everything as black
    assert peaks.tolist() == pytest.approx([1.0, 0.04])
    black = nn.Linear(6, 6, bias=False)
    nn.init.zeros_(black.weight)
    network = Autoencoder(nn.Flatten(), nn.Sequential(black, nn.Unflatten(1, (3, 1, 2))), 6)
    colour = torch.tensor([[[[255, 0]], [[0, 0]], [[0, 51]]]], dtype=torch.uint8)
    assert map_peaks(network, StandardNormal(6), colour).tolist() == pytest.approx([1.0 / 3.0])


def test_peaks_of_many_images_keep_their_order_and_leave_the_network_as_it_was() -> None:
    images = random_images(CHUNK + 3)
    network = conv_network().train()
    peaks = map_peaks(network, StandardNormal(3), images)
    assert peaks.shape == (CHUNK + 3,)
    assert network.training
    for index in (0, CHUNK, CHUNK + 2):
        np.testing.assert_allclose(
            peaks[index], map_peaks(network, StandardNormal(3), images[index : index + 1])[0], rtol=1e-4
        )
