"""Photographs of one object are put together, others are not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from train.sites.alike import alike_groups

ALONE = np.arange(60)


def photographs(share: float, seed: int = 0) -> Tensor:
    """(60, 8, 4, 4) features of 20 objects, three photographs each, that share this much of their variance; the
    photographs of an object are 20 apart."""
    generator = torch.Generator().manual_seed(seed)
    objects, own = (torch.randn(n, 8, 4, 4, generator=generator) for n in (20, 60))
    return (1.0 - share) ** 0.5 * own + share**0.5 * objects.repeat(3, 1, 1, 1)


def test_views_of_one_object_stay_together_wherever_they_stand() -> None:
    assert np.array_equal(alike_groups(photographs(0.8), ALONE), np.arange(60) % 20)


def test_what_all_have_in_common_makes_no_group() -> None:
    part = 5.0 * torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(alike_groups(photographs(0.2) + part, ALONE), ALONE)


def test_groups_that_were_found_before_stay_whole() -> None:
    given = np.where(ALONE < 2, 0, ALONE - 1)
    found = alike_groups(photographs(0.8), given)
    assert found.max() == 18
    assert len(set(found[[0, 1, 20, 21, 40, 41]])) == 1


def test_where_hardly_a_group_would_be_left_those_given_stay() -> None:
    one = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(2)).repeat_interleave(30, dim=0)
    rows = one + 0.1 * torch.randn(60, 8, 4, 4, generator=torch.Generator().manual_seed(3))
    assert np.array_equal(alike_groups(rows, ALONE), ALONE)
    assert np.array_equal(alike_groups(rows[:1], ALONE[:1]), ALONE[:1])
