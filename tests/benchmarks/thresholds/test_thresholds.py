"""The table of thresholds: who is trained on and tested, and what the page says of finished cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.industrial.photographs import PhotographSet
from benchmarks.thresholds.real_sets import REGIMES, _split
from benchmarks.thresholds.report import markdown


@pytest.fixture
def parts() -> PhotographSet:
    def files(folder: str, n: int) -> tuple[Path, ...]:
        return tuple(Path(folder) / f"{index:03d}.png" for index in range(n))

    return PhotographSet(
        name="parts",
        train=files("train/good", 100),
        good=files("test/good", 20),
        defects={"bent": files("test/bent", 15), "cut": files("test/cut", 15)},
    )


def test_what_is_mixed_in_is_tested_in_no_regime(parts: PhotographSet) -> None:
    splits = {regime.name: _split(parts, regime, seed=3) for regime in REGIMES}
    counts = {name: (len(split.train), len(split.mixed_in)) for name, split in splits.items()}
    assert counts == {"all": (100, 0), "all, 5 %": (95, 5), "30": (30, 0), "30, 5 %": (28, 2)}
    tested = [{file for files in split.defects.values() for file in files} for split in splits.values()]
    assert all(other == tested[0] for other in tested)
    assert len(tested[0]) == 25
    assert not tested[0] & set(splits["all, 5 %"].mixed_in)
    assert set(splits["30, 5 %"].mixed_in) < set(splits["all, 5 %"].mixed_in)
    assert _split(parts, REGIMES[2], seed=4).train != splits["30"].train


def cell(*, false_alarms: int, tpr: float, name: str = "parts") -> dict[str, Any]:
    fpr = false_alarms / 20
    tried = {
        "asked": None,
        "stands_for": 0.05,
        "expected": 0.05,
        "interval": [0.01, 0.1],
        "false_alarms": false_alarms,
        "fpr": fpr,
        "tpr": tpr,
        "bacc": (1.0 - fpr + tpr) / 2.0,
    }
    about = {"regime": "all", "seed": 0, "cpu": "a processor", "auroc": 0.95, "best": 0.975}
    counts = {"n_train": 100, "n_mixed": 0, "n_good": 20, "n_bad": 30}
    return {"set": name, **about, **counts, "rules": {"balanced": tried}}


def test_the_page_says_what_a_rule_loses_and_whether_it_keeps_its_word() -> None:
    page = "\n".join(markdown([cell(false_alarms=1, tpr=0.95), cell(false_alarms=9, tpr=1.0)], "the command"))
    assert "    the command" in page
    assert "| balanced | all | 0.250 | 0.975 | 0.112 / 0.200 (2) | 1 of 2 | 1 of 2 |" in page
    assert "| parts | all | 2 | 100, 0 | 0.950 | 0.050 | 0.010 to 0.100 | 0.250 of 40 | 0.975 ± 0.035 |" in page


def test_another_session_does_not_count_for_the_rules() -> None:
    page = "\n".join(markdown([cell(false_alarms=1, tpr=0.95), cell(false_alarms=9, tpr=1.0, name="elpv-mono")], "x"))
    assert "| balanced | all | 0.050 | 0.950 | 0.025 / 0.025 (1) | 1 of 1 | 1 of 1 |" in page
    assert "| elpv-mono* | all | 1 |" in page
