"""The network on pixels and gradients: its inputs, its criteria, and what it keeps."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import CRITERIA, anomaly_map, reconstruction_error
from train.networks.hog import BLOCK_VARIANCE, check_hog_size
from train.networks.hog_network import HogNetwork, ResidualStatistics
from train.networks.whitening import RIDGE

ROUND_TRIP_ATOL = 2e-6
"""Of float32, standardised and back."""

LATENT_DIM = 5


def images(n: int = 64, channels: int = 1, height: int = 28, width: int = 28, seed: int = 0) -> Tensor:
    """(N, C, H, W) uint8: a light rectangle somewhere on noise."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 60, (n, channels, height, width), dtype=np.uint8)
    for frame in frames:
        top, left = int(rng.integers(2, height // 2)), int(rng.integers(2, width // 2))
        frame[:, top : top + height // 3, left : left + width // 3] = rng.integers(150, 256)
    return torch.from_numpy(frames)


def fitted(channels: int = 1, height: int = 28, width: int = 28) -> tuple[HogNetwork, Tensor]:
    """A small network, its blocks and statistics fitted on images, which come with it in [0, 1]."""
    torch.manual_seed(0)
    network = HogNetwork(channels=channels, height=height, width=width, latent_dim=LATENT_DIM, hidden=0.1)
    uint8 = images(channels=channels, height=height, width=width)
    network.fit_inputs(uint8)
    x = uint8.float() / 255.0
    network.fit_statistics(network.prepare(x))
    return network.eval(), x


SHAPES = [
    pytest.param(1, 28, 28, id="grey 28x28"),
    pytest.param(3, 32, 32, id="colour 32x32"),
    pytest.param(3, 56, 56, id="colour 56x56"),
    pytest.param(1, 128, 128, id="grey 128x128"),
    pytest.param(1, 32, 64, id="grey 32x64"),
]


@pytest.mark.parametrize(("channels", "height", "width"), SHAPES)
def test_every_size_goes_through_to_criteria_codes_and_a_map(channels: int, height: int, width: int) -> None:
    network, x = fitted(channels, height, width)
    with torch.inference_mode():
        measured = network.measure(x, StandardNormal(LATENT_DIM))
        z, x_hat = network(x)
    assert network.criteria[: len(CRITERIA)] == CRITERIA
    assert measured.criteria.shape == (len(x), len(network.criteria))
    assert measured.latent.shape == z.shape == (len(x), LATENT_DIM)
    assert x_hat.shape == x.shape
    assert 0.0 <= x_hat.min() <= x_hat.max() <= 1.0
    pool = network.encoder.blocks.pixel_pool
    assert measured.anomaly_map.shape == (len(x), height // pool[0], width // pool[1])
    assert max(measured.anomaly_map.shape[1:]) <= 32
    for output in measured:
        assert output.isfinite().all()


def test_the_pixels_come_back_out_of_the_standardised_inputs() -> None:
    network, x = fitted()
    torch.testing.assert_close(network.encoder.blocks.pixels(network.prepare(x)), x, rtol=0, atol=ROUND_TRIP_ATOL)


def test_the_pixels_of_larger_images_come_back_averaged() -> None:
    network, x = fitted(height=128, width=128)
    averaged = x.reshape(len(x), 1, 32, 4, 32, 4).mean(dim=(3, 5))
    found = network.encoder.blocks.pixels(network.prepare(x))
    torch.testing.assert_close(found, averaged, rtol=0, atol=ROUND_TRIP_ATOL)


def test_every_block_has_the_same_total_variance_around_its_median() -> None:
    network, x = fitted()
    prepared = network.prepare(x)
    assert [len(block[0]) for block in prepared.split(network.sizes, dim=1)] == [28 * 28, 8 * 4 * 4, 8 * 7 * 7]
    for block in prepared.split(network.sizes, dim=1):
        assert block.square().sum(dim=1).mean().item() == pytest.approx(BLOCK_VARIANCE, rel=1e-3)
    assert prepared.median(dim=0).values.abs().max() < 1e-4


def test_images_that_are_all_the_same_are_standardised_to_finite_inputs() -> None:
    network = HogNetwork(channels=1, height=28, width=28, latent_dim=LATENT_DIM, hidden=0.1)
    same = images(1).expand(8, -1, -1, -1)
    network.fit_inputs(same)
    assert network.prepare(same.float() / 255.0).isfinite().all()


def test_encoder_and_decoder_share_one_standardisation() -> None:
    network, _ = fitted()
    for name, value in network.encoder.blocks.state_dict().items():
        torch.testing.assert_close(network.decoder.blocks.state_dict()[name], value, rtol=0, atol=0)


def test_a_network_that_takes_over_the_standardisation_reads_images_alike() -> None:
    network, x = fitted()
    other = HogNetwork(channels=1, height=28, width=28, latent_dim=LATENT_DIM, hidden=0.1)
    other.load_input_statistics(network.input_statistics())
    torch.testing.assert_close(other.prepare(x), network.prepare(x), rtol=0, atol=0)
    torch.testing.assert_close(other.decoder.blocks.center, network.decoder.blocks.center, rtol=0, atol=0)


def test_the_reconstruction_error_is_that_of_image_and_decoded_code() -> None:
    network, x = fitted()
    with torch.inference_mode():
        measured = network.measure(x, StandardNormal(LATENT_DIM))
        x_hat = network.decoder(network.encoder(x))
    torch.testing.assert_close(measured.criteria[:, 0], reconstruction_error(x, x_hat), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(measured.anomaly_map, anomaly_map(x, x_hat), rtol=1e-3, atol=1e-5)


def test_the_reconstruction_error_of_averaged_pixels_counts_every_pixel_of_the_image() -> None:
    network, _ = fitted(height=128, width=128)
    flat = torch.full((1, 1, 128, 128), 0.5)
    with torch.inference_mode():
        measured = network.measure(flat, StandardNormal(LATENT_DIM))
        x_hat = network.decoder(network.encoder(flat))
    # A flat image is its own average, and the decoded one is flat within each block.
    torch.testing.assert_close(measured.criteria[:, 0], reconstruction_error(flat, x_hat), rtol=1e-4, atol=1e-5)


def test_the_likelihood_is_the_priors() -> None:
    network, x = fitted()
    prior = StandardNormal(LATENT_DIM)
    with torch.inference_mode():
        measured = network.measure(x, prior)
    torch.testing.assert_close(measured.criteria[:, 1], prior.neg_log_density(measured.latent))


def test_the_loss_is_the_squared_error_of_all_blocks() -> None:
    network, x = fitted()
    prepared = network.prepare(x)
    with torch.inference_mode():
        z, loss = network.reconstruct(prepared)
        measured = network.measure_prepared(prepared, StandardNormal(LATENT_DIM))
        restored = network.decoder.restore(z)
    torch.testing.assert_close(z, measured.latent)
    pixel_error = (prepared - restored)[:, : network.sizes[0]].square().sum(dim=1)
    torch.testing.assert_close(loss, pixel_error + measured.criteria[:, 2] + measured.criteria[:, 3])


def test_noise_on_the_codes_reaches_the_decoder_alone() -> None:
    network, x = fitted()
    prepared = network.prepare(x)
    with torch.inference_mode():
        z, loss = network.reconstruct(prepared)
        same_z, noisy_loss = network.reconstruct(prepared, torch.ones_like(z))
    torch.testing.assert_close(same_z, z, rtol=0, atol=0)
    assert not torch.allclose(noisy_loss, loss)


def test_an_edge_where_no_other_image_has_one_raises_the_gradient_criteria() -> None:
    network, x = fitted()
    marked = x[:1].clone()
    marked[:, :, :, 20:22] = 1.0
    with torch.inference_mode():
        before, after = (network.measure(images, StandardNormal(LATENT_DIM)).criteria[0] for images in (x[:1], marked))
    assert (after[2:] > before[2:]).all()


def test_the_residual_distance_averages_the_number_of_dimensions_on_what_it_was_fitted_on() -> None:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    residual = torch.randn(5000, 6, generator=generator) @ mixing + 3.0
    statistics = ResidualStatistics(6)
    statistics.fit(residual)
    found = statistics(residual)
    covariance = torch.cov(residual.double().T)
    ridge = RIDGE * covariance.diagonal().mean() * torch.eye(6, dtype=torch.float64)
    # trace((S + ridge)^-1 S) (n - 1) / n: 6 but for what the ridge takes.
    expected = torch.linalg.solve(covariance + ridge, covariance).trace().item() * 4999 / 5000
    assert found.mean().item() == pytest.approx(expected, rel=1e-4)
    assert 5.0 < found.mean().item() <= 6.0
    assert (found >= 0.0).all()


def test_a_residual_that_does_not_vary_in_a_direction_keeps_the_distance_finite() -> None:
    residual = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    residual[:, 2] = 1.0
    statistics = ResidualStatistics(4)
    statistics.fit(residual)
    assert statistics(residual).isfinite().all()


def test_the_network_fits_its_distance_on_the_coarse_gradients() -> None:
    network, x = fitted()
    with torch.inference_mode():
        distance = network.measure(x, StandardNormal(LATENT_DIM)).criteria[:, 4]
    assert 0.0 < distance.mean().item() <= network.sizes[1]


def test_the_parts_that_a_run_keeps_are_all_that_measuring_needs() -> None:
    network, x = fitted()
    other = HogNetwork(channels=1, height=28, width=28, latent_dim=LATENT_DIM, hidden=0.1).eval()
    prior = StandardNormal(LATENT_DIM)
    with torch.inference_mode():
        expected = network.measure(x, prior)
        assert not torch.allclose(other.measure(x, prior).criteria, expected.criteria)
        for name, part in network.parts().items():
            other.parts()[name].load_state_dict(part.state_dict())
        for found, wanted in zip(other.measure(x, prior), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_every_criterion_has_a_term_and_the_weights_are_those_of_squared_distances() -> None:
    network, _ = fitted()
    prior = StandardNormal(LATENT_DIM)
    terms = network.terms(prior)
    assert tuple(terms) == network.criteria
    # A distance and its square: the logarithm of the one is half that of the other.
    assert terms["reconstruction_error"].weight == pytest.approx(0.4)
    assert all(term.weight == pytest.approx(0.2) for name, term in terms.items() if name != "reconstruction_error")
    assert terms["neg_log_prior"].floor == pytest.approx(0.5 * LATENT_DIM * math.log(2.0 * math.pi))


@pytest.mark.parametrize("side", [28, 32, 56, 64, 112, 128, 256])
def test_the_sizes_that_the_message_names_are_taken(side: int) -> None:
    check_hog_size(side, side)


@pytest.mark.parametrize(
    "size", [(1, 1), (15, 28), (28, 30), (29, 31), (100, 100), (97, 131), (513, 512), (4000, 3000)]
)
def test_a_size_that_does_not_fit_is_refused_with_one_that_does(size: tuple[int, int]) -> None:
    asked = "x".join(str(side) for side in size)
    with pytest.raises(ConfigError, match=rf"--imgsz {asked}: network hog takes sides from 16 to 512") as refused:
        HogNetwork(channels=1, height=size[0], width=size[1], latent_dim=LATENT_DIM)
    proposed = re.search(r"try --imgsz (\d+)x(\d+)$", str(refused.value))
    assert proposed is not None
    height, width = int(proposed[1]), int(proposed[2])
    check_hog_size(height, width)
    network = HogNetwork(channels=1, height=height, width=width, latent_dim=2, hidden=0.1)
    assert network.prepare(torch.rand(2, 1, height, width)).shape == (2, sum(network.sizes))


def test_every_size_that_is_taken_can_be_built() -> None:
    for side in range(16, 513):
        try:
            check_hog_size(side, 28)
        except ConfigError:
            continue
        network = HogNetwork(channels=1, height=side, width=28, latent_dim=2, hidden=0.02)
        assert network.prepare(torch.rand(1, 1, side, 28)).shape == (1, sum(network.sizes)), side
