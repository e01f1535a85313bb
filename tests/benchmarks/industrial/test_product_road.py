"""The product's road: figures from what its commands wrote, and failures with their last words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.industrial.cells import Cell, Variant, lay_out
from benchmarks.industrial.photographs import Places, find
from benchmarks.industrial.product_road import travelled
from benchmarks.industrial.real_sets import ROOT
from tests.benchmarks.industrial.conftest import MakeSet


@pytest.fixture
def laid_out(tmp_path: Path, make_set: MakeSet) -> Path:
    """The folder of a cell with 4 of 20 photographs mixed in."""
    make_set(n_train=16, hole=8)
    photographs = find("aliens", Places(data=tmp_path / "data", work=tmp_path))
    variant = Variant(name="hog", tree=None, source="")
    cell = Cell(photographs=photographs, variant=variant, seed=0, share=0.2, reserved=0.2)
    lay_out(cell.split(), dict(photographs.masks), tmp_path / "cell/data")
    return tmp_path / "cell"


def _travelled(stand_in: Path, folder: Path, *arguments: str, limit_s: float = 60.0) -> dict[str, Any]:
    variant = Variant(name="stand-in", arguments=arguments, tree=stand_in, source="")
    return travelled(variant, folder, 2, limit_s=limit_s, threads=1)


def test_figures_are_what_the_commands_wrote(stand_in: Path, laid_out: Path) -> None:
    found = _travelled(stand_in, laid_out)
    assert found["failures"] == []
    assert found["exported"] is True
    assert found["auroc"] == pytest.approx(0.94)
    assert (found["ap"], found["tpr"], found["fpr"], found["bacc"]) == (0.8, 0.5, 0.0, 0.75)
    assert (found["pixel_auroc"], found["aupro"], found["frame_ms"]) == (0.7, 0.6, 4.25)
    assert (found["network"], found["n_rejected"], found["mixed_in_rejected"]) == ("stand-in", 4, 4)
    assert found["bundle_mb"] == 0.0
    assert {"train_s", "export_s", "evaluate_s", "bench_s"} <= set(found)
    assert (stand_in / "calls.txt").read_text().split() == ["train", "export", "evaluate", "bench"]


def test_training_that_fails_ends_the_road_with_its_error(stand_in: Path, laid_out: Path) -> None:
    found = _travelled(stand_in, laid_out, "--fail")
    assert found["failures"] == [{"step": "train", "line": "exit 1: error: no network of that name"}]
    assert found["exported"] is None
    assert "auroc" not in found


def test_a_run_whose_export_is_refused_is_evaluated_itself(stand_in: Path, laid_out: Path) -> None:
    found = _travelled(stand_in, laid_out, "--refuse")
    assert found["exported"] is False
    assert found["auroc"] == pytest.approx(0.94)
    assert found["failures"] == [{"step": "export", "line": "exit 3: error: the parity gate failed: score error 4"}]
    assert "frame_ms" not in found


def test_a_cell_ends_at_its_limit(stand_in: Path, laid_out: Path) -> None:
    started = time.perf_counter()
    found = _travelled(stand_in, laid_out, "--hang", limit_s=1.0)
    assert time.perf_counter() - started < 30.0
    assert found["failures"] == [{"step": "train", "line": "no end after 1 s, the limit of a cell"}]
    assert found["out_of_time_s"] == 1.0


@pytest.mark.slow
def test_the_products_own_commands_give_every_figure(laid_out: Path) -> None:
    quick = ("--network", "hog", "--imgsz", "32", "--epochs-scale", "0.05", "--no-report")
    variant = Variant(name="quick", arguments=quick, tree=ROOT, source="")
    found = travelled(variant, laid_out, 0, limit_s=600.0, threads=1)
    assert found["failures"] == []
    assert found["network"] == "hog"
    assert found["exported"] is True
    figures = ["auroc", "ap", "tpr", "fpr", "bacc", "pixel_auroc", "aupro", "train_s", "frame_ms", "bundle_mb"]
    assert [name for name in figures if not isinstance(found[name], float)] == []
