"""A coreset that covers all points: greedy k-centres, the farthest point next.

Sener and Savarese, arXiv 1708.00489; as PatchCore has it, on a random projection (Roth et al., arXiv 2106.08265,
section 3.2).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["coreset", "greedy_centres"]

DIMENSIONS = 128
"""Of the random projection, as in the authors' code."""
POOL = 4096
"""Points that new centres are sought among until another one may be farther."""
CHUNK = 8192
"""Points whose distances to new centres are held at a time."""


def coreset(points: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Indices (n,) of a share of points (N, D) float32, at least one, that leave none of the others far away."""
    d = points.shape[1]
    if d > DIMENSIONS:
        points = points @ (torch.randn(d, DIMENSIONS, generator=generator) / DIMENSIONS**0.5)
    first = int(torch.randint(len(points), (1,), generator=generator))
    return greedy_centres(points, max(1, int(share * len(points))), first)


def greedy_centres(points: Tensor, n: int, first: int, pool: int = POOL) -> Tensor:
    """Indices (n,) of centres among points (N, D), each the point farthest from those before; n <= N.

    Distances to the nearest centre only shrink, so those left out of a pool of the farthest need no look before the
    pool's own have come down to them: the choice is that of the plain loop, and most of the work is matrix products.
    """
    squares = points.square().sum(dim=1)
    centres = torch.tensor([first])
    gaps = _gaps(points, squares, centres)  # (N,) squared distances to the nearest centre; of centres -1
    gaps[first] = -1.0
    while len(centres) < n:
        own_gaps, members = gaps.topk(min(pool, len(points)))
        outside = float(own_gaps[-1])
        own, own_squares = points[members], squares[members]
        added: list[int] = []
        while len(centres) + len(added) < n:
            farthest = int(own_gaps.argmax())
            if added and float(own_gaps[farthest]) < outside:
                break
            added.append(farthest)
            to_it = own_squares + own_squares[farthest] - 2.0 * (own @ own[farthest])
            own_gaps = torch.minimum(own_gaps, to_it.clamp_(min=0.0))
            own_gaps[farthest] = -1.0
        new = members[added]
        gaps = torch.minimum(gaps, _gaps(points, squares, new))
        gaps[new] = -1.0
        centres = torch.cat((centres, new))
    return centres


def _gaps(points: Tensor, squares: Tensor, centres: Tensor) -> Tensor:
    """(N,) squared distances to the nearest of the centres."""
    chosen, of_chosen = points[centres].T, squares[centres]
    nearest = [torch.addmm(of_chosen, chunk, chosen, alpha=-2.0).amin(dim=1) for chunk in points.split(CHUNK)]
    return (torch.cat(nearest) + squares).clamp_(min=0.0)
