"""Photographs that change along their order are told from those that do not."""

from __future__ import annotations

import numpy as np
import torch

from train.sites.site_gaussian import SiteSums
from train.sites.stretches import LEAST_CHANGE, N_STRETCHES, change_along, stretches_of

N_IMAGES, N_SITES, DIMENSIONS = 120, 6, 8


def in_sessions(length: int, share: float, seed: int = 0) -> SiteSums:
    """Features of sessions of so many images, each with its own level at every site: that share of the variance."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(N_IMAGES, N_SITES, DIMENSIONS, generator=generator)
    of_session = torch.randn(-(-N_IMAGES // length), N_SITES, DIMENSIONS, generator=generator)
    rows = (1.0 - share) ** 0.5 * own + share**0.5 * of_session.repeat_interleave(length, dim=0)[:N_IMAGES]
    return SiteSums(rows, np.ones(N_IMAGES, dtype=np.bool_))


def test_sessions_are_seen_and_the_same_images_in_any_order_are_not() -> None:
    sums, alone = in_sessions(12, 0.6), np.arange(N_IMAGES)
    assert change_along(sums, alone) > 2.0 * LEAST_CHANGE
    mixed = np.random.default_rng(0).permutation(N_IMAGES)
    assert abs(change_along(SiteSums(sums.reduced[torch.from_numpy(mixed)], sums.kept), alone)) < LEAST_CHANGE / 2.0
    for seed in range(5):
        assert abs(change_along(in_sessions(12, 0.0, seed), alone)) < LEAST_CHANGE / 2.0


def test_a_few_defects_that_follow_each_other_are_no_session() -> None:
    rows = in_sessions(12, 0.0).reduced.clone()
    rows[40:46, 0] += 6.0
    assert (
        abs(change_along(SiteSums(rows, np.ones(N_IMAGES, dtype=np.bool_)), np.arange(N_IMAGES))) < LEAST_CHANGE / 2.0
    )


def test_stretches_keep_groups_whole_and_are_about_equal() -> None:
    groups = np.repeat(np.arange(43), 3)
    stretches = stretches_of(groups)
    assert np.array_equal(np.unique(stretches), np.arange(N_STRETCHES))
    assert all(len(np.unique(stretches[groups == group])) == 1 for group in range(43))
    assert (np.diff(stretches) >= 0).all()
    sizes = np.bincount(stretches)
    assert sizes.max() - sizes.min() <= 3
