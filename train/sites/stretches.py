"""Whether photographs change along their order, as sessions, lots and lamps make them.

Where they do, what was fitted to their neighbours in time knows more of them than of the next session's photographs,
and a limit from such scores is too low there: each stretch is then judged by what was fitted to the others (blocked
cross-validation; Roberts et al. 2017, doi 10.1111/ecog.02881).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from train.sites.site_gaussian import SiteSums
from train.sites.site_statistics import top_mean

__all__ = ["LEAST_CHANGE", "LEAST_GROUPS", "at_most", "change_along", "stretches_of"]

N_STRETCHES = 10
LEAST_GROUPS = 2 * N_STRETCHES
"""Fewer say nothing of stretches."""
LEAST_CHANGE = 0.3
"""Spreads by which distances must be higher for stretches than for images drawn from everywhere. Development sets:
solar cells of one module after the other .39; circuit boards .19, whose next ones alarm as stated; others up to .05."""


def at_most(groups: NDArray[np.int64], n_groups: int) -> NDArray[np.int64]:
    """The groups (N,) numbered from 0, put together in turn where there are more than n_groups."""
    _, numbered = np.unique(groups, return_inverse=True)
    return numbered % n_groups


def stretches_of(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) numbers of N_STRETCHES stretches of about as many groups each. groups: (N,) numbered in their order."""
    _, numbered = np.unique(groups, return_inverse=True)
    return numbered * N_STRETCHES // (int(numbered.max()) + 1)


def change_along(sums: SiteSums, groups: NDArray[np.int64]) -> float:
    """By how much an image's log distance is higher without its stretch than without as many images from all over.

    groups: (N,) numbered in their order. The median over images, in spreads of the latter: their median less their
    lower sixth.
    """
    both = stretches_of(groups), at_most(groups, N_STRETCHES)
    along, across = (np.log(top_mean(sums.held_out(folds)[0])) for folds in both)
    spread = float(np.median(across) - np.quantile(across, 0.16))
    return float(np.median(along - across)) / max(spread, 1e-9)
