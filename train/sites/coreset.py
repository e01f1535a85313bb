"""Prototypes of all sites: a coreset by farthest points, and what it would say of images that it had not seen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.sites.site_statistics import nearest_distance

__all__ = ["farthest_points", "held_out_neighbours", "neighbour_distances"]

MOST_DRAWN = 10_000
"""Sites that prototypes are chosen among."""
LEAST_ROWS = 4
"""For each point: where most sites are points themselves, what was trained on lies at no distance from them."""
COMPARED = 64
"""Dimensions that tell which point is farthest: reduced features are randomly turned, so any do as well."""
CHUNK = 64


def farthest_points(rows: Tensor, n_points: int, generator: torch.Generator) -> Tensor:
    """n_points of rows (n, d), each the farthest from those chosen before; at most a quarter of the rows, repeated.

    Greedy k-centre (Sener, Savarese 2018, arXiv 1708.00489), as PatchCore's coreset.
    """
    if len(rows) > MOST_DRAWN:
        rows = rows[torch.randperm(len(rows), generator=generator)[:MOST_DRAWN]]
    chosen = [int(torch.randint(len(rows), (1,), generator=generator))]
    compared = rows[:, :COMPARED].contiguous()
    norms = compared.square().sum(dim=1)
    nearest = torch.full((len(rows),), torch.inf)
    for _ in range(min(n_points, -(-len(rows) // LEAST_ROWS)) - 1):
        last = compared[chosen[-1]]
        nearest = torch.minimum(nearest, norms - 2.0 * (compared @ last) + last.square().sum())
        chosen.append(int(nearest.argmax()))
    points = rows[torch.tensor(chosen)]
    return points.repeat(-(-n_points // len(points)), 1)[:n_points]


def neighbour_distances(rows: Tensor, points: Tensor) -> Tensor:
    """Distance of each site to its nearest point, over the root of d: (n, S, d) -> (n, S)."""
    return torch.cat([nearest_distance(part, points) for part in rows.split(CHUNK)])


def held_out_neighbours(
    rows: Tensor,
    kept: NDArray[np.bool_],
    folds: NDArray[np.int64],
    n_points: int,
    generator: torch.Generator,
    other: Tensor,
    owners: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances (N, S) of each image from prototypes of the kept images outside its fold, and (M, S) of others.

    rows: (N, S, d); folds: (N,); other, owners: as SiteSums.held_out takes them.
    """
    own = np.zeros(rows.shape[:2], dtype=np.float32)
    others = np.zeros(other.shape[:2], dtype=np.float32)
    for fold in np.unique(folds):
        seen = rows[torch.from_numpy(np.flatnonzero((folds != fold) & kept))]
        points = farthest_points(seen.flatten(0, 1), n_points, generator)
        members, owned = np.flatnonzero(folds == fold), np.flatnonzero(folds[owners] == fold)
        own[members] = neighbour_distances(rows[torch.from_numpy(members)], points).numpy()
        if len(owned):
            others[owned] = neighbour_distances(other[torch.from_numpy(owned)], points).numpy()
    return own, others
