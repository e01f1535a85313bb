"""Densities fitted to codes: they find what the codes were drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.model.prior import NormalMixture
from train.networks.whitening import RIDGE
from train.strategies.density import fit_density, fit_mixture, fit_normal

COVARIANCE = np.array([[4.0, 1.2], [1.2, 1.0]])


def test_a_fitted_normal_has_mean_and_covariance_of_the_codes_and_a_ridge() -> None:
    codes = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0], [4.0, 2.0]])
    prior = fit_normal(codes)
    assert prior.mean.tolist() == [2.0, 1.0]
    # Variances 16/3 and 4/3 over n - 1 = 3; the ridge is 1 % of their mean, 10/3.
    ridge = RIDGE * 10.0 / 3.0
    expected = np.diag([16.0 / 3.0 + ridge, 4.0 / 3.0 + ridge])
    np.testing.assert_allclose(np.linalg.inv(prior.whitening @ prior.whitening.T), expected, rtol=1e-5, atol=1e-5)
    assert prior.mean.dtype == prior.whitening.dtype == np.float32


def test_codes_have_half_their_dimension_above_the_floor_on_average() -> None:
    codes = np.random.default_rng(0).multivariate_normal((3.0, -1.0), COVARIANCE, 5000)
    prior = fit_normal(codes)
    # Half the squared Mahalanobis distance averages D/2, a little less for the ridge.
    assert float((prior.neg_log_density(codes) - prior.floor).mean()) == pytest.approx(1.0, rel=0.05)


def test_a_dimension_that_does_not_vary_keeps_the_density_finite() -> None:
    codes = np.random.default_rng(0).normal(0.0, 1.0, (200, 3)).astype(np.float32)
    codes[:, 1] = 5.0
    prior = fit_normal(codes)
    assert np.isfinite(prior.neg_log_density(codes)).all()
    assert math.isfinite(prior.floor)


def test_one_latent_dimension_is_enough() -> None:
    codes = np.random.default_rng(0).normal(2.0, 3.0, (500, 1)).astype(np.float32)
    prior = fit_normal(codes)
    assert prior.dim == 1
    assert 1.0 / float(prior.whitening[0, 0]) == pytest.approx(float(codes.std()) * math.sqrt(1.0 + RIDGE), rel=1e-2)


def test_a_fitted_mixture_finds_the_modes_of_the_codes() -> None:
    rng = np.random.default_rng(0)
    centers = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])
    codes = np.concatenate([rng.normal(center, 1.0, (200, 2)) for center in centers])
    prior = fit_mixture(codes, 0, 4)
    assert len(prior.weights) == 4
    np.testing.assert_allclose(np.sort(prior.weights), 0.25, atol=0.01)
    distances = np.linalg.norm(prior.means[:, None] - centers[None], axis=2)
    assert sorted(distances.argmin(axis=1).tolist()) == [0, 1, 2, 3]
    assert distances.min(axis=1).max() < 0.5


def test_between_the_modes_a_mixture_is_less_likely_and_one_normal_more() -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal((-10.0, 0.0), 1.0, (300, 2)), rng.normal((10.0, 0.0), 1.0, (300, 2))])
    middle, mode = np.zeros((1, 2)), np.array([[10.0, 0.0]])
    mixture, normal = fit_mixture(codes, 0, components=2), fit_normal(codes)
    assert mixture.neg_log_density(middle)[0] > mixture.neg_log_density(mode)[0] + 10.0
    assert normal.neg_log_density(middle)[0] < normal.neg_log_density(mode)[0]


def test_the_same_seed_fits_the_same_mixture() -> None:
    codes = np.random.default_rng(0).normal(0.0, 1.0, (300, 3))
    assert fit_mixture(codes, 5, 4).to_npz() == fit_mixture(codes, 5, 4).to_npz()


def test_as_many_densities_as_asked_and_no_more_than_codes_can_tell() -> None:
    codes = np.random.default_rng(0).normal(0.0, 1.0, (60, 2)).astype(np.float32)
    assert fit_density(codes, 1, 0).kind == "full_normal"
    mixture = fit_density(codes, 4, 0)
    assert isinstance(mixture, NormalMixture)
    assert len(mixture.weights) == 4
    # A covariance of two dimensions needs three codes: five of them are enough for one.
    assert fit_density(codes[:5], 4, 0).kind == "full_normal"
