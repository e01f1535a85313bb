"""The latent prior: density by hand-worked numbers, and prior.npz read without trusting it."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import BundleError
from edge_runtime.prior import StandardNormal, prior_from_npz

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
    with pytest.raises(BundleError, match="prior kind 'mixture', this release knows 'standard_normal', 'full_norm"):
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
