"""Which view is taken: the plain one, unless evidence speaks for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from train.views.candidates import ViewCandidate

__all__ = ["LEAST_GAIN", "ViewFigure", "choose_view"]

LEAST_GAIN = 0.05
"""Of AUROC over the plain view: on four dozen photographs, parts that lay alike gained up to .035 by chance, and lost
.015 on real defects; parts at any angle gained .07."""


@dataclass(frozen=True, slots=True)
class ViewFigure:
    """One line of what a choice was made by."""

    name: str
    size: tuple[int, int]
    auroc: float | None
    """On synthetic defects of held-out images; None where the view was refused, or there was nothing to compare"""
    remark: str = ""
    refused: bool = False

    @classmethod
    def of(cls, candidate: ViewCandidate, auroc: float | None = None) -> ViewFigure:
        """The line of a candidate; its remark is why it was refused, or what is to be known of it."""
        remark = candidate.refused or candidate.note
        return cls(candidate.name, candidate.size, auroc, remark, bool(candidate.refused))

    @property
    def figure(self) -> str:
        """What came of the view, in a word or a number."""
        if self.auroc is not None:
            return f"AUROC {self.auroc:.3f}"
        return "refused" if self.refused else "not compared"

    def __str__(self) -> str:
        height, width = self.size
        return f"{self.name:<7} {height}x{width}  {self.figure}{': ' + self.remark if self.remark else ''}"


def choose_view(
    candidates: Sequence[ViewCandidate], auroc: Callable[[ViewCandidate], float]
) -> tuple[ViewCandidate, list[ViewFigure]]:
    """The view to take, and the figures of all.

    candidates: the plain view first, as views_of gives them. auroc: how well synthetic defects of held-out training
    images are told from the images themselves in a view; asked of each that is not refused, once, where these are two
    or more. The plain view is taken unless another's is more than LEAST_GAIN above its own.
    """
    figures, best, best_auroc = [], candidates[0], 0.0
    alone = sum(not candidate.refused for candidate in candidates) == 1
    for candidate in candidates:
        if candidate.refused or alone:
            figures.append(ViewFigure.of(candidate))
            continue
        found = auroc(candidate)
        figures.append(ViewFigure.of(candidate, found))
        if candidate is candidates[0]:
            best_auroc = found + LEAST_GAIN
        elif found > best_auroc:
            best, best_auroc = candidate, found
    return best, figures
