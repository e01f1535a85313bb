"""The anomaly score: raw criteria, and the rule that fuses them and decides. Higher = more anomalous, everywhere.

The exported graph computes the criteria with the very functions below; fusing and deciding is host arithmetic on
a few floats, with numbers from the manifest, so a threshold can change without exporting again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BundleError, ConfigError

__all__ = [
    "CRITERIA",
    "Decision",
    "FusedRule",
    "Limit",
    "Term",
    "UnionRule",
    "anomaly_map",
    "decision_from_json",
    "reconstruction_error",
]

CRITERIA = ("reconstruction_error", "neg_log_prior")
"""Names of the columns that every network emits, first and in this order; a network may add its own after them."""

SCORE_THRESHOLD = 1.0
"""Every score is scaled so that its limit lies at one."""

LOG_FLOOR = 1e-12
"""Under the logarithm of a criterion: a perfect reconstruction is very normal, not minus infinity."""

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
class Term:
    """What one criterion adds to the fused score."""

    weight: float
    """>= 0; score units for a unit of the (transformed) criterion."""
    transform: Literal["log", "linear"] = "log"
    """log: weight * log(criterion - floor), so that scales cancel and a heavy tail of one criterion cannot drown the
    others; linear: weight * (criterion - floor)."""
    floor: float = 0.0
    """The criterion's least possible value, such as the negative log prior at its mode."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0.0 and math.isfinite(self.floor)):
            raise ConfigError(f"term has weight {self.weight} and floor {self.floor}, expected finite, weight >= 0")
        if self.transform not in ("log", "linear"):
            raise ConfigError(f"term has transform {self.transform!r}, expected 'log' or 'linear'")

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The term for values (B,) of the criterion: (B,)."""
        above = values - self.floor
        return self.weight * (np.log(np.maximum(above, LOG_FLOOR)) if self.transform == "log" else above)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision(ABC):
    """How criteria become one score and a verdict. Score: 0 at the median training image, 1 at the calibrated limit."""

    criteria: tuple[str, ...] = CRITERIA
    """Names of the columns, in order."""
    threshold: float = SCORE_THRESHOLD
    """On the fused score; 1 is as calibrated, more flags less."""

    @property
    @abstractmethod
    def used(self) -> tuple[str, ...]:
        """The criteria that take part."""

    @abstractmethod
    def score(self, criteria: NDArray[Any]) -> NDArray[np.float64]:
        """The fused score (B,) float64 of criteria (B, K), higher = more anomalous."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values, for the manifest, which names the criteria itself."""

    def is_anomalous(self, score: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each fused score lies above the threshold. (B,) -> (B,) bool."""
        decided: NDArray[np.bool_] = score > self.threshold
        return decided

    def column(self, criteria: NDArray[Any], name: str) -> NDArray[np.float64]:
        """The values (B,) of one criterion from (B, K)."""
        return np.asarray(criteria, dtype=np.float64)[:, self.criteria.index(name)]

    def _check(self) -> None:
        unknown = set(self.used) - set(self.criteria)
        if unknown or not self.used:
            raise ConfigError(f"decision limits {sorted(self.used)}, expected one or more of {list(self.criteria)}")
        if not math.isfinite(self.threshold):
            raise ConfigError(f"threshold is {self.threshold}, expected a finite number; 1 is as calibrated")


@dataclass(frozen=True, kw_only=True, slots=True)
class UnionRule(Decision):
    """The union rule of arXiv 1901.06355 section 4.1: anomalous if any limited criterion lies above its threshold.

    The paper's second condition, likelihood under its p10, is the same as negative log-likelihood above its p90.
    A conventional autoencoder is the union over the reconstruction error alone.
    """

    limits: Mapping[str, Limit]
    """Criterion name -> its limit; a criterion that is not named does not take part."""

    def __post_init__(self) -> None:
        self._check()

    @property
    def used(self) -> tuple[str, ...]:
        """The criteria that have a limit."""
        return tuple(self.limits)

    def score(self, criteria: NDArray[Any]) -> NDArray[np.float64]:
        """The fused score: max over limited criteria of (value - median) / (threshold - median).

        criteria: (B, K). Returns (B,) float64: 0 at the median, 1 at the first limit that is reached, so that
        `score > 1` is the union rule.
        """
        excess = [
            (self.column(criteria, name) - limit.center) / (limit.threshold - limit.center)
            for name, limit in self.limits.items()
        ]
        fused: NDArray[np.float64] = np.max(np.stack(excess), axis=0)
        return fused

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values, for the manifest."""
        return {
            "rule": "union",
            "threshold": self.threshold,
            "limits": {
                name: {"threshold": limit.threshold, "center": limit.center} for name, limit in self.limits.items()
            },
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class FusedRule(Decision):
    """One score, one limit: a weighted sum of terms, scaled so that the median lies at 0 and the limit at 1."""

    terms: Mapping[str, Term]
    """Criterion name -> its term; a criterion that is not named does not take part."""
    limit: Limit
    """On the sum of terms: its calibrated threshold and its median over the training images."""

    def __post_init__(self) -> None:
        self._check()

    @property
    def used(self) -> tuple[str, ...]:
        """The criteria that have a term."""
        return tuple(self.terms)

    def sum_of_terms(self, criteria: NDArray[Any]) -> NDArray[np.float64]:
        """The sum before it is scaled: (B, K) -> (B,)."""
        return sum_of_terms(criteria, self.criteria, self.terms)

    def score(self, criteria: NDArray[Any]) -> NDArray[np.float64]:
        """The fused score, (sum of terms - median) / (limit - median): (B, K) -> (B,) float64."""
        fused: NDArray[np.float64] = (self.sum_of_terms(criteria) - self.limit.center) / (
            self.limit.threshold - self.limit.center
        )
        return fused

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON values, for the manifest."""
        return {
            "rule": "fused",
            "threshold": self.threshold,
            "limit": {"threshold": self.limit.threshold, "center": self.limit.center},
            "terms": {
                name: {"weight": term.weight, "transform": term.transform, "floor": term.floor}
                for name, term in self.terms.items()
            },
        }


def sum_of_terms(criteria: NDArray[Any], names: Sequence[str], terms: Mapping[str, Term]) -> NDArray[np.float64]:
    """Sum of the terms of criteria (B, K), whose columns have these names: (B,) float64."""
    values = np.asarray(criteria, dtype=np.float64)
    total: NDArray[np.float64] = np.sum([term(values[:, names.index(name)]) for name, term in terms.items()], axis=0)
    return total


def decision_from_json(values: Mapping[str, Any], criteria: Sequence[str] = CRITERIA) -> Decision:
    """The rule read back; raises BundleError where the manifest's decision cannot be used.

    criteria: the names that the manifest lists.
    """
    rule = values.get("rule")
    if rule not in ("union", "fused"):
        raise BundleError(f"decision rule is {rule!r}, this release knows 'union' and 'fused'; update edge-aae")
    try:
        threshold = float(values["threshold"])
        if rule == "union":
            limits = {name: Limit(**limit) for name, limit in values["limits"].items()}
            return UnionRule(criteria=tuple(criteria), limits=limits, threshold=threshold)
        terms = {name: Term(**term) for name, term in values["terms"].items()}
        limit = Limit(**values["limit"])
        return FusedRule(criteria=tuple(criteria), terms=terms, limit=limit, threshold=threshold)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BundleError(f"the manifest's decision cannot be used: {error}; export the bundle again") from error
