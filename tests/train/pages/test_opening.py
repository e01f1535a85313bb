"""The head of a page: which pictures are chosen, and that what nobody measured is said to be so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.verdict import verdict_of
from tests.train.pages.test_page import images_in
from train.pages.examples import BEST, BORDERLINE, WORST, Example, chosen
from train.pages.opening import NOT_MEASURED, figures_of_training, opening, time_figure


def test_the_best_the_worst_and_those_beside_the_threshold_are_chosen() -> None:
    scores = np.array([0.9, 0.1, 0.2, 0.3, 1.05, 5.0, 0.6, 4.0, 3.0, 2.0])
    assert chosen(scores, 1.0) == [
        *((index, BEST) for index in (1, 2, 3)),
        *((index, BORDERLINE) for index in (0, 4)),
        *((index, WORST) for index in (8, 7, 5)),
    ]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8])
def test_of_few_images_each_is_shown_once(n: int) -> None:
    found = chosen(np.arange(n, dtype=np.float64), 2.5)
    assert [index for index, _ in found] == list(range(n))


def figures(calibration: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found = figures_of_training(calibration, 1200, 7, "runs/x", time_figure(None, "on the device:", "edge-aae bench"))
    return {figure.name: (figure.value, f"{figure.note} {figure.command}") for figure in found}


def test_what_is_not_known_says_how_to_measure_it() -> None:
    found = figures({})
    assert found["parts looked at"] == ("1,200", "training photographs, 7 of them set aside ")
    for name, command in (
        ("defects found", "edge-aae report runs/x TEST"),
        ("false alarms", "edge-aae report runs/x TEST"),
        ("time a part", "edge-aae bench"),
    ):
        assert found[name][0] == NOT_MEASURED
        assert found[name][1].endswith(command)


def test_figures_and_sentence_are_of_the_same_numbers() -> None:
    calibration = {
        "synthetic": {"found": 0.931, "n": 128, "auroc": 0.98, "interval": [0.96, 0.99]},
        "limit": {"target_fpr": 0.05, "expected_fpr": 0.052, "realised_fpr": [0.031, 0.087]},
    }
    found, sentence = figures(calibration), verdict_of(calibration).sentence
    assert (found["defects found"][0], found["false alarms"][0]) == ("93 %", "52 of 1,000")
    assert "finds 93 % of 128" in sentence
    assert "about 52 false alarms per 1,000 good parts (interval 31 to 87)" in sentence
    assert "(31 to 87)" in found["false alarms"][1]
    known = {"defects": 5, "caught": 4, "false_alarms": 2, "normal": 90}
    found = figures({"known_bad": known, "limit": calibration["limit"]})
    assert (found["defects found"][0], found["false alarms"][0]) == ("4 of 5", "2 of 90")


def test_names_and_reasons_in_an_opening_are_text() -> None:
    image, heat = np.full((8, 8, 1), 90, np.uint8), np.full((4, 4), 0.6, np.float32)
    examples = [
        Example(why=why, caption="<script>", image=image, heat=heat + extra, peak=0.7)
        for why, extra in ((BEST, 0.0), (WORST, 0.5))
    ]
    page = opening(verdict_of({}), "<b>", [], examples, "")
    assert "<script" not in page
    assert "<b>most usual" in page
    (_, of_best), (_, of_worst) = (images_in(part) for part in page.split("<figure>")[1:])
    assert np.ptp(of_best) <= 1  # grey as it was: nothing stands out in the most usual
    assert np.ptp(of_worst) > 50
    assert "No pictures: gone &lt;b&gt;." in opening(verdict_of({}), "next", [], [], "gone <b>")
