"""The latent prior: density by hand-worked numbers, and prior.npz read without trusting it."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.model.prior import FullNormal, NormalMixture, Prior, StandardNormal, prior_from_npz

SUMMATION_RTOL = 1e-6
"""numpy and torch add float32 values in another order."""


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_the_density_of_a_standard_normal_by_hand() -> None:
    z = np.array([[0.0, 0.0], [3.0, 4.0], [-1.0, 0.0]])
    # D/2 log(2 pi) = 1.8378770664 for D = 2, plus half of 0, 25 and 1
    np.testing.assert_allclose(
        StandardNormal(2).neg_log_density(z), [1.8378770664, 14.3378770664, 2.3378770664], rtol=1e-10
    )


def test_the_constant_grows_with_the_dimension() -> None:
    assert StandardNormal(1).neg_log_density(np.zeros((1, 1)))[0] == pytest.approx(0.9189385332, rel=1e-9)
    assert StandardNormal(3).neg_log_density(np.zeros((1, 3)))[0] == pytest.approx(2.7568155996, rel=1e-9)


def test_numpy_and_torch_give_the_same_density() -> None:
    torch = pytest.importorskip("torch")
    prior = StandardNormal(8)
    z = np.random.default_rng(0).standard_normal((16, 8), dtype=np.float32)
    from_torch = prior.neg_log_density(torch.from_numpy(z))
    assert isinstance(from_torch, torch.Tensor)
    np.testing.assert_allclose(from_torch.numpy(), prior.neg_log_density(z), rtol=SUMMATION_RTOL)


def test_samples_follow_the_generator_that_is_passed() -> None:
    prior = StandardNormal(3)
    draws = prior.sample(5000, np.random.default_rng(7))
    assert draws.shape == (5000, 3)
    assert draws.dtype == np.float32
    np.testing.assert_array_equal(draws, prior.sample(5000, np.random.default_rng(7)))
    assert not np.array_equal(draws, prior.sample(5000, np.random.default_rng(8)))
    np.testing.assert_allclose(draws.mean(axis=0), 0.0, atol=0.06)  # four standard errors of 1 / sqrt(5000)
    np.testing.assert_allclose(draws.std(axis=0), 1.0, atol=0.04)


def test_a_prior_survives_its_npz() -> None:
    assert prior_from_npz(StandardNormal(16).to_npz()) == StandardNormal(16)


def test_the_same_prior_gives_the_same_bytes() -> None:
    assert StandardNormal(16).to_npz() == StandardNormal(16).to_npz()
    assert StandardNormal(16).to_npz() != StandardNormal(17).to_npz()


def test_an_unknown_kind_of_prior_is_refused() -> None:
    with pytest.raises(BundleError, match="prior kind 'mixture', this release knows standard_normal, full_norm"):
        prior_from_npz(npz(kind=np.array("mixture"), dim=np.array(2)))


def test_a_prior_without_a_kind_is_refused() -> None:
    with pytest.raises(BundleError, match=r"prior\.npz holds prior kind None"):
        prior_from_npz(npz(dim=np.array(2)))


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param({}, id="missing"),
        pytest.param({"dim": np.array(0)}, id="zero"),
        pytest.param({"dim": np.array(-3)}, id="negative"),
        pytest.param({"dim": np.array([2, 2])}, id="two values"),
        pytest.param({"dim": np.array(2.5)}, id="fraction"),
        pytest.param({"dim": np.array(np.nan)}, id="NaN"),
        pytest.param({"dim": np.array("two")}, id="text"),
    ],
)
def test_a_prior_without_a_positive_whole_dimension_is_refused(arrays: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"p\.npz lacks a positive latent dimension 'dim'; export the bundle again"):
        prior_from_npz(npz(kind=np.array("standard_normal"), **arrays), name="p.npz")


def test_a_pickled_prior_is_refused() -> None:
    with pytest.raises(BundleError, match=r"prior\.npz is a Python pickle, which can run code and is not read"):
        prior_from_npz(pickle.dumps(StandardNormal(2)))


def test_a_prior_whose_entry_is_no_array_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("kind.npy", npy(np.array("standard_normal")))
        archive.writestr("dim.npy", b"2")
    with pytest.raises(BundleError, match=r"prior\.npz"):
        prior_from_npz(buffer.getvalue())


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


WIDE_COVARIANCE = np.array([[4.0, 1.2, 0.0], [1.2, 1.0, -0.3], [0.0, -0.3, 0.25]])


def full_normal(mean: tuple[float, ...] = (1.0, -2.0, 0.5), scale: float = 1.0) -> FullNormal:
    whitening = np.linalg.cholesky(np.linalg.inv(scale * WIDE_COVARIANCE))
    return FullNormal(np.array(mean, dtype=np.float32), whitening.astype(np.float32))


def mixture() -> NormalMixture:
    parts = [full_normal(), full_normal((-4.0, 0.0, 1.0), 0.2), full_normal((3.0, 3.0, -1.0), 2.0)]
    return NormalMixture(
        np.array([0.5, 0.2, 0.3], dtype=np.float32),
        np.stack([part.mean for part in parts]),
        np.stack([part.whitening for part in parts]),
    )


def covariance_of(whitening: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    precise = whitening.astype(np.float64)
    return np.linalg.inv(precise @ precise.T)


def by_scipy(prior: NormalMixture, z: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    stats, special = pytest.importorskip("scipy.stats"), pytest.importorskip("scipy.special")
    logs = [
        np.log(float(weight)) + stats.multivariate_normal(mean, covariance_of(whitening)).logpdf(z)
        for weight, mean, whitening in zip(prior.weights, prior.means, prior.whitenings, strict=True)
    ]
    density: np.ndarray[Any, Any] = -special.logsumexp(np.stack(logs), axis=0)
    return density


FITTED = [pytest.param(full_normal(), id="full_normal"), pytest.param(mixture(), id="normal_mixture")]


def test_a_full_normal_has_the_density_that_scipy_gives() -> None:
    stats = pytest.importorskip("scipy.stats")
    prior = full_normal()
    z = np.random.default_rng(0).normal(0.0, 3.0, (50, 3))
    expected = -stats.multivariate_normal(prior.mean, covariance_of(prior.whitening)).logpdf(z)
    np.testing.assert_allclose(prior.neg_log_density(z), expected, rtol=1e-9)


def test_a_full_normal_of_unit_covariance_is_the_standard_normal() -> None:
    prior = FullNormal(np.zeros(4, dtype=np.float32), np.eye(4, dtype=np.float32))
    z = np.random.default_rng(0).standard_normal((8, 4))
    np.testing.assert_allclose(prior.neg_log_density(z), StandardNormal(4).neg_log_density(z), rtol=1e-12)


def test_a_mixture_has_the_density_that_scipy_gives() -> None:
    z = np.random.default_rng(0).normal(0.0, 4.0, (50, 3))
    np.testing.assert_allclose(mixture().neg_log_density(z), by_scipy(mixture(), z), rtol=1e-9)


def test_a_mixture_is_finite_far_from_every_component() -> None:
    z = np.array([[1e4, -1e4, 1e4]])
    np.testing.assert_allclose(mixture().neg_log_density(z), by_scipy(mixture(), z), rtol=1e-9)
    assert np.isfinite(mixture().neg_log_density(z.astype(np.float32))).all()


def test_a_mixture_of_one_component_is_that_normal() -> None:
    part = full_normal()
    alone = NormalMixture(np.ones(1, dtype=np.float32), part.mean[None], part.whitening[None])
    z = np.random.default_rng(0).standard_normal((8, 3))
    np.testing.assert_allclose(alone.neg_log_density(z), part.neg_log_density(z), rtol=1e-12)
    assert alone.floor == pytest.approx(part.floor, rel=1e-6)


@pytest.mark.parametrize("prior", FITTED)
def test_numpy_and_torch_give_the_same_density_of_fitted_priors(prior: Prior) -> None:
    torch = pytest.importorskip("torch")
    z = np.random.default_rng(0).standard_normal((16, 3), dtype=np.float32)
    from_torch = prior.neg_log_density(torch.from_numpy(z))
    assert isinstance(from_torch, torch.Tensor)
    assert from_torch.dtype == torch.float32
    np.testing.assert_allclose(from_torch.numpy(), prior.neg_log_density(z), rtol=1e-5)


@pytest.mark.parametrize("prior", [*FITTED, pytest.param(StandardNormal(3), id="standard_normal")])
def test_no_code_has_a_density_below_the_floor(prior: Prior) -> None:
    rng = np.random.default_rng(0)
    modes = {"full_normal": full_normal().mean[None], "normal_mixture": mixture().means}.get(
        prior.kind, np.zeros((1, 3))
    )
    z = np.concatenate([modes, modes + rng.normal(0.0, 1e-3, modes.shape), rng.normal(0.0, 3.0, (5000, 3))])
    assert prior.neg_log_density(z.astype(np.float64)).min() >= prior.floor - 1e-9


def test_the_floor_of_a_normal_is_reached_at_its_mean() -> None:
    prior = full_normal()
    assert prior.neg_log_density(prior.mean[None].astype(np.float64))[0] == pytest.approx(prior.floor, rel=1e-12)
    half_log_det = 0.5 * np.log(np.linalg.det(WIDE_COVARIANCE))
    assert prior.floor == pytest.approx(1.5 * np.log(2.0 * np.pi) + half_log_det, rel=1e-6)


@pytest.mark.parametrize("prior", FITTED)
def test_a_fitted_prior_survives_its_npz(prior: Prior) -> None:
    content = prior.to_npz()
    again = prior_from_npz(content)
    assert type(again) is type(prior)
    assert again.to_npz() == content == prior.to_npz()
    assert (again.kind, again.dim, again.floor) == (prior.kind, 3, prior.floor)
    z = np.random.default_rng(0).standard_normal((8, 3))
    np.testing.assert_array_equal(again.neg_log_density(z), prior.neg_log_density(z))


@pytest.mark.parametrize("prior", FITTED)
def test_samples_of_a_fitted_prior_have_its_mean_and_covariance(prior: FullNormal | NormalMixture) -> None:
    draws = prior.sample(40_000, np.random.default_rng(3))
    assert draws.shape == (40_000, 3)
    assert draws.dtype == np.float32
    np.testing.assert_array_equal(draws, prior.sample(40_000, np.random.default_rng(3)))
    if isinstance(prior, FullNormal):
        weights, means, whitenings = np.ones(1), prior.mean[None], prior.whitening[None]
    else:
        weights, means, whitenings = prior.weights, prior.means, prior.whitenings
    mean = weights @ means
    covariance = sum(
        weight * (covariance_of(whitening) + np.outer(part - mean, part - mean))
        for weight, part, whitening in zip(weights, means, whitenings, strict=True)
    )
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=0.08)  # five standard errors of 3.2 / sqrt(40 000)
    np.testing.assert_allclose(np.cov(draws, rowvar=False), covariance, atol=0.3)


EYE = np.eye(2, dtype=np.float32)
GOOD_ARRAYS: dict[str, dict[str, Any]] = {
    "full_normal": {"mean": np.zeros(2, np.float32), "whitening": EYE},
    "normal_mixture": {
        "weights": np.full(2, 0.5, np.float32),
        "means": np.zeros((2, 2), np.float32),
        "whitenings": np.stack([EYE, EYE]),
    },
}


@pytest.mark.parametrize("kind", GOOD_ARRAYS)
def test_the_arrays_that_the_bad_ones_are_made_of_are_good(kind: str) -> None:
    assert prior_from_npz(npz(kind=np.array(kind), **GOOD_ARRAYS[kind])).dim == 2


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        pytest.param("full_normal", {"mean": np.zeros(3)}, id="mean of another size"),
        pytest.param("full_normal", {"mean": np.array(1.0)}, id="mean is one number"),
        pytest.param("full_normal", {"mean": np.zeros(0), "whitening": np.zeros((0, 0))}, id="no dimension"),
        pytest.param("full_normal", {"mean": np.array([0.0, np.nan])}, id="mean is NaN"),
        pytest.param("full_normal", {"mean": np.array(["a", "b"])}, id="mean is text"),
        pytest.param("full_normal", {"whitening": np.array([[1.0, np.inf], [0.0, 1.0]])}, id="whitening is inf"),
        pytest.param("full_normal", {"whitening": np.ones((2, 3))}, id="whitening not square"),
        pytest.param("full_normal", {"whitening": np.zeros((2, 2))}, id="whitening singular"),
        pytest.param("normal_mixture", {"weights": np.array([0.5, 0.4])}, id="weights sum to 0.9"),
        pytest.param("normal_mixture", {"weights": np.array([1.5, -0.5])}, id="negative weight"),
        pytest.param("normal_mixture", {"weights": np.array([np.nan, 1.0])}, id="weight is NaN"),
        pytest.param("normal_mixture", {"weights": np.array(1.0)}, id="weights are one number"),
        pytest.param("normal_mixture", {"weights": np.array(["a", "b"])}, id="weights are text"),
        pytest.param("normal_mixture", {"means": np.zeros((3, 2))}, id="more means than weights"),
        pytest.param("normal_mixture", {"means": np.array(0.0)}, id="means are one number"),
        pytest.param("normal_mixture", {"means": np.zeros(2)}, id="means are flat"),
        pytest.param("normal_mixture", {"whitenings": np.zeros((2, 2, 2))}, id="whitenings singular"),
        pytest.param("normal_mixture", {"whitenings": np.ones((2, 2, 3))}, id="whitenings not square"),
    ],
)
def test_arrays_that_are_no_density_are_refused(kind: str, bad: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=rf"p\.npz of kind {kind} cannot be used: .*; export the bundle again"):
        prior_from_npz(npz(kind=np.array(kind), **{**GOOD_ARRAYS[kind], **bad}), name="p.npz")


@pytest.mark.parametrize(("kind", "array"), [(kind, array) for kind, arrays in GOOD_ARRAYS.items() for array in arrays])
def test_a_missing_array_is_named(kind: str, array: str) -> None:
    rest = {name: value for name, value in GOOD_ARRAYS[kind].items() if name != array}
    with pytest.raises(BundleError, match=rf"prior\.npz of kind {kind} lacks {array}; export the bundle again"):
        prior_from_npz(npz(kind=np.array(kind), **rest))


def test_a_wide_normal_of_many_dimensions_is_not_taken_for_singular() -> None:
    # The determinant of the whitening, 1e-512, is below the least float64; its logarithm is not.
    prior = FullNormal(np.zeros(128, dtype=np.float32), 1e-4 * np.eye(128, dtype=np.float32))
    assert prior.floor == pytest.approx(128 * (0.5 * np.log(2.0 * np.pi) + np.log(1e4)), rel=1e-6)
