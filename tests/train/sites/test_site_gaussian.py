"""Distributions at sites: what leaving images out gives in closed form is what a fit without them gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from train.sites import site_gaussian
from train.sites.coreset import farthest_points, held_out_neighbours, neighbour_distances
from train.sites.site_gaussian import SiteSums, fit_reduction, rounded

N, S, D = 12, 6, 4


@pytest.fixture
def rows() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    mixing = torch.randn(S, D, D, generator=generator)
    return torch.einsum("sij,nsj->nsi", mixing, torch.randn(N, S, D, generator=generator)) + 2.0


def refitted(rows: Tensor, kept: np.ndarray, judged: Tensor) -> np.ndarray:
    """Distances by a fit on the kept images alone, from its own factors."""
    mean, factor = SiteSums(rows, kept).factors()
    white = torch.linalg.solve_triangular(factor, (judged.double() - mean)[..., None], upper=False)[..., 0]
    return white.square().mean(dim=2).sqrt().numpy()


@pytest.mark.parametrize("groups", [np.arange(N), np.arange(N) // 3, np.array([0] * 7 + [1] * 5)])
def test_leaving_a_group_out_equals_a_fit_without_it(
    rows: Tensor, groups: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the digit, what sites have in common aside: the one thing that is not taken off."""
    whole = SiteSums(rows, np.array([True] * 5 + [False] + [True] * 6))
    common = site_gaussian._common(site_gaussian._moments(whole.n, whole.first, whole.second)[1])
    monkeypatch.setattr(site_gaussian, "_common", lambda _: common)
    kept = np.ones(N, dtype=np.bool_)
    kept[5] = False
    owners = np.array([0, 4, 11])
    other = rows[owners] + 1.0
    own, others = SiteSums(rows, kept).held_out(groups, other, owners)
    for index in range(N):
        expected = refitted(rows, kept & (groups != groups[index]), rows[index : index + 1])[0]
        np.testing.assert_allclose(own[index], expected, rtol=1e-5)
    for row, owner in enumerate(owners):
        expected = refitted(rows, kept & (groups != groups[owner]), other[row : row + 1])[0]
        np.testing.assert_allclose(others[row], expected, rtol=1e-5)


def test_what_sites_have_in_common_hardly_changes_when_a_few_of_many_are_left_out() -> None:
    rows = torch.randn(60, S, D, generator=torch.Generator().manual_seed(5))
    kept, groups = np.ones(60, dtype=np.bool_), np.arange(60) // 3
    own, _ = SiteSums(rows, kept).held_out(groups)
    exact = np.concatenate([refitted(rows, groups != group, rows[groups == group]) for group in range(20)])
    np.testing.assert_allclose(own, exact, rtol=0.01)


def test_covariances_are_shrunk_to_what_sites_have_in_common(rows: Tensor) -> None:
    mean, factor = SiteSums(rows, np.ones(N, dtype=np.bool_)).factors()
    own = np.stack([np.cov(rows[:, site].double().numpy(), rowvar=False) for site in range(S)])
    common = own.mean(axis=0)
    common += 1e-4 * np.trace(common) / D * np.eye(D)
    np.testing.assert_allclose((factor @ factor.transpose(1, 2)).numpy(), 0.9 * own + 0.1 * common, rtol=1e-9)
    np.testing.assert_allclose(mean.numpy(), rows.double().mean(dim=0).numpy())


def test_a_rounded_whitening_is_exact_in_half_precision_and_near(rows: Tensor) -> None:
    _, factor = SiteSums(rows, np.ones(N, dtype=np.bool_)).factors()
    whitening = rounded(factor)
    assert whitening.dtype == torch.float16
    exact = torch.linalg.inv(factor)
    step = exact.abs().amax(dim=2, keepdim=True) / 63.0
    assert ((whitening.double() - exact).abs() <= step / 2 + 1e-12).all()
    assert len(np.unique(whitening.numpy())) <= 255 * 20
    assert (whitening.triu(1) == 0).all()


def test_reduced_features_have_unit_covariance_over_sites() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.einsum("ij,njhw->nihw", torch.randn(5, 5, generator=generator), torch.randn(80, 5, 3, 4))
    features = features + 10.0 * torch.randn(5, 3, 4, generator=generator)
    projection, mean = fit_reduction(features, 5, seed=0)
    reduced = torch.einsum("di,nihw->ndhw", projection, features - mean)
    rows = reduced.permute(0, 2, 3, 1).reshape(-1, 5)
    np.testing.assert_allclose((rows.T @ rows / len(rows)).numpy(), np.eye(5), atol=0.03)
    np.testing.assert_allclose(fit_reduction(features, 5, seed=0)[0], projection)
    few, _ = fit_reduction(features, 8, seed=0)
    assert few.shape == (8, 5)
    assert (few[5:] == 0).all()


def test_prototypes_cover_and_an_image_is_judged_by_those_of_others() -> None:
    rows = torch.randn(9, S, D, generator=torch.Generator().manual_seed(1))
    sites = rows.flatten(0, 1)
    points = farthest_points(sites, 12, torch.Generator().manual_seed(0))
    assert len(torch.unique(points, dim=0)) == 12
    quarter = farthest_points(sites, 60, torch.Generator().manual_seed(0))
    assert (len(quarter), len(torch.unique(quarter, dim=0))) == (60, -(-len(sites) // 4))
    assert neighbour_distances(rows, quarter).max() < neighbour_distances(rows, points[:5]).max()
    folds = np.arange(9) % 3
    generator = torch.Generator().manual_seed(0)
    own, _ = held_out_neighbours(
        rows, np.ones(9, dtype=np.bool_), folds, 10, generator, rows[:0], np.zeros(0, np.int64)
    )
    seen = rows[torch.from_numpy(np.flatnonzero(folds != 0))].flatten(0, 1)
    others = farthest_points(seen, 10, torch.Generator().manual_seed(0))
    expected = torch.cdist(rows[0], others).amin(dim=1) / D**0.5
    np.testing.assert_allclose(own[0], expected, rtol=1e-4)
