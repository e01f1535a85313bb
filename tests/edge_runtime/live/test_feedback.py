"""What people say of events, as files that a training takes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.live.feedback import Feedback
from edge_runtime.model.images import read_image

FRAME = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)


def rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def test_answers_become_labels_and_the_frame_lies_beside_them_as_it_came(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path / "said")
    assert feedback.add("17-ab", "camera:0", 2.5, "right", FRAME) == "17-ab.png"
    feedback.add("18-cd", "camera:0", 1.2, "wrong", FRAME)
    feedback.add("19-ef", "camera:0", 1.1, "unsure", FRAME)
    assert rows(feedback.labels) == [["name", "label"], ["17-ab.png", "anomalous"], ["18-cd.png", "good"]]
    np.testing.assert_array_equal(read_image(tmp_path / "said/images/17-ab.png"), FRAME)
    assert not list((tmp_path / "said/images").glob("*.part*"))


def test_the_last_answer_counts_and_survives_a_restart(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path)
    feedback.add("17-ab", "camera:0", 2.5, "right", FRAME)
    again = Feedback(tmp_path)
    again.add("17-ab", "camera:0", 2.5, "wrong", None)
    assert Feedback(tmp_path).answers() == {"17-ab": "wrong"}
    assert rows(again.labels) == [["name", "label"], ["17-ab.png", "good"]]


def test_what_is_no_answer_or_has_no_frame_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    feedback = Feedback(tmp_path)
    with pytest.raises(DataError, match="expected one of right, wrong, unsure"):
        feedback.add("17-ab", "camera:0", 2.5, "maybe", FRAME)
    with pytest.raises(DataError, match="no longer kept"):
        feedback.add("17-ab", "camera:0", 2.5, "right", None)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("event_id", ["../../etc/passwd", "a/b", "..", "", "\0x", "<script>", "=cmd()"])
def test_no_event_id_leads_out_of_the_folder(tmp_path: Path, event_id: str) -> None:
    feedback = Feedback(tmp_path / "said")
    feedback.add(event_id, "camera:0", 2.5, "right", FRAME)
    (image,) = (tmp_path / "said/images").iterdir()
    assert image.parent == tmp_path / "said/images"
    assert {file.name for file in tmp_path.iterdir()} == {"said"}


def test_a_table_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "answers.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="move it away"):
        Feedback(tmp_path)
