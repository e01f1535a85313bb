"""The industrial table: who is mixed in, what is trained on, and what is written."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.industrial.table import Job, _mixed_in, _training_folder, _write
from edge_runtime.errors import DataError
from edge_runtime.model.images import list_images


def _job(condition: str = "contaminated", share: float = 0.2, seed: int = 0) -> Job:
    return Job(condition=condition, seed=seed, share=share, method="robust", epochs_scale=1.0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder, n in (("train/good", 8), ("test/good", 3), ("test/hole", 5)):
        (tmp_path / "tiles" / folder).mkdir(parents=True)
        for index in range(n):
            cv2.imwrite(str(tmp_path / "tiles" / folder / f"{index}.png"), np.zeros((4, 4), np.uint8))
    return tmp_path / "tiles"


def test_the_share_is_of_the_whole_training_set_and_follows_the_seed(data: Path) -> None:
    defects = list_images(data / "test" / "hole")
    assert len(_mixed_in(_job(), data, defects)) == 2  # 2 of 10
    assert _mixed_in(_job(), data, defects) == _mixed_in(_job(), data, defects)
    assert len({tuple(_mixed_in(_job(seed=seed), data, defects)) for seed in range(9)}) > 1
    assert _mixed_in(_job("clean"), data, defects) == []
    with pytest.raises(DataError, match="needs 8 defects"):
        _mixed_in(_job(share=0.5), data, defects)


def test_the_training_folder_holds_good_photographs_and_what_was_mixed_in(data: Path, tmp_path: Path) -> None:
    mixed_in = _mixed_in(_job(), data, list_images(data / "test" / "hole"))
    folder = _training_folder(_job(), data, mixed_in, tmp_path / "images")
    assert len(list_images(folder)) == 10
    assert len(list_images(_training_folder(_job(), data, mixed_in, tmp_path / "images"))) == 10  # again, nothing new


def test_a_report_is_written_from_finished_jobs(tmp_path: Path) -> None:
    result = {
        "job": "clean-robust-x1-seed0",
        "condition": "clean",
        "auroc": {"all": 0.9, "hole": 0.8},
        "auroc_interval": [0.85, 0.95],
        "auroc_of_criteria": {"defect_score": {"all": 0.9, "hole": 0.8}},
        "false_alarms": {"asked 0.01": 0.02, "asked 0.05": None},
        "pixel": {"auroc": 0.7, "aupro": 0.6},
        "tpr": 0.5,
        "epoch_minutes": 3.0,
        "threads": 1,
        "n_train": 10,
        "n_mixed_in": 0,
        "mixed_in_rejected": 0,
        "n_rejected": 1,
        "parameters": 1000,
        "epochs": 4,
        "decision": {"terms": {"defect_score": {"weight": 0.4}}},
    }
    work = tmp_path / "work"
    work.mkdir()
    for seed in range(2):
        (work / f"clean-seed{seed}.json").write_text(json.dumps(result))
    assert _write(Namespace(work=work, out=tmp_path / "out")) == 0
    page = (tmp_path / "out" / "industrial.md").read_text()
    assert "| clean-robust-x1-seed0 | 0.900 | 0.850-0.950 | 0.800 | 0.700 | 0.600 | 0.020 | - |" in page
    assert "clean-robust-x1: mean 0.900, sd 0.000 over 2 seeds." in page
    assert len(json.loads((tmp_path / "out" / "industrial.json").read_text())) == 2
