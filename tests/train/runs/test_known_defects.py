"""A threshold between training images and known defects: where they lie, and where the network does not see them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.model.images import write_image
from edge_runtime.model.score import FusedRule, Limit, Term
from train.data.settings import DataSettings
from train.runs import known_defects as module
from train.runs.known_defects import known_defects, parted

DECISION = FusedRule(
    criteria=("reconstruction_error",),
    terms={"reconstruction_error": Term(weight=1.0, transform="linear")},
    limit=Limit(threshold=10.0, center=0.0),
)
HELD_OUT = np.linspace(-0.5, 0.6, 40)


def moved(folder: Path, defects: list[float], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """parted, with a network that gives these criteria in the order of the files."""
    for index in range(len(defects)):
        write_image(folder / f"{index}.png", np.full((8, 8), index, np.uint8))
    criteria = iter(defects)
    monkeypatch.setattr(module, "frame_outputs", lambda *_: (np.array([[next(criteria)]]), None))
    nothing: Any = None
    preprocess: Any = SimpleNamespace(tiles=lambda frame: (frame[None], None), levels=None)
    return parted(
        DECISION, HELD_OUT, DataSettings(path="", known_bad=str(folder)), nothing, nothing, preprocess, nothing
    )


def test_the_threshold_lies_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decision, told = moved(tmp_path, [8.0, 9.0, 30.0], monkeypatch)
    assert decision.threshold == pytest.approx(0.7)
    assert told == {
        "threshold": decision.threshold,
        "normal": 40,
        "false_alarms": 0,
        "defects": 3,
        "caught": 3,
    }
    assert (decision.limit, decision.terms) == (DECISION.limit, DECISION.terms)


def test_defects_that_the_network_does_not_see_leave_the_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert moved(tmp_path, [-9.0, -8.0], monkeypatch) == (DECISION, None)
    assert "known defects do not move the threshold: the scores of 2 known defects do not lie above" in caplog.text


def test_a_folder_that_is_gone_at_the_end_loses_no_training(caplog: pytest.LogCaptureFixture) -> None:
    nothing: Any = None
    assert parted(DECISION, HELD_OUT, DataSettings(path="", known_bad="gone"), *[nothing] * 4) == (DECISION, None)
    assert "--known-bad gone holds no images" in caplog.text


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(DataError, match="holds no images, expected a folder with photographs of defects"):
        known_defects(str(tmp_path))
