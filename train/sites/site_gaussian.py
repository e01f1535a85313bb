"""A normal distribution at every site, and what it would say of an image that it had not seen, in closed form.

Means and covariances are sums over images, so leaving a group out is a subtraction of low rank: in
coordinates where the full fit's covariances are diagonal, it costs what the group's images do (Woodbury 1950).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["SiteSums", "distances_from", "fit_reduction", "inverse_of", "reduced_by", "refitted", "rounded"]

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
    inverse = inverse_of(torch.linalg.cholesky(common))
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

    @cached_property
    def _axes(self) -> _Axes:
        return _Axes(self.n, self.first, self.second)

    def held_out(
        self, groups: NDArray[np.int64], other: Tensor | None = None, owners: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Distances (N, S) of each image from distributions fitted without its group, and (M, S) of others.

        groups: (N,). other: (M, S, d) reduced features of what the images of the indices `owners` (M,) became, such as
        copies with a defect; they are judged by the distributions that judge their owners. The covariance that sites
        have in common stays that of all groups.
        """
        other = self.reduced[:0] if other is None else other
        owners = np.zeros(0, dtype=np.int64) if owners is None else owners
        own = np.zeros(self.reduced.shape[:2], dtype=np.float32)
        others = np.zeros(other.shape[:2], dtype=np.float32)
        axes = self._axes
        for group in np.unique(groups):
            members, owned = np.flatnonzero(groups == group), np.flatnonzero(groups[owners] == group)
            along = axes.coordinates(self.reduced[torch.from_numpy(members)])
            left_out = along[:, :, torch.from_numpy(np.flatnonzero(self.kept[members]))]
            own[members] = axes.distances(along, left_out)
            if len(owned):
                others[owned] = axes.distances(axes.coordinates(other[torch.from_numpy(owned)]), left_out)
        return own, others


class _Axes:
    """Coordinates at each site in which its covariance and the common one are diagonal; float64."""

    def __init__(self, n: int, first: Tensor, second: Tensor) -> None:
        """n images, with sums of features (S, d) and of their outer products (S, d, d)."""
        self.n = n
        self.mean, covariance = _moments(n, first, second)
        to_common = inverse_of(torch.linalg.cholesky(_common(covariance)))
        self.variance, rotation = torch.linalg.eigh(to_common @ covariance @ to_common.T)  # (S, d), (S, d, d)
        self.rotation = rotation.transpose(1, 2) @ to_common

    def coordinates(self, rows: Tensor) -> Tensor:
        """(n, S, d) -> (S, d, n)."""
        return self.rotation @ (rows.double() - self.mean).permute(1, 2, 0)

    def distances(self, judged: Tensor, left_out: Tensor) -> NDArray[np.float64]:
        """Distances (n, S) over the root of d of coordinates (S, d, n), by the fit without those of m images (S, d, m).

        Scatter' = scatter - U U^T, U the images left out and, as the mean moves too, their sum over sqrt(n - m).
        """
        dimensions, m = left_out.shape[1:]
        rest = self.n - m
        total = left_out.sum(dim=2, keepdim=True)
        of_one = (1.0 - SHRINK) / max(1, rest - 1)
        scale = (of_one * (self.n - 1) * self.variance.clamp(min=0.0) + SHRINK).rsqrt()[:, :, None]
        white = scale * (judged + total / rest)
        removed = scale * torch.cat((left_out, total / rest**0.5), dim=2)  # (S, d, m + 1)
        shared = removed.transpose(1, 2) @ white
        inner = torch.eye(m + 1, dtype=torch.float64) - of_one * removed.transpose(1, 2) @ removed
        squares = white.square().sum(dim=1) + of_one * (shared * torch.linalg.solve(inner, shared)).sum(dim=1)
        distances: NDArray[np.float64] = (squares / dimensions).sqrt().T.numpy()
        return distances


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


def inverse_of(factor: Tensor) -> Tensor:
    """Of lower triangular factors (..., d, d)."""
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype).expand_as(factor)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def rounded(factor: Tensor) -> Tensor:
    """The inverse of lower Cholesky factors (S, d, d), rounded to 8 bits of each row's largest value, as float16.

    The step is a power of two, so that float16 holds every value and an archive packs them to about a byte each.
    """
    inverse = inverse_of(factor)
    step = torch.exp2(torch.ceil(torch.log2(inverse.abs().amax(dim=2, keepdim=True) / LEVELS)))
    return ((inverse / step).round() * step).half()


def _outer(rows: Tensor) -> Tensor:
    """Sum over images of outer products at each site: (n, S, d) -> (S, d, d)."""
    at_sites = rows.permute(1, 2, 0)  # (S, d, n)
    return at_sites @ at_sites.transpose(1, 2)


def _moments(n: int, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (S, d) and covariance (S, d, d) of each site."""
    mean = first / n
    return mean, (second - n * mean[:, :, None] * mean[:, None, :]) / max(1, n - 1)


def _common(covariance: Tensor) -> Tensor:
    """What the covariances (S, d, d) of all sites have in common (d, d), with the ridge."""
    common = covariance.mean(dim=0)
    return common + RIDGE * common.diagonal().mean() * torch.eye(len(common), dtype=common.dtype)


def _factors(n: int, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    mean, covariance = _moments(n, first, second)
    return mean, torch.linalg.cholesky((1.0 - SHRINK) * covariance + SHRINK * _common(covariance))


def _distances(rows: Tensor, mean: Tensor, factor: Tensor) -> NDArray[np.float64]:
    """Mahalanobis distances over the root of d: (n, S, d) -> (n, S)."""
    centred = (rows - mean).permute(1, 2, 0)  # (S, d, n)
    white = torch.linalg.solve_triangular(factor, centred, upper=False)
    distances: NDArray[np.float64] = white.square().mean(dim=1).sqrt().T.numpy()
    return distances
