"""The anomaly score: raw criteria, and the rule that fuses them and decides. Higher = more anomalous, everywhere.

The exported graph computes the criteria with the very functions below; fusing and deciding is host arithmetic on
a few floats, with numbers from the manifest, so a threshold can change without exporting again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError

__all__ = [
    "CRITERIA",
    "Decision",
    "Limit",
    "anomaly_map",
    "reconstruction_error",
]

CRITERIA = ("reconstruction_error", "neg_log_prior")
"""Names of the K columns that every network emits, in order."""

SCORE_THRESHOLD = 1.0
"""The fused score of the union rule is scaled so that its limits lie at one."""

Array = TypeVar("Array", bound=Any)


def reconstruction_error(x: Array, x_hat: Array) -> Array:
    """Euclidean distance in image space, L of arXiv 1901.06355 section 3: sqrt of the sum of squared differences.

    x, x_hat: (B, C, H, W) in [0, 1], ndarray or Tensor. Returns (B,), 0 to sqrt(C H W), higher = more anomalous.
    """
    difference = x - x_hat
    error: Array = (difference * difference).sum(axis=(1, 2, 3)) ** 0.5
    return error


def anomaly_map(x: Array, x_hat: Array) -> Array:
    """Squared reconstruction error of each pixel, mean over channels: (B, H, W), 0 to 1, higher = more anomalous.

    x, x_hat: (B, C, H, W) in [0, 1], ndarray or Tensor.
    """
    difference = x - x_hat
    squared: Array = (difference * difference).mean(axis=1)
    return squared


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Where one criterion turns anomalous, and what counts as usual for it."""

    threshold: float
    """The criterion is anomalous above this: the p90 over the training images, by the paper's rule."""
    center: float
    """Median over the training images: gives the fused score its zero."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.threshold) and math.isfinite(self.center)):
            raise ConfigError(f"limit has threshold {self.threshold} and center {self.center}, expected finite numbers")
        if self.threshold <= self.center:
            raise ConfigError(
                f"threshold {self.threshold} is not above the median {self.center}: "
                "the criterion does not vary over the training images"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """The union rule of arXiv 1901.06355 section 4.1: anomalous if any limited criterion lies above its threshold.

    The paper's second condition, likelihood under its p10, is the same as negative log-likelihood above its p90.
    A conventional autoencoder is the union over the reconstruction error alone.
    """

    limits: Mapping[str, Limit]
    """Criterion name -> its limit; a criterion that is not named does not take part."""
    threshold: float = SCORE_THRESHOLD
    """On the fused score; 1 is the union rule as calibrated, more flags less."""

    def __post_init__(self) -> None:
        unknown = set(self.limits) - set(CRITERIA)
        if unknown or not self.limits:
            raise ConfigError(f"decision limits {sorted(self.limits)}, expected one or more of {list(CRITERIA)}")
        if not math.isfinite(self.threshold):
            raise ConfigError(f"threshold is {self.threshold}, expected a finite number; 1 is as calibrated")

    def score(self, criteria: NDArray[Any]) -> NDArray[np.float64]:
        """The fused score: max over limited criteria of (value - median) / (threshold - median).

        criteria: (B, K) in the order of CRITERIA. Returns (B,) float64: 0 at the median, 1 at the first limit that
        is reached, so that `score > 1` is the union rule.
        """
        values = np.asarray(criteria, dtype=np.float64)
        excess = [
            (values[:, CRITERIA.index(name)] - limit.center) / (limit.threshold - limit.center)
            for name, limit in self.limits.items()
        ]
        fused: NDArray[np.float64] = np.max(np.stack(excess), axis=0)
        return fused

    def is_anomalous(self, score: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each fused score lies above the threshold. (B,) -> (B,) bool."""
        decided: NDArray[np.bool_] = score > self.threshold
        return decided

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values, for the manifest."""
        return {
            "rule": "union",
            "threshold": self.threshold,
            "limits": {
                name: {"threshold": limit.threshold, "center": limit.center} for name, limit in self.limits.items()
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Decision:
        """The rule read back; raises BundleError where the manifest's decision cannot be used."""
        rule = values.get("rule")
        if rule != "union":
            raise BundleError(f"decision rule is {rule!r}, this release knows 'union'; update edge-aae")
        try:
            limits = {name: Limit(**limit) for name, limit in values["limits"].items()}
            return cls(limits=limits, threshold=float(values["threshold"]))
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise BundleError(f"the manifest's decision cannot be used: {error}; export the bundle again") from error
