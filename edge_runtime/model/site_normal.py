"""A density of codes that knows where in the image it stands: a normal distribution at every site."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.npz import npz_bytes

__all__ = ["TOP_SITES", "SiteNormal", "highest_sites"]

TOP_SITES = 5
"""Highest sites whose mean is an image's criterion."""

Array = TypeVar("Array", bound=Any)


@dataclass(frozen=True, slots=True, eq=False)
class SiteNormal:
    """N(mean_s, covariance_s) at each site s of a code (D, h, w): the aggregated posterior, fitted after training."""

    mean: NDArray[np.float32]
    """(D, h, w)"""
    whitening: NDArray[np.float32]
    """(h w, D, D), sites row by row: lower triangular L^-1 of the covariance L L^T, so that L^-1 (z - mean) is standard
    normal"""

    def __post_init__(self) -> None:
        dim, n_sites = self.mean.shape[0] if self.mean.ndim == 3 else 0, math.prod(self.mean.shape[1:])
        if dim < 1 or self.whitening.shape != (n_sites, dim, dim):
            raise ConfigError(
                f"mean is {self.mean.shape} and whitening {self.whitening.shape}, expected (D, h, w) and (h w, D, D)"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.whitening).all()):
            raise ConfigError("mean or whitening hold values that are not finite")
        if not (np.diagonal(self.whitening, axis1=1, axis2=2) > 0.0).all():
            raise ConfigError("whitening has a diagonal that is not positive: some direction does not vary")

    @property
    def kind(self) -> str:
        """Its name in prior.npz and manifest."""
        return "site_normal"

    @property
    def dim(self) -> int:
        """Latent dimensions D of a site."""
        return int(self.mean.shape[0])

    @property
    def floor(self) -> float:
        """The least value of the negative log density: at the mean of the site with the narrowest density."""
        return float(self._floors().min())

    def neg_log_density(self, z: Array) -> Array:
        """-log p(z_s) in nats, higher = more anomalous: half the squared Mahalanobis distance plus the site's floor.

        z: (B, D, h, w) ndarray or Tensor. Returns (B, h, w) of the same kind.
        """
        dim, height, width = self.mean.shape
        centred = (z - _like(self.mean, z)).reshape(-1, dim, height * width).swapaxes(1, 2)  # (B, S, D)
        white = (_like(self.whitening, z) @ centred[..., None])[..., 0]  # (B, S, D)
        density = 0.5 * (white * white).sum(axis=2) + _like(self._floors(), z)
        sites: Array = density.reshape(-1, height, width)
        return sites

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n, D, h, w) float32 draws."""
        dim, height, width = self.mean.shape
        white = rng.standard_normal((n, height * width, dim, 1))
        drawn = np.linalg.solve(self.whitening.astype(np.float64), white)[..., 0]  # (n, S, D)
        shaped: NDArray[np.float32] = (drawn.swapaxes(1, 2).reshape(n, dim, height, width) + self.mean).astype(
            np.float32
        )
        return shaped

    def to_npz(self) -> bytes:
        """The prior as the bytes of prior.npz: kind, mean, whitening."""
        arrays = {"kind": np.array(self.kind), "mean": self.mean, "whitening": self.whitening}
        return npz_bytes(arrays, compressed=False)

    def _floors(self) -> NDArray[np.float32]:
        """(S,) D/2 log(2 pi) + log det(covariance_s) / 2."""
        log_det = np.log(np.diagonal(self.whitening, axis1=1, axis2=2).astype(np.float64)).sum(axis=1)
        floors: NDArray[np.float32] = (0.5 * self.dim * math.log(2.0 * math.pi) - log_det).astype(np.float32)
        return floors


def highest_sites(values: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Mean of the TOP_SITES highest sites of each map: (B, h, w) -> (B,)."""
    flat = values.reshape(len(values), -1)
    top: NDArray[np.floating[Any]] = np.sort(flat, axis=1)[:, -TOP_SITES:].mean(axis=1)
    return top


def _like(array: NDArray[np.float32], example: Array) -> Array:
    """The array as the example's kind: itself beside an ndarray, a constant of its dtype and device beside a Tensor."""
    converted: Any = array if isinstance(example, np.ndarray) else example.new_tensor(array.tolist())
    return converted  # type: ignore[no-any-return]
