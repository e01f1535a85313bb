"""Photographs that show one object again, found by what their features share beyond what is usual at each site.

Left out one by one, they vouch for each other: what was fitted has seen the object. Pixels do not tell them, for all
bottles are alike; once each site's mean is taken off, only views of one bottle are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.extras import require

__all__ = ["ALIKE", "alike_groups"]

ALIKE = 0.55
"""Mean correlation within a group. Of pairs on development sets .1 % reach .43 to .48 (circuit boards, bottles, aliens)
and .65 (solar cells, neighbours in a module). By the numbers in their names, of 459 magnetic tiles the groups put
together 75 % of the pairs of one tile, and 1 in 1,000 of their pairs is of two; at .5 84 % and 54."""
MOST_IMAGES = 6000
"""That are compared pair by pair: 290 MB, and half of it again for the tree."""
FEWEST_GROUPS = 8
LARGEST_SHARE = 0.5
"""Of the images in one group. Beyond, nothing would be left to judge them by."""


def alike_groups(reduced: Tensor, groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) groups, numbered by their first images: those given, put together where images are alike.

    reduced: (N, d, h, w), about standard normal. Those given come back where there are too many images to compare, or
    where hardly any group would be left.
    """
    n_images = len(reduced)
    if not 2 <= n_images <= MOST_IMAGES:
        return groups
    hierarchy = require("scipy.cluster.hierarchy", extra="train", purpose="grouping photographs")
    distance = require("scipy.spatial.distance", extra="train", purpose="grouping photographs")
    graph = require("scipy.sparse.csgraph", extra="train", purpose="grouping photographs")
    correlation = _correlations(reduced)
    tree = hierarchy.linkage(distance.squareform(1.0 - correlation, checks=False), method="average")
    cluster = hierarchy.fcluster(tree, 1.0 - ALIKE, criterion="distance")
    together = (cluster[:, None] == cluster[None]) | (groups[:, None] == groups[None])
    _, label = graph.connected_components(together, directed=False)
    _, first, found = np.unique(label, return_index=True, return_inverse=True)
    if len(first) < min(FEWEST_GROUPS, len(np.unique(groups))) or np.bincount(found).max() > LARGEST_SHARE * n_images:
        return groups
    numbered: NDArray[np.int64] = np.argsort(np.argsort(first))[found].astype(np.int64)
    return numbered


def _correlations(reduced: Tensor) -> NDArray[np.float64]:
    """(N, N), over all sites and dimensions, each standardised over the images."""
    rows = reduced.flatten(1)
    rows = rows - rows.mean(dim=0)
    rows /= rows.std(dim=0).clamp(min=1e-6)
    rows /= rows.norm(dim=1, keepdim=True).clamp(min=1e-6)
    correlations: NDArray[np.float64] = (rows @ rows.T).double().clamp(-1.0, 1.0).numpy()
    return correlations
