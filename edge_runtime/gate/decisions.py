"""What two sides decide from the criteria of the same frames: flips, ranks of scores, separation.

Of a parity check that is what a precision is judged by where single values say little; report.py has the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.budgets import Budget
from edge_runtime.bundle.comparison import Comparison, compare
from edge_runtime.metrics import auroc, rank_correlation
from edge_runtime.model.score import Decision

__all__ = ["MEDIAN_SCORE", "UNKNOWN", "Decisions", "compare_decisions"]

MEDIAN_SCORE = 0.0
"""Of the training images, by either decision rule; 1 is the calibrated limit."""

UNKNOWN = -1
"""Label of a frame that is neither known normal (0) nor known anomalous (1)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decisions:
    """How far the decisions of two sides on the same frames agree."""

    n_frames: int
    flips: int
    """Frames on whose anomaly the two sides disagree"""
    flips_beyond_band: int
    """Those whose reference score lies outside the budget's band around the threshold"""
    rank_correlation: float
    """Of the scores, Spearman's; frames whose scores moved apart by no more than the budget's tie keep their order"""
    score: Comparison | None = None
    """Of the fused scores; None where the actual criteria give none"""
    auroc: tuple[float, float] | None = None
    """Of the reference's and of the actual scores; None where no frame is known to be anomalous. Most frames that are
    have a patch pasted in: it says what a precision keeps, not what the model finds, and is called separation."""
    n_pairs: int = 0
    """Of a normal and an anomalous frame, which the AUROC counts"""

    @classmethod
    def undecided(cls, n_frames: int) -> Decisions:
        """Of criteria from which nothing can be decided: every frame flips."""
        return cls(n_frames=n_frames, flips=n_frames, flips_beyond_band=n_frames, rank_correlation=0.0)

    def failures(self, budget: Budget) -> list[str]:
        """One line for each of flips, ranks and separation that lies outside the budget; the score is an output's."""
        lines = []
        if self.flips_beyond_band > budget.max_flips * self.n_frames:
            allowed = f"at most {budget.max_flips:.1%}" if budget.max_flips else "none"
            beyond = f" further than {budget.band:.1%} from the threshold" if budget.band else ""
            lines.append(f"{self.flips_beyond_band} of {self.n_frames} decisions flip{beyond}; expected {allowed}")
        if not self.rank_correlation >= budget.min_rank_correlation:
            lines.append(
                f"rank correlation of scores is {self.rank_correlation:.6f}, "
                f"expected at least {budget.min_rank_correlation}"
            )
        if self.auroc is not None and not self.keeps_separation(budget):
            lines.append(
                f"separation not kept: it shifts from {self.auroc[0]:.4f} to {self.auroc[1]:.4f}, "
                f"expected a shift of at most {budget.max_auroc_shift:g}"
            )
        return lines

    def keeps_separation(self, budget: Budget) -> bool:
        """Whether the actual scores tell the frames of the two labels apart as the reference's do."""
        return self.auroc is None or _shift_beyond_a_pair(self.auroc, self.n_pairs) <= budget.max_auroc_shift


def compare_decisions(
    reference: NDArray[np.floating[Any]],
    actual: NDArray[np.floating[Any]],
    decision: Decision,
    budget: Budget,
    *,
    where: str,
    labels: NDArray[np.int8] | None = None,
    groups: NDArray[np.int64] | None = None,
    contrast: bool = False,
) -> Decisions:
    """What follows from both sides' criteria, (N, K).

    where: the graph that gave the actual ones. labels: (F,) of each frame 0 normal, 1 anomalous, UNKNOWN; with both
    kinds among them separation is compared too. groups: (N,) the frame that each input is a tile of; None: each is a
    frame. A frame's criteria are the largest of its tiles'. contrast: as of compare.
    """
    n_frames = len(reference) if groups is None else int(groups.max()) + 1
    if actual.shape != reference.shape or not np.isfinite(actual).all():
        return Decisions.undecided(n_frames)
    expected, came = (decision.score(_worst(side, groups)) for side in (reference, actual))
    # Below the median image lie logarithms of nearly nothing, where rounding shows and nothing is decided.
    above, above_came = (np.maximum(side, MEDIAN_SCORE) for side in (expected, came))
    flips = decision.is_anomalous(expected) != decision.is_anomalous(came)
    tie = budget.tie_at(decision.threshold)
    near = np.abs(expected - decision.threshold) <= budget.band * max(1.0, abs(decision.threshold))
    return Decisions(
        n_frames=n_frames,
        flips=int(flips.sum()),
        flips_beyond_band=int((flips & ~near).sum()),
        rank_correlation=max(rank_correlation(expected, came, tie), rank_correlation(above, above_came, tie)),
        score=compare(f"{where}: score", above, above_came, budget.of_score(decision.threshold), contrast=contrast),
        auroc=_aurocs(expected, came, labels),
        n_pairs=0 if labels is None else int((labels == 0).sum() * (labels == 1).sum()),
    )


def _shift_beyond_a_pair(aurocs: tuple[float, float], n_pairs: int) -> float:
    """The shift, but for one pair of a normal and an anomalous frame in another order: few frames have no finer."""
    return abs(aurocs[1] - aurocs[0]) - 1.0 / max(n_pairs, 1) - 1e-12


def _worst(criteria: NDArray[Any], groups: NDArray[np.int64] | None) -> NDArray[Any]:
    """(F, K): of each criterion the largest over a frame's tiles."""
    if groups is None:
        return criteria
    worst = np.full((int(groups.max()) + 1, criteria.shape[1]), -np.inf)
    np.maximum.at(worst, groups, criteria)
    return worst


def _aurocs(
    expected: NDArray[np.float64], came: NDArray[np.float64], labels: NDArray[np.int8] | None
) -> tuple[float, float] | None:
    if labels is None or not {0, 1} <= set(labels.tolist()):
        return None
    known = labels != UNKNOWN
    anomalous = labels[known] == 1
    return auroc(expected[known], anomalous), auroc(came[known], anomalous)
