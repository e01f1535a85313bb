"""PatchCore by hand-worked numbers, and SoftPatch where the training images hold defects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.peers.memory import TAKEN_OUT, PatchCore, SoftPatch, nearest_of, outlier_factors
from edge_runtime.metrics import auroc


def _normal(n: int, seed: int, side: int = 4) -> Tensor:
    """(n, side, side, 6), each site around a place of its own."""
    places = 10.0 * torch.randn((1, side, side, 6), generator=torch.Generator().manual_seed(99))
    return places + torch.randn((n, side, side, 6), generator=torch.Generator().manual_seed(seed))


def _with_defect(images: Tensor) -> Tensor:
    """Every image with one and the same odd patch."""
    odd = images.clone()
    odd[:, 1, 2] += 12.0
    return odd


def test_the_score_is_the_largest_distance_weighted_by_the_neighbours_of_what_it_met() -> None:
    remembered = torch.tensor([0.0, 1.0, 10.0]).reshape(3, 1, 1, 1)
    asked = torch.tensor([[0.0, 4.0]]).reshape(1, 1, 2, 1)  # 4 is 3 from its nearest, 1
    among = sum(math.exp(distance) for distance in (3.0, 4.0, 6.0))  # of 1, 0 and 10 to 4
    expected = (1.0 - math.exp(3.0) / among) * 3.0
    assert PatchCore(remembered, seed=0, share=1.0).scores(asked) == pytest.approx([expected])


def test_distances_are_to_the_nearest_and_say_which_it_is() -> None:
    generator = torch.Generator().manual_seed(0)
    patches, memory = (torch.randn((n, 5), generator=generator) for n in (600, 40))
    distances, nearest = nearest_of(patches, memory)
    every = torch.cdist(patches, memory)
    assert torch.equal(nearest, every.argmin(dim=1))
    torch.testing.assert_close(distances, every.amin(dim=1))


def test_both_find_a_patch_that_no_normal_image_has() -> None:
    train, good, bad = _normal(60, 0).half(), _normal(20, 1).half(), _with_defect(_normal(20, 2)).half()
    for method in (PatchCore(train, 0), SoftPatch(train, 0)):
        scores = np.concatenate([method.scores(good), method.scores(bad)])
        assert auroc(scores, np.arange(40) >= 20) > 0.99


def test_softpatch_forgets_defects_that_patchcore_remembers() -> None:
    # As many alike as k: an outlier still to all but its own kind.
    train = torch.cat([_normal(57, 0), _with_defect(_normal(3, 5))])
    good, bad = _normal(20, 1), _with_defect(_normal(20, 2))
    found = {}
    for method in (PatchCore(train, 0, share=1.0), SoftPatch(train, 0, share=1.0)):
        scores = np.concatenate([method.scores(good), method.scores(bad)])
        found[type(method)] = auroc(scores, np.arange(40) >= 20)
    assert found[SoftPatch] > 0.99
    assert found[PatchCore] < 0.9


def test_softpatch_weighs_a_distance_by_the_factor_of_what_it_met() -> None:
    train = _normal(30, 0)
    factors = outlier_factors(train)
    kept = factors <= np.quantile(factors, 1.0 - TAKEN_OUT)
    assert kept.mean() == pytest.approx(1.0 - TAKEN_OUT, abs=0.01)
    image, row, column = np.argwhere(kept)[-1]
    asked = train[image, row, column].clone()
    asked[0] += 0.01  # nearest is the patch itself
    weight = factors[image, row, column]
    found = SoftPatch(train, 0, share=1.0).scores(asked.reshape(1, 1, 1, -1))
    assert found == pytest.approx([0.01 * weight], rel=1e-3)


def test_outlier_factors_are_of_each_site_and_high_for_the_image_that_is_odd_there() -> None:
    train = _normal(20, 0)
    train[7, 3, 0] += 8.0
    factors = outlier_factors(train)
    assert factors.shape == (20, 4, 4)
    assert np.unravel_index(factors.argmax(), factors.shape) == (7, 3, 0)
    assert np.median(factors) == pytest.approx(1.0, abs=0.1)
    assert outlier_factors(train[:3]).shape == (3, 4, 4)  # fewer than k
