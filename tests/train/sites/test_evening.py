"""Distances that swing alike at all sites: what one site's own noise is must not pass for a defect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_runtime.metrics import auroc
from train.sites.evening import evening
from train.sites.site_statistics import SiteStatistics, top_mean

GRID = (5, 6)
N_SITES = 30
RESTLESS = slice(0, 10)
"""Sites whose distance swings three times as far as the others'."""


def distances(n: int, seed: int) -> NDArray[np.float64]:
    swing = np.full(N_SITES, 0.1)
    swing[RESTLESS] = 0.3
    return np.exp(np.random.default_rng(seed).normal(size=(n, N_SITES)) * swing)


def test_a_defect_where_little_moves_is_told_from_noise_where_much_does() -> None:
    usual, new, defective = distances(60, 0), distances(100, 1), distances(100, 2)
    defective[:, 20:25] *= 1.4
    is_bad = np.arange(200) >= 100
    by = evening(usual)
    before, after = (
        auroc(np.concatenate((top_mean(new_), top_mean(bad))), is_bad)
        for new_, bad in ((new, defective), (by.of(new), by.of(defective)))
    )
    assert before < 0.9
    assert after > 0.99


def test_swings_are_alike_and_the_level_stays() -> None:
    usual = distances(400, 0)
    by = evening(usual)
    logs = np.log(by.of(usual))
    swings = np.quantile(logs, 0.84, axis=0) - np.quantile(logs, 0.16, axis=0)
    assert swings.max() / swings.min() < 1.5
    assert np.median(by.of(usual)) == pytest.approx(np.median(usual), rel=0.02)
    np.testing.assert_allclose(by.of(np.full((1, N_SITES), by.level)), by.level, rtol=1e-6)


def test_a_few_anomalies_and_sites_where_nothing_moves_change_little() -> None:
    usual = distances(40, 0)
    marked = usual.copy()
    marked[:2] *= 5.0
    np.testing.assert_allclose(evening(marked).exponents, evening(usual).exponents, rtol=0.25)
    usual[:, 25:] = 1.0
    exponents = evening(usual).exponents
    assert exponents.max() <= 1.0
    assert np.median(exponents[10:25]) > 0.5  # the still sites do not set the others' swing


@pytest.mark.parametrize("n", [1, 2, 5])
def test_of_few_images_little_is_believed(n: int) -> None:
    exponents = evening(distances(n, 0)).exponents
    assert np.isfinite(exponents).all()
    assert (
        np.abs(np.log(exponents)).max()
        < np.abs(np.log(evening(np.repeat(distances(n, 0), 40, axis=0)).exponents)).max() + 1e-6
    )


def test_images_that_are_all_the_same_leave_distances_as_they_are() -> None:
    by = evening(np.ones((20, N_SITES)))
    np.testing.assert_allclose(by.exponents, 1.0)
    assert np.isfinite(by.of(np.zeros((2, N_SITES)))).all()


def test_the_network_evens_as_training_did_and_one_of_before_does_not() -> None:
    generator = torch.Generator().manual_seed(0)
    statistics, reduced = SiteStatistics(8, GRID, 4), torch.randn(3, 8, *GRID, generator=generator)
    statistics.whitening.copy_(torch.eye(8).half().expand(N_SITES, 8, 8))
    statistics.prototypes.copy_(torch.randn(4, 8, generator=generator))
    before = {name: value for name, value in statistics.state_dict().items() if name not in ("exponents", "levels")}
    plain = statistics.site_distance(reduced), statistics.neighbour_distance(reduced)
    by = evening(distances(60, 0))
    for of, distance in enumerate((statistics.site_distance, statistics.neighbour_distance)):
        statistics.even(of, by)
        expected = by.of(plain[of].flatten(1).numpy())
        np.testing.assert_allclose(distance(reduced).flatten(1).numpy(), expected, rtol=1e-5)
    statistics.load_state_dict(before)
    torch.testing.assert_close(statistics.site_distance(reduced), plain[0])
    torch.testing.assert_close(statistics.neighbour_distance(reduced), plain[1])
