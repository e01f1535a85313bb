"""The latent density: it is part of the anomaly score, so it is defined here, for device and training alike.

The functions use operators that numpy arrays and torch tensors share: one definition serves the numpy reference, the
training loop and the traced graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError
from edge_runtime.model.site_normal import SiteNormal
from edge_runtime.npz import npz_bytes, read_npz

__all__ = ["FullNormal", "NormalMixture", "Prior", "SiteNormal", "StandardNormal", "prior_from_npz"]

Array = TypeVar("Array", bound=Any)

SITE_AXIS = 1
"""Codes are (B, D), or (B, D, h, w) with one code at every site."""


@dataclass(frozen=True, slots=True)
class StandardNormal:
    """N(0, I) over the latent space, the prior of Beggel, Pfeiffer, Bischl, arXiv 1901.06355, section 3."""

    dim: int
    """Latent dimensions D."""

    @property
    def kind(self) -> str:
        """Its name in prior.npz and manifest."""
        return "standard_normal"

    @property
    def floor(self) -> float:
        """The least value of the negative log density, at the mode."""
        return 0.5 * self.dim * math.log(2.0 * math.pi)

    def neg_log_density(self, z: Array) -> Array:
        """-log p(z) in nats, higher = more anomalous: 0.5 ||z||^2 + D/2 log(2 pi).

        z: (B, D) ndarray or Tensor, or (B, D, h, w). Returns (B,) of the same kind, or (B, h, w).
        """
        density: Array = 0.5 * (z * z).sum(axis=SITE_AXIS) + self.floor
        return density

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n, D) float32 draws for the adversary."""
        return rng.standard_normal((n, self.dim), dtype=np.float32)

    def to_npz(self) -> bytes:
        """The prior as the bytes of prior.npz: kind, dim; the same prior gives the same bytes."""
        return npz_bytes({"kind": np.array(self.kind), "dim": np.array(self.dim, dtype=np.int64)}, compressed=False)


@dataclass(frozen=True, slots=True, eq=False)
class FullNormal:
    """N(mean, covariance) over the latent space: the aggregated posterior, fitted after training.

    An encoder never matches the standard normal exactly; what it does not match would count as anomaly.
    """

    mean: NDArray[np.float32]
    """(D,)"""
    whitening: NDArray[np.float32]
    """(D, D), W with W W^T = inverse covariance, so that (z - mean) W is standard normal"""

    def __post_init__(self) -> None:
        _check_normal(self.mean, self.whitening)

    @property
    def kind(self) -> str:
        """Its name in prior.npz and manifest."""
        return "full_normal"

    @property
    def dim(self) -> int:
        """Latent dimensions D."""
        return len(self.mean)

    @property
    def floor(self) -> float:
        """The least value of the negative log density, at the mean."""
        return _normal_floor(self.whitening)

    def neg_log_density(self, z: Array) -> Array:
        """-log p(z) in nats, higher = more anomalous: half the squared Mahalanobis distance plus its floor.

        z: (B, D) ndarray or Tensor. Returns (B,) of the same kind.
        """
        white = (z - like(self.mean, z)) @ like(self.whitening, z)
        density: Array = 0.5 * (white * white).sum(axis=1) + self.floor
        return density

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n, D) float32 draws."""
        white = rng.standard_normal((n, self.dim))
        drawn: NDArray[np.float32] = (self.mean + white @ np.linalg.inv(self.whitening)).astype(np.float32)
        return drawn

    def to_npz(self) -> bytes:
        """The prior as the bytes of prior.npz: kind, mean, whitening."""
        arrays = {"kind": np.array(self.kind), "mean": self.mean, "whitening": self.whitening}
        return npz_bytes(arrays, compressed=False)


@dataclass(frozen=True, slots=True, eq=False)
class NormalMixture:
    """sum_k weight_k N(mean_k, covariance_k) over the latent space, for normal classes of several modes."""

    weights: NDArray[np.float32]
    """(K,), positive, sum 1"""
    means: NDArray[np.float32]
    """(K, D)"""
    whitenings: NDArray[np.float32]
    """(K, D, D), as FullNormal.whitening"""

    def __post_init__(self) -> None:
        if self.weights.ndim != 1 or not (self.weights > 0).all() or abs(float(self.weights.sum()) - 1.0) > 1e-3:
            raise ConfigError(f"mixture weights are {self.weights.tolist()}, expected positive numbers that sum to 1")
        if not len(self.weights) == len(self.means) == len(self.whitenings):
            raise ConfigError(
                f"mixture has {len(self.weights)} weights, {len(self.means)} means and {len(self.whitenings)} "
                "whitenings, expected as many of each"
            )
        for mean, whitening in zip(self.means, self.whitenings, strict=True):
            _check_normal(mean, whitening)

    @property
    def kind(self) -> str:
        """Its name in prior.npz and manifest."""
        return "normal_mixture"

    @property
    def dim(self) -> int:
        """Latent dimensions D."""
        return int(self.means.shape[1])

    @property
    def floor(self) -> float:
        """A bound below the negative log density: every component at its mode at once."""
        heights = [
            math.log(float(weight)) - _normal_floor(whitening)
            for weight, whitening in zip(self.weights, self.whitenings, strict=True)
        ]
        return -max(heights) - math.log(len(heights))

    def neg_log_density(self, z: Array) -> Array:
        """-log p(z) in nats, higher = more anomalous; the sum of exponentials is taken relative to its largest term.

        z: (B, D) ndarray or Tensor. Returns (B,) of the same kind.
        """
        columns = []
        for weight, mean, whitening in zip(self.weights, self.means, self.whitenings, strict=True):
            white = (z - like(mean, z)) @ like(whitening, z)
            columns.append(0.5 * (white * white).sum(axis=1) + (_normal_floor(whitening) - math.log(float(weight))))
        least = columns[0]
        for column in columns[1:]:
            least = least - 0.5 * ((least - column) + abs(least - column))  # min of both, on operators both kinds have
        total = sum((_exp(least - column) for column in columns[1:]), _exp(least - columns[0]))
        density: Array = least - _log(total)
        return density

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n, D) float32 draws."""
        weights = self.weights.astype(np.float64)
        parts = rng.choice(len(weights), n, p=weights / weights.sum())
        white = rng.standard_normal((n, 1, self.dim))
        unwhiten = np.linalg.inv(self.whitenings)[parts]  # (n, D, D)
        drawn: NDArray[np.float32] = (self.means[parts] + (white @ unwhiten)[:, 0]).astype(np.float32)
        return drawn

    def to_npz(self) -> bytes:
        """The prior as the bytes of prior.npz: kind, weights, means, whitenings."""
        arrays = {
            "kind": np.array(self.kind),
            "weights": self.weights,
            "means": self.means,
            "whitenings": self.whitenings,
        }
        return npz_bytes(arrays, compressed=False)


Prior = StandardNormal | FullNormal | NormalMixture | SiteNormal
"""What a bundle's prior.npz holds."""

FITTED: dict[str, tuple[type[FullNormal] | type[NormalMixture] | type[SiteNormal], tuple[str, ...]]] = {
    "full_normal": (FullNormal, ("mean", "whitening")),
    "normal_mixture": (NormalMixture, ("weights", "means", "whitenings")),
    "site_normal": (SiteNormal, ("mean", "whitening")),
}
"""The densities that arrays describe, by their kind, and the names of the arrays."""


def prior_from_npz(content: bytes, *, name: str = "prior.npz") -> Prior:
    """The prior that prior.npz holds; raises BundleError for pickles, unknown kinds and missing or unfit arrays."""
    arrays = read_npz(content, name=name)
    kind = str(arrays["kind"]) if "kind" in arrays else None
    if kind in FITTED:
        made, names = FITTED[kind]
        missing = [array for array in names if array not in arrays]
        if missing:
            raise BundleError(f"{name} of kind {kind} lacks {', '.join(missing)}; export the bundle again")
        try:
            return made(*(np.asarray(arrays[array], dtype=np.float32) for array in names))
        except (ConfigError, ValueError, TypeError, IndexError) as error:
            raise BundleError(f"{name} of kind {kind} cannot be used: {error}; export the bundle again") from error
    if kind != "standard_normal":
        raise BundleError(
            f"{name} holds prior kind {kind!r}, this release knows standard_normal, {', '.join(FITTED)}; "
            "update edge-aae"
        )
    dim = arrays.get("dim", np.array(0))
    if dim.shape != () or not np.issubdtype(dim.dtype, np.integer) or int(dim) < 1:
        raise BundleError(f"{name} lacks a positive latent dimension 'dim'; export the bundle again")
    return StandardNormal(int(dim))


def like(array: NDArray[np.float32], example: Array) -> Array:
    """The array as the example's kind: itself beside an ndarray, a constant of its dtype and device beside a Tensor."""
    converted: Any = array if isinstance(example, np.ndarray) else example.new_tensor(array.tolist())
    return converted  # type: ignore[no-any-return]


def _check_normal(mean: NDArray[Any], whitening: NDArray[Any]) -> None:
    dim = mean.size
    if mean.shape != (dim,) or whitening.shape != (dim, dim) or dim < 1:
        raise ConfigError(f"mean is {mean.shape} and whitening {whitening.shape}, expected (D,) and (D, D)")
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
        raise ConfigError("mean or whitening hold values that are not finite")
    # The sign, because the determinant itself underflows where many dimensions are wide.
    if np.linalg.slogdet(whitening.astype(np.float64))[0] == 0.0:
        raise ConfigError("whitening is singular: some direction of the latent space does not vary")


def _normal_floor(whitening: NDArray[Any]) -> float:
    """D/2 log(2 pi) + log det(covariance) / 2."""
    _, log_det = np.linalg.slogdet(whitening.astype(np.float64))
    return 0.5 * len(whitening) * math.log(2.0 * math.pi) - float(log_det)


def _exp(values: Array) -> Array:
    result: Any = np.exp(values) if isinstance(values, np.ndarray) else values.exp()
    return result  # type: ignore[no-any-return]


def _log(values: Array) -> Array:
    result: Any = np.log(values) if isinstance(values, np.ndarray) else values.log()
    return result  # type: ignore[no-any-return]
