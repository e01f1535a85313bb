"""The exposure: which codes look like those that a person rejected, as a probability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from train.networks.hog_network import HogNetwork
from train.strategies.exposure import fit_exposure


def probabilities(codes: NDArray[np.float32], rejected: NDArray[np.bool_], of: NDArray[np.float32]) -> list[float]:
    """What an exposure that was fitted to codes says of others."""
    network = HogNetwork(channels=1, height=16, width=16, latent_dim=codes.shape[1], hidden=0.1)
    exposure = network.attach_exposure()
    fit_exposure(exposure, codes, rejected)
    assert all(parameter.isfinite().all() for parameter in exposure.parameters())
    with torch.no_grad():
        found: list[float] = exposure(torch.from_numpy(of)).tolist()
    return found


def two_clusters(n_rejected: int = 400, n: int = 2000) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    codes = np.random.default_rng(0).normal(0.0, 1.0, (n, 4)).astype(np.float32)
    rejected = np.arange(n) < n_rejected
    codes[rejected, 1] += 12.0
    return codes, rejected


def test_codes_that_can_be_told_apart_get_probabilities_near_one_and_zero() -> None:
    codes, rejected = two_clusters()
    found = np.array(probabilities(codes, rejected, codes))
    assert found[rejected].min() > 0.5 > found[~rejected].max()
    assert found[rejected].mean() > 0.9
    assert found[~rejected].mean() < 0.05


def test_a_code_that_nobody_has_seen_is_judged_by_its_side() -> None:
    codes, rejected = two_clusters()
    like_rejected, like_others = probabilities(codes, rejected, np.array([[0, 12, 0, 0], [0, 0, 0, 0]], np.float32))
    assert like_rejected > 0.9
    assert like_others < 0.05


def test_few_rejected_images_make_it_less_sure_than_many() -> None:
    far = np.array([[0, 12, 0, 0]], np.float32)
    sure = [probabilities(*two_clusters(n // 5, n), far)[0] for n in (50, 200, 2000)]
    assert sure == sorted(sure)
    assert 0.3 < sure[0] < 0.9 < sure[-1]


def test_scale_and_place_of_the_codes_do_not_matter() -> None:
    codes, rejected = two_clusters()
    moved = (codes * np.array([1e-3, 1e3, 1.0, 10.0]) + np.array([0.0, 50.0, -7.0, 3.0])).astype(np.float32)
    np.testing.assert_allclose(probabilities(codes, rejected, codes), probabilities(moved, rejected, moved), atol=1e-3)


@pytest.mark.parametrize("rejects", [False, True])
def test_where_none_or_all_were_rejected_no_code_looks_rejected(rejects: bool) -> None:
    codes, _ = two_clusters()
    found = probabilities(codes, np.full(len(codes), rejects), 1e6 * codes)
    assert 0.0 < min(found) == max(found) < 1e-12


def test_one_rejected_image_is_enough_and_bounded() -> None:
    codes, rejected = two_clusters(n_rejected=1)
    found = np.array(probabilities(codes, rejected, codes))
    assert found.argmax() == 0
    assert (found >= 0.0).all()
    assert (found <= 1.0).all()


def test_a_dimension_in_which_all_codes_agree_does_not_break_the_fit() -> None:
    codes, rejected = two_clusters()
    codes[:, 2] = 3.0
    found = np.array(probabilities(codes, rejected, codes))
    assert found[rejected].min() > 0.5 > found[~rejected].max()
