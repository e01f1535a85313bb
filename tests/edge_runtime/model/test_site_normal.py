"""A density at every site: against scipy's at each, as numpy and as torch, and through prior.npz."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.prior import SiteNormal, prior_from_npz
from edge_runtime.npz import npz_bytes

D, H, W = 3, 2, 4


@pytest.fixture
def prior() -> SiteNormal:
    rng = np.random.default_rng(5)
    mean = rng.normal(size=(D, H, W)).astype(np.float32)
    whitening = np.tril(rng.normal(size=(H * W, D, D))) * 0.3
    whitening[:, range(D), range(D)] = rng.uniform(0.5, 2.0, (H * W, D))
    return SiteNormal(mean, whitening.astype(np.float32))


def test_it_is_the_density_of_each_site(prior: SiteNormal) -> None:
    stats = pytest.importorskip("scipy.stats")
    z = np.random.default_rng(1).normal(size=(5, D, H, W)).astype(np.float32)
    found = prior.neg_log_density(z)
    assert found.shape == (5, H, W)
    for site in range(H * W):
        y, x = divmod(site, W)
        inverse = np.linalg.inv(prior.whitening[site].astype(np.float64))
        density = stats.multivariate_normal(prior.mean[:, y, x], inverse @ inverse.T)
        np.testing.assert_allclose(found[:, y, x], -density.logpdf(z[:, :, y, x]), rtol=1e-4)


def test_numpy_and_torch_agree_and_the_floor_is_the_least(prior: SiteNormal) -> None:
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(2).normal(size=(4, D, H, W)).astype(np.float32)
    np.testing.assert_allclose(prior.neg_log_density(torch.from_numpy(z)).numpy(), prior.neg_log_density(z), rtol=1e-5)
    at_mean = prior.neg_log_density(prior.mean[None])
    assert at_mean.min() == pytest.approx(prior.floor, rel=1e-6)
    assert (prior.neg_log_density(z) >= prior.floor).all()


def test_draws_have_the_sites_means_and_spreads(prior: SiteNormal) -> None:
    drawn = prior.sample(20_000, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn.mean(axis=0), prior.mean, atol=0.15)
    inverse = np.linalg.inv(prior.whitening.astype(np.float64))
    variances = np.einsum("sij,sij->si", inverse, inverse).T.reshape(D, H, W)
    np.testing.assert_allclose(drawn.var(axis=0), variances, rtol=0.1)


def test_it_goes_through_a_file_to_the_bit(prior: SiteNormal) -> None:
    read = prior_from_npz(prior.to_npz())
    assert isinstance(read, SiteNormal)
    assert read.to_npz() == prior.to_npz()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"whitening": np.zeros((3, D, D))}, "expected (D, h, w) and (h w, D, D)"),
        ({"mean": np.zeros(D)}, "expected (D, h, w) and (h w, D, D)"),
        ({"mean": np.full((D, H, W), np.nan)}, "not finite"),
        ({"whitening": np.zeros((H * W, D, D))}, "some direction does not vary"),
    ],
)
def test_arrays_that_are_no_density_are_refused(prior: SiteNormal, changes: dict[str, np.ndarray], says: str) -> None:
    arrays = {"mean": prior.mean, "whitening": prior.whitening, **changes}
    with pytest.raises(ConfigError) as refused:
        SiteNormal(arrays["mean"].astype(np.float32), arrays["whitening"].astype(np.float32))
    assert says in str(refused.value)
    with pytest.raises(BundleError, match="site_normal cannot be used"):
        prior_from_npz(npz_bytes({"kind": np.array("site_normal"), **arrays}))


def test_a_file_without_an_array_is_refused(prior: SiteNormal) -> None:
    with pytest.raises(BundleError, match="site_normal lacks whitening"):
        prior_from_npz(npz_bytes({"kind": np.array("site_normal"), "mean": prior.mean}))
