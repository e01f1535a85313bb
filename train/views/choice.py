"""Which view is taken: the plain one, unless evidence speaks for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from train.views.candidates import ViewCandidate

__all__ = ["ViewFigure", "choose_view"]

LEAST_GAIN = 0.01
"""Of AUROC over the plain view: less is noise of the synthetic defects."""


@dataclass(frozen=True, slots=True)
class ViewFigure:
    """One line of what a choice was made by."""

    name: str
    size: tuple[int, int]
    auroc: float | None
    """On synthetic defects of held-out images; None where the view was refused"""
    remark: str = ""

    def __str__(self) -> str:
        height, width = self.size
        figure = "refused" if self.auroc is None else f"AUROC {self.auroc:.3f}"
        return f"{self.name:<7} {height}x{width}  {figure}{': ' + self.remark if self.remark else ''}"


def choose_view(
    candidates: Sequence[ViewCandidate], auroc: Callable[[ViewCandidate], float]
) -> tuple[ViewCandidate, list[ViewFigure]]:
    """The view to take, and the figures of all.

    candidates: the plain view first, as views_of gives them. auroc: how well synthetic defects of held-out training
    images are told from the images themselves in a view; asked of each that is not refused, once. The plain view is
    taken unless another's is more than LEAST_GAIN above its own.
    """
    figures, best, best_auroc = [], candidates[0], 0.0
    for candidate in candidates:
        if candidate.refused:
            figures.append(ViewFigure(candidate.name, candidate.size, None, candidate.refused))
            continue
        found = auroc(candidate)
        figures.append(ViewFigure(candidate.name, candidate.size, found, candidate.note))
        if candidate is candidates[0]:
            best_auroc = found + LEAST_GAIN
        elif found > best_auroc:
            best, best_auroc = candidate, found
    return best, figures
