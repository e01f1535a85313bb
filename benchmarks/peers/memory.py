"""Methods that remember patches of the training images: PatchCore, and SoftPatch for training sets with defects.

Written after the papers; features are those of the per-site Gaussian, so that the method alone differs.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from benchmarks.peers.coreset import coreset

__all__ = ["RECIPE", "PatchCore", "SoftPatch", "outlier_factors"]

RECIPE = 1
"""Raise it when figures change."""

SHARE = 0.1
"""Of the patches that are remembered, as in both papers' main tables."""
SUPPORT = 9
"""b of PatchCore's weight: remembered patches around the nearest one; as anomalib has it."""
NEIGHBOURS = 6
"""k of the local outlier factor, SoftPatch."""
TAKEN_OUT = 0.15
"""Share of the patches, those of the highest factors, that SoftPatch does not remember."""
CHUNK = 256
"""Patches whose distances to the memory are held at a time."""


class PatchCore:
    """Distances to the nearest remembered patch: Roth et al., arXiv 2106.08265."""

    def __init__(self, features: Tensor, seed: int, share: float = SHARE) -> None:
        """features: (N, H, W, C), of normal images, locally aware already (means of 3x3 sites)."""
        patches = features.flatten(0, 2).float()
        self._memory = patches[coreset(patches, share, torch.Generator().manual_seed(seed))]

    def scores(self, features: Tensor) -> NDArray[np.float64]:
        """(N,), higher = more anomalous, for features (N, H, W, C): the largest distance, weighted (eq. 6 and 7)."""
        return np.array([self._score(patches.float()) for patches in features.flatten(1, 2)])

    def _score(self, patches: Tensor) -> float:
        distances, nearest = nearest_of(patches, self._memory)
        worst = int(distances.argmax())
        matched = self._memory[nearest[worst]]
        n_support = min(SUPPORT, len(self._memory))
        support = self._memory[(self._memory - matched).square().sum(dim=1).topk(n_support, largest=False).indices]
        to_support = (support - patches[worst]).norm(dim=1)
        # Eq. 7: less where the nearest remembered patch is as usual among its neighbours as they are.
        share_of_matched = torch.exp(distances[worst] - torch.logsumexp(to_support, dim=0))
        return float((1.0 - share_of_matched) * distances[worst])


class SoftPatch:
    """PatchCore without the patches that look like noise, and with weights: Jiang et al., arXiv 2403.14233.

    With the local outlier factor as noise discriminator, as the paper's main results.
    """

    def __init__(self, features: Tensor, seed: int, share: float = SHARE) -> None:
        """features: (N, H, W, C), of images most of which are normal."""
        factors = outlier_factors(features).flatten()  # (N * H * W,)
        kept = factors <= np.quantile(factors, 1.0 - TAKEN_OUT)
        patches = features.flatten(0, 2)[torch.from_numpy(kept)].float()
        chosen = coreset(patches, share, torch.Generator().manual_seed(seed))
        self._memory = patches[chosen]
        self._weights = torch.from_numpy(factors[kept]).float()[chosen]

    def scores(self, features: Tensor) -> NDArray[np.float64]:
        """(N,), higher = more anomalous, for features (N, H, W, C): the largest distance times its match's factor."""
        return np.array([self._score(patches.float()) for patches in features.flatten(1, 2)])

    def _score(self, patches: Tensor) -> float:
        distances, nearest = nearest_of(patches, self._memory)
        return float((distances * self._weights[nearest]).max())


def outlier_factors(features: Tensor) -> NDArray[np.float64]:
    """(N, H, W) local outlier factors of features (N, H, W, C), each site's among all images' patches at that site.

    Around 1 where a patch lies as close to its neighbours as they to theirs, higher for outliers; N >= 2.
    """
    n, height, width, _ = features.shape
    by_site = features.flatten(1, 2).transpose(0, 1).float().numpy()  # (H * W, N, C)
    found = np.empty((n, height * width))
    with warnings.catch_warnings():
        # Where a background is black in more images than k, distances of 0 are what is there.
        warnings.filterwarnings("ignore", message="Duplicate values")
        for site, patches in enumerate(by_site):
            fitted = LocalOutlierFactor(n_neighbors=min(NEIGHBOURS, n - 1)).fit(patches)
            found[:, site] = -fitted.negative_outlier_factor_
    return found.reshape(n, height, width)


def nearest_of(patches: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (n,) of patches (n, C) to the nearest of memory (M, C), and which it is."""
    squares = memory.square().sum(dim=1)
    chunks = patches.split(CHUNK)
    nearest = torch.cat([torch.addmm(squares, chunk, memory.T, alpha=-2.0).argmin(dim=1) for chunk in chunks])
    return (patches - memory[nearest]).norm(dim=1), nearest
