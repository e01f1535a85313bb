"""The latent prior: its density is part of the anomaly score, so it is defined here, for device and training alike.

The functions use operators that numpy arrays and torch tensors share: one definition serves the numpy
reference, the training loop and the traced graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError
from edge_runtime.npz import npz_bytes, read_npz

__all__ = ["StandardNormal", "prior_from_npz"]

Array = TypeVar("Array", bound=Any)


@dataclass(frozen=True, slots=True)
class StandardNormal:
    """N(0, I) over the latent space, the prior of Beggel, Pfeiffer, Bischl, arXiv 1901.06355, section 3."""

    dim: int
    """Latent dimensions D."""

    def neg_log_density(self, z: Array) -> Array:
        """-log p(z) in nats, higher = more anomalous: 0.5 ||z||^2 + D/2 log(2 pi).

        z: (B, D) ndarray or Tensor. Returns (B,) of the same kind.
        """
        density: Array = 0.5 * (z * z).sum(axis=1) + 0.5 * self.dim * math.log(2.0 * math.pi)
        return density

    def sample(self, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """(n, D) float32 draws for the adversary."""
        return rng.standard_normal((n, self.dim), dtype=np.float32)

    def to_npz(self) -> bytes:
        """The prior as the bytes of prior.npz: kind, dim; the same prior gives the same bytes."""
        return npz_bytes(
            {"kind": np.array("standard_normal"), "dim": np.array(self.dim, dtype=np.int64)}, compressed=False
        )


def prior_from_npz(content: bytes, *, name: str = "prior.npz") -> StandardNormal:
    """The prior that prior.npz holds; raises BundleError for pickles, unknown kinds and missing arrays."""
    arrays = read_npz(content, name=name)
    kind = str(arrays["kind"]) if "kind" in arrays else None
    if kind != "standard_normal":
        raise BundleError(f"{name} holds prior kind {kind!r}, this release knows 'standard_normal'; update edge-aae")
    dim = arrays.get("dim", np.array(0))
    if dim.shape != () or not np.issubdtype(dim.dtype, np.integer) or int(dim) < 1:
        raise BundleError(f"{name} lacks a positive latent dimension 'dim'; export the bundle again")
    return StandardNormal(int(dim))
