"""The coreset: the plain greedy choice, whatever the pool that it is sought in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.peers.coreset import coreset, greedy_centres


def _plain(points: Tensor, n: int, first: int) -> list[int]:
    centres = [first]
    while len(centres) < n:
        gaps = (points[:, None] - points[centres]).square().sum(dim=2).amin(dim=1)
        gaps[centres] = -1.0
        centres.append(int(gaps.argmax()))
    return centres


@pytest.mark.parametrize("pool", [2, 7, 40, 1000])
def test_the_choice_is_that_of_the_plain_loop(pool: int) -> None:
    generator = torch.Generator().manual_seed(0)
    # Whole numbers, so that no rounding decides; thousands, so that hardly two distances are the same.
    points = torch.randint(-1000, 1000, (300, 3), generator=generator).float()
    assert greedy_centres(points, 120, 5, pool).tolist() == _plain(points, 120, 5)


def test_all_points_are_chosen_once_where_all_are_asked_for_and_some_are_the_same() -> None:
    points = torch.tensor([[0.0], [0.0], [4.0], [1.0], [1.0]])
    assert sorted(greedy_centres(points, 5, 0, pool=2).tolist()) == [0, 1, 2, 3, 4]
    assert set(greedy_centres(points, 3, 0).tolist()[1:]) in ({2, 3}, {2, 4})


def test_a_share_covers_what_is_far_and_is_the_seeds() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn((1000, 160), generator=generator)
    points[17] += 30.0
    chosen = [coreset(points, 0.01, torch.Generator().manual_seed(seed)).tolist() for seed in (0, 0, 1)]
    assert [len(indices) for indices in chosen] == [10, 10, 10]
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(17 in indices for indices in chosen)
    assert len(coreset(points, 1e-9, generator)) == 1
