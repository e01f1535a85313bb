"""What a calibrated run is known to find, and how even its folds are: from what was judged by what had not seen it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.metrics import auroc, bootstrap
from edge_runtime.model.score import Decision

__all__ = ["fold_shares", "synthetic_figures"]

N_RESAMPLES = 1000


def synthetic_figures(
    good: NDArray[np.float32], copies: NDArray[np.float32], decision: Decision, seed: int
) -> dict[str, Any]:
    """Figures of synthetic defects for the manifest: number, share found at the threshold, AUROC and its 95 % interval.

    good: (N, K) criteria of images that are believed good, copies: (M, K) of images with a synthetic defect.
    """
    is_copy = np.arange(len(good) + len(copies)) >= len(good)
    scores = decision.score(np.concatenate((good, copies)))
    flagged = decision.is_anomalous(scores)
    rng = np.random.default_rng(seed)
    low, high = bootstrap(scores, flagged, is_copy, n_resamples=N_RESAMPLES, rng=rng)["auroc"]
    return {
        "n": len(copies),
        "found": float(flagged[is_copy].mean()),
        "auroc": auroc(scores, is_copy),
        "interval": [low, high],
    }


def fold_shares(
    above: NDArray[np.bool_], fold: NDArray[np.integer], found: NDArray[np.bool_], found_fold: NDArray[np.integer]
) -> dict[str, Any]:
    """The spread of the folds for the manifest: the least and the highest share above the threshold, and found.

    above: (N,) training images above it, of the folds `fold` (N,); found: (M,) copies with a defect, of the folds
    `found_fold` (M,). Found is None where a fold has no copy.
    """
    folds = np.unique(fold)
    of_fold = [found[found_fold == number] for number in folds]
    return {
        "n": len(folds),
        "above": _ends([above[fold == number] for number in folds]),
        "found": _ends(of_fold) if all(len(part) for part in of_fold) else None,
    }


def _ends(parts: list[NDArray[np.bool_]]) -> list[float]:
    shares = [float(part.mean()) for part in parts]
    return [min(shares), max(shares)]
