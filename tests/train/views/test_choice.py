from __future__ import annotations

from edge_runtime.model.alignment import Alignment
from train.views.candidates import ViewCandidate
from train.views.choice import choose_view

CENTRE = Alignment(mode="centre", height=90.0, width=90.0, frame=(240, 300))
NONE = ViewCandidate(name="none", align=None, size=(256, 256))
CENTRED = ViewCandidate(name="centre", align=CENTRE, size=(256, 256))
TURNED = ViewCandidate(name="turn", align=CENTRE, size=(176, 368), note="either end may come first")
REFUSED = ViewCandidate(name="turn", align=None, size=(256, 256), refused="the part has no long axis")


def choice(none: float, centre: float, turn: float) -> str:
    figures = {"none": none, "centre": centre, "turn": turn}
    return choose_view([NONE, CENTRED, TURNED], lambda view: figures[view.name])[0].name


def test_the_plain_view_is_taken_unless_another_is_better_by_more_than_chance() -> None:
    assert choice(0.85, 0.885, 0.88) == "none"
    assert choice(0.85, 0.901, 0.88) == "centre"
    assert choice(0.85, 0.91, 0.93) == "turn"
    assert choice(0.85, 0.93, 0.91) == "centre"
    assert choice(0.99, 0.2, 0.3) == "none"


def test_what_is_refused_is_not_tried_and_stands_in_the_table_with_its_reason() -> None:
    tried: list[str] = []

    def auroc(view: ViewCandidate) -> float:
        tried.append(view.name)
        return 0.875

    chosen, figures = choose_view([NONE, CENTRED, REFUSED], auroc)
    assert (chosen, tried) == (NONE, ["none", "centre"])
    assert [str(figure) for figure in figures] == [
        "none    256x256  AUROC 0.875",
        "centre  256x256  AUROC 0.875",
        "turn    256x256  refused: the part has no long axis",
    ]


def test_a_view_without_another_is_not_tried() -> None:
    def auroc(view: ViewCandidate) -> float:
        raise AssertionError(view)

    chosen, figures = choose_view([NONE, REFUSED], auroc)
    assert chosen is NONE
    assert [str(figure) for figure in figures] == [
        "none    256x256  not compared",
        "turn    256x256  refused: the part has no long axis",
    ]


def test_a_note_stands_in_the_table() -> None:
    _, figures = choose_view([NONE, TURNED], lambda view: 0.5)
    assert str(figures[1]) == "turn    176x368  AUROC 0.500: either end may come first"
