"""What is usual at each site of a grid of features: a normal distribution a site, and prototypes of all sites.

Per-site normal distribution: PaDiM (Defard et al. 2020, arXiv 2011.08785). Prototypes: PatchCore (Roth et al. 2022,
arXiv 2106.08265). Both on features reduced by one projection that whitens what they have in common.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d

from edge_runtime.model.site_normal import TOP_SITES
from train.sites.evening import Evening

__all__ = ["Reduction", "SiteStatistics", "nearest_distance", "top_mean", "top_sites"]


class Reduction(nn.Module):
    """Features (B, C, h, w) to (B, d, h, w): their mean at the site taken off, then whitened and projected."""

    projection: Tensor
    """(d, C, 1, 1): rows of a random orthonormal matrix times the inverse Cholesky factor of the covariance that the
    sites have in common"""
    site_mean: Tensor
    """(d, h, w), of projected features"""

    def __init__(self, channels: int, dimensions: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("projection", torch.zeros(dimensions, channels, 1, 1))
        self.register_buffer("site_mean", torch.zeros(dimensions, *grid))

    def project(self, features: Tensor) -> Tensor:
        """Projected features, their mean still in them."""
        return conv2d(features, self.projection)

    def forward(self, features: Tensor) -> Tensor:
        """Reduced features: about standard normal where the image is normal."""
        return self.project(features) - self.site_mean


class SiteStatistics(nn.Module):
    """Distances of reduced features from what is usual; root mean squares, about 1 for what the fit has seen."""

    whitening: Tensor
    """(h w, d, d) float16, lower triangular: the inverse Cholesky factor of each site's covariance, rounded to 8 bits
    of the largest value in its row, so that a bundle stays small"""
    prototypes: Tensor
    """(M, d) projected features, their mean over all sites taken off"""
    center: Tensor
    """(d,), that mean"""
    exponents: Tensor
    """(2, h, w) of either distance at each site, and"""
    levels: Tensor
    """(2,), the distances that they leave as they are (evening.py); all 1 for networks of before"""

    def __init__(self, dimensions: int, grid: tuple[int, int], n_prototypes: int) -> None:
        super().__init__()
        height, width = grid
        self.register_buffer("exponents", torch.ones(2, height, width))
        self.register_buffer("levels", torch.ones(2))
        self.register_load_state_dict_pre_hook(_as_before)
        self.register_buffer("whitening", torch.zeros(height * width, dimensions, dimensions, dtype=torch.float16))
        self.register_buffer("prototypes", torch.zeros(n_prototypes, dimensions))
        self.register_buffer("center", torch.zeros(dimensions))

    def even(self, of: int, by: Evening) -> None:
        """Have the site distance (0) or the neighbour distance (1) swing alike at all sites."""
        self.exponents[of].copy_(torch.from_numpy(by.exponents).reshape(self.exponents.shape[1:]))
        self.levels[of] = by.level

    def site_distance(self, reduced: Tensor) -> Tensor:
        """Mahalanobis distance of each site by its own distribution, over the root of d, evened: (B, h, w) for
        (B, d, h, w)."""
        B, d, h, w = reduced.shape
        at_sites = reduced.reshape(B, d, h * w).transpose(1, 2)  # (B, S, d)
        white = torch.matmul(self.whitening.to(reduced.dtype), at_sites[..., None])[..., 0]
        return self._evened(0, (white * white).mean(dim=2).sqrt().reshape(B, h, w))

    def neighbour_distance(self, projected: Tensor) -> Tensor:
        """Distance of each site to its nearest prototype, over the root of d, evened: (B, h, w) for (B, d, h, w)."""
        B, d, h, w = projected.shape
        at_sites = projected.reshape(B, d, h * w).transpose(1, 2) - self.center  # (B, S, d)
        return self._evened(1, nearest_distance(at_sites, self.prototypes).reshape(B, h, w))

    def _evened(self, of: int, distance: Tensor) -> Tensor:
        return self.levels[of] * (distance / self.levels[of]).pow(self.exponents[of])


def _as_before(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Networks of before have distances as they are."""
    for name in ("exponents", "levels"):
        tensors.setdefault(f"{prefix}{name}", torch.ones_like(module.get_buffer(name)))


def nearest_distance(rows: Tensor, points: Tensor) -> Tensor:
    """Distance of each site to its nearest point, over the root of d: (B, S) for rows (B, S, d) and points (M, d)."""
    norms = (points * points).sum(dim=1)
    nearest = (norms - 2.0 * torch.matmul(rows, points.t())).argmin(dim=2)
    # The sum of the squares of the difference: what is left of norms and product has no digits near a point.
    difference = rows - points[nearest]
    return (difference * difference).mean(dim=2).sqrt()


def top_sites(values: Tensor) -> Tensor:
    """Mean of the five highest sites of each map: (B, h, w) -> (B,)."""
    flat = values.flatten(1)
    return flat.topk(min(TOP_SITES, flat.shape[1]), dim=1).values.mean(dim=1)


def top_mean(distances: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean of the highest sites of each image: (N, S) -> (N,)."""
    n_sites = distances.shape[1]
    top = np.partition(distances, max(0, n_sites - TOP_SITES), axis=1)[:, -TOP_SITES:]
    mean: NDArray[np.float64] = top.mean(axis=1, dtype=np.float64)
    return mean
