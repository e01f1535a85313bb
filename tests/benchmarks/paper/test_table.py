"""The paper's table: its protocol, what counts as finished, and what is written."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.paper import table as paper_table
from benchmarks.paper.jobs import Job, Results, job_of
from benchmarks.paper.protocol import ALPHAS, PAIRS, PUBLISHED, Setting, evaluate, settings_named
from benchmarks.paper.report import write_results
from benchmarks.paper.schedule import cost_of, paper_settings
from edge_runtime.errors import DataError

BOOT = Setting(pair=PAIRS[1], alpha=0.05)


def test_nine_settings_have_published_figures_for_every_method() -> None:
    settings = settings_named("all")
    assert len(settings) == len(PAIRS) * len(ALPHAS) == 9
    assert all(setting.published(method) for setting in settings for method in PUBLISHED)
    assert settings_named("fashion-0-2:0.05")[0].published("itsr") == (0.84, 0.76)


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DataError, match=r"no setting 'mnist-1-7'; expected .* mnist-0-2"):
        settings_named("mnist-1-7")


def test_observed_and_unobserved_share_the_normal_images() -> None:
    labels = np.array([0, 0, 0, 0, 9, 9, 1, 2, 3, 4])
    flagged = np.array([1, 0, 0, 0, 1, 0, 1, 1, 1, 0], dtype=bool)
    scores = np.arange(10.0)
    cells = evaluate(BOOT, scores, flagged, labels)
    assert cells["observed"] == {"bacc": (0.5 + 0.75) / 2, "tpr": 0.5, "fpr": 0.25, "auroc": 1.0}
    assert cells["unobserved"] == {"bacc": (0.75 + 0.75) / 2, "tpr": 0.75, "fpr": 0.25, "auroc": 1.0}


def test_the_published_schedules() -> None:
    epochs = {
        (setting.pair.folder, method): paper_settings(setting, method, 0, scale=1.0, cap=None).schedule
        for setting in settings_named("all")
        for method in PUBLISHED
    }
    assert epochs["mnist", "ae"].train == 4000
    assert epochs["fashion-mnist", "ae"].train == 10_000
    assert {epochs[folder, "aae"].train for folder in ("mnist", "fashion-mnist")} == {1000}
    mnist, fashion = epochs["mnist", "itsr"], epochs["fashion-mnist", "itsr"]
    assert (mnist.train, mnist.refine, mnist.retrain) == (500, 100, 1000)
    assert (fashion.train, fashion.refine, fashion.retrain) == (500, 100, 500)


def test_the_cap_holds_after_scaling() -> None:
    schedule = paper_settings(BOOT, "ae", 0, scale=0.01, cap=6).schedule
    assert schedule.train == 6


def test_the_cost_counts_steps_and_products() -> None:
    cost = cost_of(paper_settings(BOOT, "ae", 0, scale=1.0, cap=None), BOOT)
    assert cost.steps == round(10_000 * 6000 / 0.95 / 128)
    assert cost.flops == pytest.approx(cost.steps * 128 * 6 * 2 * (784_000 + 1_000_000 + 32_000))


def test_a_result_counts_until_its_schedule_changes(tmp_path: Path) -> None:
    results = Results(tmp_path / "work", [])
    job = _job("itsr", scale=0.01)
    assert results.get(job) is None
    results.add(job, _result(job, 0.9))
    assert results.get(job) is not None
    assert results.get(_job("itsr", scale=0.02)) is None


def test_a_result_of_an_earlier_table_counts_too(tmp_path: Path) -> None:
    job = _job("hog-ppca-10")
    assert Results(tmp_path, [_result(job, 0.9)]).get(job) is not None


def test_the_table_shows_mean_spread_published_and_what_falls_short(tmp_path: Path) -> None:
    itsr = [_job("itsr", seed=seed, scale=0.01) for seed in range(2)]
    results = [_result(itsr[0], 0.90), _result(itsr[1], 0.94), _result(_job("hog-ppca-10"), 0.96)]
    write_results(tmp_path, results)
    page = (tmp_path / "paper.md").read_text()
    assert "| T-shirt vs Boot | 5 % | observed | 0.920 ± 0.028 [0.93] | 0.960 |" in page
    assert "SHORT: 0.01 of the published epochs" in page
    assert "**A short schedule is not the paper's" in page
    assert "| ITSR | 1 of 2 | 0 of 2 | T-shirt vs Boot 5 % observed (-0.010) |" in page
    assert json.loads((tmp_path / "paper.json").read_text())["results"] == results


def test_methods_that_are_not_asked_for_stay_in_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, work = tmp_path / "out", tmp_path / "work"
    kept, asked = _job("itsr", scale=0.01), _job("isolation-forest")
    write_results(out, [_result(kept, 0.9), _result(asked, 0.5)])
    Results(work, []).add(asked, _result(asked, 0.7))
    command = f"--report-only --methods isolation-forest --settings fashion-0-9:0.05 --out {out} --work {work}"
    monkeypatch.setattr(sys, "argv", ["table.py", *command.split()])
    assert paper_table.main() == 0
    results = json.loads((out / "paper.json").read_text())["results"]
    assert {result["method"]: result["cells"]["observed"]["bacc"] for result in results} == {
        "itsr": 0.9,
        "isolation-forest": 0.7,
    }


def test_an_unknown_method_is_an_error_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["table.py", "--methods", "magic"])
    assert paper_table.main() == 1
    assert "no magic here; expected all, or some of ae, aae, itsr" in capsys.readouterr().err


def _job(method: str, *, seed: int = 0, scale: float = 1.0) -> Job:
    return job_of(BOOT, method, seed, scale=scale, cap=None)


def _result(job: Job, bacc: float) -> dict[str, Any]:
    cell = {"bacc": bacc, "tpr": bacc, "fpr": 1 - bacc, "auroc": bacc}
    return {
        "setting": job.setting.pair.name,
        "alpha": job.setting.alpha,
        "method": job.method,
        "seed": job.seed,
        "key": job.key,
        "cells": {"observed": cell, "unobserved": cell},
        "seconds": 1.0,
        "device": "cpu",
        "threads": 1,
        "versions": {"torch": "2"},
        "command": "python benchmarks/paper/table.py",
    }
