"""The command: which cells there are, that they are run once, and what the page says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.industrial.cells import Cell
from benchmarks.industrial.site_gaussian import PACKAGE
from benchmarks.peers import contamination
from benchmarks.peers.contamination import ReplacedCell, main
from benchmarks.peers.contamination_report import markdown
from tests.benchmarks.industrial.conftest import make_set

__all__ = ["make_set"]


@pytest.fixture
def words(tmp_path: Path, make_set: Callable[..., Path]) -> list[str]:
    """The command line for one tiny set."""
    make_set(n_train=20, hole=6, crack=6)
    places = {"--data": "data", "--work": "work", "--out": "out/page.md"}
    options = [word for name, value in places.items() for word in (name, str(tmp_path / value))]
    return [*options, "--sets", "aliens", "--shares", "0", "20"]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[ReplacedCell]:
    """Cells that were run, none of them trained."""
    cells: list[ReplacedCell] = []

    def measure(cell: ReplacedCell, arguments: Any) -> dict[str, Any]:
        cells.append(cell)
        split = cell.split()
        counts = {"n_train": 20, "n_mixed_in": len(split.mixed_in), "n_good": 2, "n_tested_defects": split.n_defects}
        return {"auroc": 0.9 - cell.share, "train_s": 1.0, "cpu": "a processor", "threads": 1, **counts, "failures": []}

    monkeypatch.setattr(contamination, "_measured", measure)
    return cells


def test_every_method_is_tried_on_the_same_draw_and_once(
    words: list[str], measured: list[ReplacedCell], tmp_path: Path
) -> None:
    assert main([*words, "--seeds", "0", "1"]) == 0
    kinds = [(cell.variant.name, cell.share, cell.seed) for cell in measured]
    methods = ("features", "PatchCore", "SoftPatch", "per-site Gaussian")
    assert kinds == [(name, share, seed) for seed in (0, 1) for share in (0.0, 0.2) for name in methods]
    assert len({cell.split().mixed_in for cell in measured if cell.seed == 0 and cell.share}) == 1
    assert len({str(cell.split().defects) for cell in measured if cell.seed == 0}) == 1
    assert all(len(cell.split().train) == (16 if cell.share else 20) for cell in measured)
    page = (tmp_path / "out/page.md").read_text()
    assert main([*words, "--seeds", "0", "1"]) == 0
    assert len(measured) == 16
    assert (tmp_path / "out/page.md").read_text() == page
    assert str(tmp_path) not in page.replace(str(tmp_path / "out/page.md"), "")
    assert "| aliens* | PatchCore | 2 | 20 / 2 / 8 | **0.900 ± 0.000** | **0.700 ± 0.000** | 0.200 |" in page


def test_the_head_is_left_out_on_demand_and_that_is_another_cell(
    words: list[str], measured: list[ReplacedCell]
) -> None:
    assert main([*words, "--methods", "features", "features-no-head"]) == 0
    assert {cell.variant.arguments for cell in measured} == {(), ("--head", "none")}
    assert len({cell.name for cell in measured}) == 4


def test_a_cell_is_not_one_of_defects_that_were_added(words: list[str], measured: list[ReplacedCell]) -> None:
    assert main(words) == 0
    cell = measured[-1]
    added = Cell(
        photographs=cell.photographs, variant=cell.variant, seed=cell.seed, share=cell.share, reserved=cell.reserved
    )
    assert cell.key != added.key
    assert len(added.split().train) == 20


@pytest.mark.parametrize("shares", [["50"], ["-1", "5"]])
def test_shares_that_leave_no_training_set_are_refused(
    words: list[str], shares: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--shares", *shares]) == 1
    assert "expected percentages from 0 to below 50" in capsys.readouterr().err


def test_other_methods_are_measured_on_photographs(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip(PACKAGE, reason="weights of EfficientNet-Lite0")
    assert main([*words, "--methods", "gaussian", "patchcore-1"]) == 0
    cells = json.loads((tmp_path / "out/page.json").read_text())["cells"]
    assert [cell["n_mixed_in"] for cell in cells] == [0, 0, 4, 4]
    assert [cell["n_tested_defects"] for cell in cells] == [8] * 4
    assert cells[0]["auroc"] == cells[1]["auroc"] == 1.0


@pytest.mark.slow
def test_the_product_is_measured_at_its_own_threshold(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--methods", "features-no-head"]) == 0
    clean, cell = json.loads((tmp_path / "out/page.json").read_text())["cells"]
    # Of the contaminated one no figure is to be had: a fifth of the pictures show the same defect in the same place, so
    # that it is usual there.
    assert clean["auroc"] > 0.5
    assert 0.0 <= cell["fpr"] <= 1.0
    assert cell["mixed_in_rejected"] <= cell["n_mixed_in"] == 4
    assert not cell["head_joined"]
    assert "| aliens | features-no-head | 20 % |" in (tmp_path / "out/page.md").read_text()


def _result(name: str, variant: str, share: float, auroc: float, **named: Any) -> dict[str, Any]:
    counts = {"n_train": 100, "n_mixed_in": round(100 * share), "n_good": 20, "n_tested_defects": 40}
    key = {"share": share, "seed": named.pop("seed", 0)}
    return {"set": name, "variant": variant, "key": key, "auroc": auroc, **counts, "cpu": "x", "threads": 1, **named}


def test_the_page_says_who_wins_what_is_lost_and_what_the_threshold_does() -> None:
    of_threshold = {"tpr": 0.8, "fpr": 0.05, "n_rejected": 9, "mixed_in_rejected": 7, "head_joined": True}
    found = [
        _result(name, variant, share, auroc, **(of_threshold if variant == "features" else {}))
        for name, variant, share, auroc in (
            ("deep-pcb", "features", 0.0, 0.95),
            ("deep-pcb", "features", 0.2, 0.93),
            ("deep-pcb", "SoftPatch", 0.0, 0.96),
            ("deep-pcb", "SoftPatch", 0.2, 0.90),
            ("mvtec-pill", "features", 0.0, 0.91),
            ("mvtec-pill", "features", 0.2, 0.85),
            ("mvtec-pill", "SoftPatch", 0.0, 0.91),
            ("mvtec-pill", "SoftPatch", 0.2, 0.80),
        )
    ]
    lines = list(markdown(found, "the command"))
    assert "    the command" in lines
    assert "| deep-pcb* | features | 1 | 100 / 20 / 40 | 0.950 | **0.930** | 0.020 |" in lines
    assert "| deep-pcb* | SoftPatch | 1 | 100 / 20 / 40 | **0.960** | 0.900 | 0.060 |" in lines
    assert "| mvtec-pill | SoftPatch | 1 | 100 / 20 / 40 | **0.910** | 0.800 | 0.110 |" in lines
    assert "Mean of deep-pcb, mvtec-pill:" in lines
    assert "| SoftPatch | 0.935 | 0.850 | 0.085 |" in lines
    assert "| deep-pcb | features | 20 % | 0.930 | 0.800 | 0.050 | 7 of 20 / 2 of 80 | 1 of 1 |" in lines
    assert not any(line.startswith("| deep-pcb | SoftPatch | 20 %") for line in lines)
