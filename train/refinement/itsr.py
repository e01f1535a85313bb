"""Refinement of the training set: which images are believed to be anomalies, when, why, and what they weigh.

`itsr` is iterative training set refinement, Beggel, Pfeiffer, Bischl, arXiv 1901.06355 section 4.2. Pure numpy and
scikit-learn; the trainer asks it between phases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from train.data.guidance import KEEP, REJECT, Guidance

__all__ = ["ItsrSettings", "Refinement", "Verdict"]

SVM_MAX_FIT = 20_000
"""The one-class SVM is fitted on at most this many codes, drawn evenly: its cost grows with their square. Of more
images it calls outliers what it calls so, about nu of them, without the bound that `detect` sets below."""

SVM_TOLERANCE = 1e-6
"""Of libsvm's optimiser; its default, 1e-3, calls 2.6 % outliers for nu = 0.02 on 6000 codes, this 2.0 %."""

NEVER = -1
BY_PERSON = 0
"""Round in which an image joined A that a person rejected."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItsrSettings:
    """The numbers of ITSR."""

    nu: float = 0.02
    """Share of codes that the one-class SVM calls outliers in a round, whatever the true rate (section 5)."""
    rounds: int = 10
    """Detection and refinement rounds, d in the paper."""
    retrain_percentile: float = 0.8
    """Candidates whose error lies above this quantile of the candidates' errors are weighted negatively."""
    negative_weight: float = -0.5
    """w_anomaly. The paper prints no value; half the pull of a normal image, so that 20 % of the candidates cannot
    outweigh the images they resemble."""
    error_cap: float = 2.0
    """A negatively weighted error counts up to this many times T_retrain, where its gradient ends: the paper's
    anomalous errors (figure 5) end at about twice their value before ITSR."""

    def __post_init__(self) -> None:
        if not 0.0 < self.nu < 1.0:
            raise ConfigError(f"nu is {self.nu}, expected a share between 0 and 1")
        if self.rounds < 1:
            raise ConfigError(f"refinement rounds are {self.rounds}, expected at least 1")
        if not 0.0 < self.retrain_percentile < 1.0:
            raise ConfigError(f"retrain percentile is {self.retrain_percentile}, expected between 0 and 1")
        if not (math.isfinite(self.negative_weight) and self.negative_weight < 0.0):
            raise ConfigError(f"negative weight is {self.negative_weight}, expected below 0")
        if not (math.isfinite(self.error_cap) and self.error_cap >= 1.0):
            raise ConfigError(f"error cap is {self.error_cap} times T_retrain, expected at least 1")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one training image."""

    kept: bool
    weight: float
    """w_i in the last phase."""
    round: int
    """Round that rejected it, 1-based; NEVER (-1) for kept images."""
    reason: str


@dataclass(slots=True)
class Refinement:
    """Per-image weights w_i and candidates A of one training run."""

    settings: ItsrSettings
    weights: NDArray[np.float32]
    """(N,) w_i: 1 for images believed normal, 0 for candidates, negative for candidates in re-training."""
    rejected_in: NDArray[np.int32]
    """(N,) round in which an image joined A, 1-based; NEVER for images outside A."""
    retrain_threshold: float = float("inf")
    """T_retrain, infinite before re-training."""
    errors_at_retrain: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    guidance: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    """(N,) KEEP for images that never join A, REJECT for those that a person put there; empty where nobody said"""

    def __post_init__(self) -> None:
        if not self.guidance.size:
            self.guidance = Guidance.none(self.weights.size).verdicts

    @classmethod
    def fresh(cls, n_images: int, settings: ItsrSettings, guidance: NDArray[np.int8] | None = None) -> Refinement:
        """All images believed normal, w_i = 1, but for those that a person rejected: in A from the start, w_i = 0.

        guidance: (N,) KEEP, REJECT or UNGUIDED.
        """
        state = cls(settings, np.ones(n_images, dtype=np.float32), np.full(n_images, NEVER, dtype=np.int32))
        if guidance is not None:
            state.guidance = guidance
            state.weights[guidance == REJECT] = 0.0
            state.rejected_in[guidance == REJECT] = BY_PERSON
        return state

    @property
    def candidates(self) -> NDArray[np.bool_]:
        """(N,) membership in A."""
        members: NDArray[np.bool_] = self.rejected_in != NEVER
        return members

    @property
    def error_cap(self) -> float:
        """Where a negatively weighted reconstruction error stops counting; infinite before re-training."""
        return self.settings.error_cap * self.retrain_threshold

    def detect(self, codes: NDArray[np.float32], round_number: int, seed: int) -> int:
        """Phase 2: outliers among the codes of X without A join A with w = 0. Returns how many joined.

        codes: (N, D) latent codes of all images. round_number: 1-based.
        """
        remaining = np.flatnonzero(~self.candidates)
        svm = require("sklearn.svm", extra="train", purpose="one-class SVM rounds")
        fit = remaining
        if fit.size > SVM_MAX_FIT:
            fit = np.random.default_rng(seed).choice(remaining, SVM_MAX_FIT, replace=False)
        model = svm.OneClassSVM(kernel="rbf", gamma="scale", nu=self.settings.nu, tol=SVM_TOLERANCE).fit(codes[fit])
        outliers = remaining[model.predict(codes[remaining]) < 0]
        n_most = max(1, round(self.settings.nu * remaining.size))
        if fit is remaining and outliers.size > n_most:
            # nu bounds the share of outliers (Schoelkopf et al. 2001), but codes on the boundary come out a rounding
            # error inside or outside: of 400 codes in 32 dimensions libsvm calls 10 % outliers for nu = 0.02. Those
            # with the largest dual coefficients hold the boundary against the most slack.
            slack = np.zeros(self.weights.size)
            slack[remaining[model.support_]] = model.dual_coef_[0]
            outliers = outliers[np.argsort(-slack[outliers], kind="stable")[:n_most]]
        outliers = outliers[self.guidance[outliers] != KEEP]
        self.rejected_in[outliers] = round_number
        self.weights[outliers] = 0.0
        return int(outliers.size)

    def start_retraining(self, errors: NDArray[np.float32]) -> int:
        """Phase 3: candidates above T_retrain get the negative weight. Returns how many.

        errors: (N,) reconstruction errors of all images. Other candidates keep w = 0, the rest w = 1.
        """
        candidates = self.candidates
        self.errors_at_retrain = errors.astype(np.float32)
        if not candidates.any():
            return 0
        self.retrain_threshold = float(np.quantile(errors[candidates], self.settings.retrain_percentile))
        negative = candidates & (errors > self.retrain_threshold)
        self.weights[negative] = self.settings.negative_weight
        return int(negative.sum())

    def verdict(self, index: int) -> Verdict:
        """What became of image `index`, and why."""
        round_number = int(self.rejected_in[index])
        weight = float(self.weights[index])
        if round_number == NEVER:
            return Verdict(True, weight, NEVER, "")
        if round_number == BY_PERSON:
            return Verdict(False, weight, BY_PERSON, "rejected by a person")
        reason = f"outlier of the one-class SVM on latent codes in round {round_number}"
        if weight < 0:
            error = float(self.errors_at_retrain[index])
            reason += f"; error {error:.4g} above T_retrain {self.retrain_threshold:.4g}"
        return Verdict(False, weight, round_number, reason)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The state as named arrays, for a checkpoint."""
        return {
            "weights": self.weights,
            "rejected_in": self.rejected_in,
            "retrain_threshold": np.array([self.retrain_threshold]),
            "errors_at_retrain": self.errors_at_retrain,
            "guidance": self.guidance,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]], settings: ItsrSettings) -> Refinement:
        """The state read back from a checkpoint."""
        return cls(
            settings,
            arrays["weights"].copy(),
            arrays["rejected_in"].copy(),
            float(arrays["retrain_threshold"][0]),
            arrays["errors_at_retrain"].copy(),
            arrays["guidance"].copy(),
        )
