"""A normal distribution at every site, and what it would say of an image that it had not seen, in closed form.

Means and covariances are sums over images, so leaving images out is a subtraction: each group of images is judged by
the very distribution that a fit without it gives.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SiteSums", "distances_from", "fit_reduction", "reduced_by", "refitted", "rounded"]

SHRINK = 0.1
"""Share of the covariance that all sites have in common in that of each."""
RIDGE = 1e-4
"""Of the mean variance, added to that of each channel before it is whitened: bounds the condition number."""
LEVELS = 127.0
"""Values on either side of zero that a row of a whitening is rounded to."""


def fit_reduction(features: Tensor, dimensions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Projection (d, C) and mean at each site (C, h, w) of features (N, C, h, w) believed normal.

    The projection is a random orthonormal one of features whitened by the covariance that the sites have in common.
    """
    n, channels, height, width = features.shape
    mean = features.double().mean(dim=0)
    common = torch.zeros(channels, channels, dtype=torch.float64)
    for part in features.split(64):
        centred = (part.double() - mean).permute(1, 0, 2, 3).reshape(channels, -1)
        common += centred @ centred.T
    common /= max(1, n - 1) * height * width
    common += (RIDGE * common.diagonal().mean() + 1e-12) * torch.eye(channels, dtype=torch.float64)
    inverse = torch.linalg.solve_triangular(
        torch.linalg.cholesky(common), torch.eye(channels, dtype=torch.float64), upper=False
    )
    drawn = torch.randn(channels, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    orthonormal = torch.linalg.qr(drawn)[0][: min(dimensions, channels)]
    projection = torch.zeros(dimensions, channels, dtype=torch.float64)
    projection[: len(orthonormal)] = orthonormal @ inverse
    return projection.float(), mean.float()


class SiteSums:
    """Sums over images of reduced features, from which distributions with and without some of them follow."""

    def __init__(self, reduced: Tensor, kept: NDArray[np.bool_]) -> None:
        """reduced: (N, S, d), about standard normal; kept: (N,) the images whose sums these are."""
        self.reduced = reduced
        self.kept = kept
        rows = reduced[torch.from_numpy(kept)].double()
        self.n = len(rows)
        self.first = rows.sum(dim=0)  # (S, d)
        self.second = _outer(rows)  # (S, d, d)

    def factors(self) -> tuple[Tensor, Tensor]:
        """Mean (S, d) and lower Cholesky factor of the covariance (S, d, d) of each site; float64."""
        return _factors(self.n, self.first, self.second)

    def held_out(
        self, groups: NDArray[np.int64], other: Tensor | None = None, owners: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Distances (N, S) of each image from distributions fitted without its group, and (M, S) of others.

        groups: (N,). other: (M, S, d) reduced features of what the images of the indices `owners` (M,) became, such as
        copies with a defect; they are judged by the distributions that judge their owners.
        """
        other = self.reduced[:0] if other is None else other
        owners = np.zeros(0, dtype=np.int64) if owners is None else owners
        own = np.zeros(self.reduced.shape[:2], dtype=np.float32)
        others = np.zeros(other.shape[:2], dtype=np.float32)
        for group in np.unique(groups):
            members = np.flatnonzero(groups == group)
            left_out = self.reduced[torch.from_numpy(members[self.kept[members]])].double()
            mean, factor = _factors(
                self.n - len(left_out), self.first - left_out.sum(dim=0), self.second - _outer(left_out)
            )
            own[members] = _distances(self.reduced[torch.from_numpy(members)].double(), mean, factor)
            owned = np.flatnonzero(groups[owners] == group)
            if len(owned):
                others[owned] = _distances(other[torch.from_numpy(owned)].double(), mean, factor)
        return own, others


def reduced_by(features: Tensor, projection: Tensor, mean: Tensor) -> Tensor:
    """Reduced features (n, S, d) of features (n, C, h, w), by what fit_reduction gave."""
    centred = (features - mean).flatten(2).transpose(1, 2)  # (n, S, C)
    return centred @ projection.T


def refitted(
    features: Tensor,
    kept: NDArray[np.bool_],
    groups: NDArray[np.int64],
    other: Tensor,
    owners: NDArray[np.int64],
    *,
    judge: Callable[[Tensor, Tensor], NDArray[np.floating]],
    by_site: bool,
    dimensions: int,
    seed: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distances (N, S) of each image, and (M, S) of others, by fits without its group, the reduction's among them.

    For few images: what they have in common is then fitted to each of them. features: (N, C, h, w); other: (M, C, h,
    w), of images `owners`; judge: distances (n, S) of reduced features (n, S, d) by normal ones (k, S, d).
    by_site: whether the mean that is taken off is the site's, or that of all sites.
    """
    n_sites = features.shape[2] * features.shape[3]
    own = np.zeros((len(features), n_sites), dtype=np.float32)
    others = np.zeros((len(other), n_sites), dtype=np.float32)
    for group in np.unique(groups):
        seen = features[torch.from_numpy(np.flatnonzero((groups != group) & kept))]
        projection, mean = fit_reduction(seen, dimensions, seed)
        reduction = (projection, mean if by_site else mean.mean(dim=(1, 2), keepdim=True))
        usual = reduced_by(seen, *reduction)
        members, owned = np.flatnonzero(groups == group), np.flatnonzero(groups[owners] == group)
        own[members] = judge(reduced_by(features[torch.from_numpy(members)], *reduction), usual)
        if len(owned):
            others[owned] = judge(reduced_by(other[torch.from_numpy(owned)], *reduction), usual)
    return own, others


def distances_from(rows: Tensor, usual: Tensor) -> NDArray[np.float64]:
    """Mahalanobis distances (n, S) of rows (n, S, d) from the distributions of others (k, S, d)."""
    mean, factor = SiteSums(usual, np.ones(len(usual), dtype=np.bool_)).factors()
    return _distances(rows.double(), mean, factor)


def rounded(factor: Tensor) -> Tensor:
    """The inverse of lower Cholesky factors (S, d, d), rounded to 8 bits of each row's largest value, as float16.

    The step is a power of two, so that float16 holds every value and an archive packs them to about a byte each.
    """
    identity = torch.eye(factor.shape[1], dtype=factor.dtype).expand_as(factor)
    inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
    step = torch.exp2(torch.ceil(torch.log2(inverse.abs().amax(dim=2, keepdim=True) / LEVELS)))
    return ((inverse / step).round() * step).half()


def _outer(rows: Tensor) -> Tensor:
    """Sum over images of outer products at each site: (n, S, d) -> (S, d, d)."""
    at_sites = rows.permute(1, 2, 0)  # (S, d, n)
    return at_sites @ at_sites.transpose(1, 2)


def _factors(n: int, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    mean = first / n
    covariance = (second - n * mean[:, :, None] * mean[:, None, :]) / max(1, n - 1)
    common = covariance.mean(dim=0)
    dimensions = len(common)
    common = common + RIDGE * common.diagonal().mean() * torch.eye(dimensions, dtype=common.dtype)
    return mean, torch.linalg.cholesky((1.0 - SHRINK) * covariance + SHRINK * common)


def _distances(rows: Tensor, mean: Tensor, factor: Tensor) -> NDArray[np.float64]:
    """Mahalanobis distances over the root of d: (n, S, d) -> (n, S)."""
    centred = (rows - mean).permute(1, 2, 0)  # (S, d, n)
    white = torch.linalg.solve_triangular(factor, centred, upper=False)
    distances: NDArray[np.float64] = white.square().mean(dim=1).sqrt().T.numpy()
    return distances
