"""The table of verdicts: read as written, names of any bytes too, and refused where a run's thresholds need more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.score import Limit, UnionRule
from train.data.image_store import MemoryStore
from train.data.training_set import TrainingSet
from train.refinement.itsr import NEVER, Verdict
from train.runs.verdicts import read_verdicts, write_verdicts

DECISION = UnionRule(limits={"reconstruction_error": Limit(threshold=1.0, center=0.0)})
NAMES = ["a, b.png", "caf\udce9.png", "c.png"]
VERDICTS = [Verdict(True, 1.0, NEVER, ""), Verdict(False, -0.5, 2, "far off"), Verdict(True, 1.0, NEVER, "")]


def written(path: Path) -> Path:
    images = TrainingSet(
        MemoryStore(np.zeros((3, 2, 2, 1), np.uint8)), NAMES, np.array([0, 7, 0]), Preprocess(height=2, width=2)
    )
    criteria = np.array([[0.5, 0.25], [2.0, 1.5], [1.0, 0.125]], dtype=np.float32)
    write_verdicts(path, images, criteria, DECISION, VERDICTS.__getitem__)
    return path


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = written(tmp_path / "refinement.csv")
    lines = path.read_bytes().decode("utf-8", errors="surrogateescape").splitlines()
    assert lines == [
        "index,name,label,reconstruction_error,neg_log_prior,score,above_threshold,kept,weight,round,reason",
        '0,"a, b.png",0,0.5,0.25,0.5,0,1,1,,',
        "1,caf\udce9.png,7,2,1.5,2,1,0,-0.5,2,far off",
        "2,c.png,0,1,0.125,1,0,1,1,,",
    ]
    table = read_verdicts(path, DECISION)
    assert table.names == NAMES
    assert table.criteria.tolist() == [[0.5, 0.25], [2.0, 1.5], [1.0, 0.125]]
    assert table.kept.tolist() == [True, False, True]
    assert table.reasons == ["", "far off", ""]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        ("index,name\n", "it has no rows"),
        ("name,kept,reason,reconstruction_error\na.png,1,,0.5\n", "neg_log_prior"),
        ("name,kept,reason,reconstruction_error,neg_log_prior\na.png,1,,much,0\n", "much"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_what_to_do(tmp_path: Path, content: str | None, why: str) -> None:
    path = tmp_path / "refinement.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=rf"refinement\.csv cannot be read: .*{why}.*; train again"):
        read_verdicts(path, DECISION)
