"""The plot of losses: each where it was measured, none as a zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from train.learning.trainer import EpochRow
from train.runs.pictures import draw_losses, plot_losses


def row(phase: str, epoch: int, losses: tuple[float, float, float], images: int = 40) -> EpochRow:
    return EpochRow(phase, epoch, *losses, images, 0, 1.0)


SITES = [row("sites", epoch, (2.0 / epoch, 0.7, 1.3)) for epoch in (1, 2, 3)]
PHASES = ("head-1", "head-1", "head-2", "head-2", "head")
HEAD = [row(phase, epoch, (0.5, 0.0, 0.0)) for epoch, phase in enumerate(PHASES, 4)]


def drawn(rows: list[EpochRow]) -> dict[str, list[np.ndarray]]:
    """The losses of each plot, by its title; lines between phases have no losses."""
    figure = Figure()
    draw_losses(figure, rows)
    return {axes.get_title(): [np.asarray(line.get_xydata()) for line in axes.lines] for axes in figure.axes}


def test_an_adversary_is_drawn_where_there_is_one_and_a_head_in_a_plot_of_its_own() -> None:
    found = drawn([*SITES, *HEAD])
    assert set(found) == {"reconstruction", "adversary", "head"}
    for title in ("reconstruction", "adversary"):
        assert all(line[:, 0].max() == 3 for line in found[title])
        assert all((line[:, 1] > 0).all() for line in found[title])
    losses = [line for line in found["head"] if (line[:, 1] == 0.5).all()]
    assert [line[:, 0].tolist() for line in losses] == [[4, 5], [6, 7], [8]]


def test_of_a_head_that_was_given_up_nothing_is_drawn() -> None:
    given_up = [row("head-1", 4, (0.0, 0.0, 0.0), images=0), row("head", 5, (0.0, 0.0, 0.0), images=0)]
    found = drawn([*SITES, *given_up])
    assert set(found) == {"reconstruction", "adversary"}
    assert all(line[:, 0].max() == 3 for lines in found.values() for line in lines)


def test_without_an_adversary_the_plot_says_so(tmp_path: Path) -> None:
    rows = [row("train", epoch, (1.0, 0.0, 0.0)) for epoch in (1, 2)]
    assert drawn(rows)["adversary"] == []
    plot_losses(tmp_path / "losses.png", rows)
    assert (tmp_path / "losses.png").stat().st_size > 3000
