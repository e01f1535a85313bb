"""The factor of a covariance: exact where it is broad enough, bounded where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.prior import FullNormal
from train.networks.whitening import LARGEST_CONDITION, whitening

ROTATION = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]


def covariance(condition: float) -> NDArray[np.float64]:
    """(6, 6) with eigenvalues from 1 down to 1 / condition, along no axis."""
    return (ROTATION * np.geomspace(1.0, 1.0 / condition, 6)) @ ROTATION.T


def test_the_factor_is_triangular_and_gives_the_inverse_covariance() -> None:
    factor = whitening(covariance(100.0))
    assert factor.dtype == np.float32
    assert np.array_equal(factor, np.tril(factor))
    np.testing.assert_allclose(factor @ factor.T @ covariance(100.0), np.eye(6), atol=1e-4)


@pytest.mark.parametrize(("condition", "left"), [(1e4, 1e4), (1e12, LARGEST_CONDITION)])
def test_no_direction_is_narrower_than_float32_can_tell(condition: float, left: float) -> None:
    values = np.linalg.svd(whitening(covariance(condition)).astype(np.float64), compute_uv=False)
    assert (values[0] / values[-1]) ** 2 == pytest.approx(left, rel=0.05)


def test_at_the_bound_float32_keeps_the_density_to_a_thousandth_of_its_spread() -> None:
    codes = np.random.default_rng(1).multivariate_normal(np.full(6, 3.0), covariance(1e12), 4000)
    prior = FullNormal(np.full(6, 3.0, dtype=np.float32), whitening(covariance(1e12)))
    exact = prior.neg_log_density(codes)
    rounded = prior.neg_log_density(codes.astype(np.float32))
    assert np.abs(rounded - exact).max() < 1e-3 * np.subtract(*np.quantile(exact, (0.75, 0.25)))
