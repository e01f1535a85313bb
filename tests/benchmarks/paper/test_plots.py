"""The figures of the paper: their numbers by hand, and that every drawing is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.paper.plots import (
    ErrorEpoch,
    RefinementStage,
    plot_bars_and_boxes,
    plot_error_distributions,
    plot_latent_stages,
    plot_union,
)
from benchmarks.paper.protocol import PAIRS, Setting

PNG = b"\x89PNG"


@pytest.fixture
def stages() -> list[RefinementStage]:
    rng = np.random.default_rng(0)
    anomalous = np.arange(40) >= 36
    return [
        RefinementStage(phase, rng.standard_normal((40, 2)), rng.random(40) + 1.0, anomalous, np.arange(40) % 5 == 4)
        for phase in ("pretrain", "retrain")
    ]


def test_rates_at_the_p90_of_all_errors() -> None:
    # T lies at 9.9 of 0, 1, ..., 11: one of two anomalies and one of ten normal images are above it.
    entry = ErrorEpoch(1, np.arange(12.0), np.isin(np.arange(12), (3, 11)))
    assert entry.threshold == pytest.approx(9.9)
    assert (entry.tpr, entry.tnr) == (0.5, 0.9)


def test_every_figure_is_drawn(tmp_path: Path, stages: list[RefinementStage]) -> None:
    rng = np.random.default_rng(0)
    anomalous = np.arange(50) >= 45
    history = [ErrorEpoch(epoch, rng.random(50) + anomalous, anomalous) for epoch in (1, 2, 5)]
    plot_error_distributions(tmp_path / "1.png", history, [1, 5], "title")
    plot_union(tmp_path / "3.png", rng.random((50, 2)), anomalous, [0.9, 0.9], {"union": 0.8}, "note")
    plot_latent_stages(tmp_path / "4.png", stages, "title")
    setting = Setting(pair=PAIRS[0], alpha=0.05)
    bars = {
        (setting.name, side, method): values
        for side in ("observed", "unobserved")
        for method, values in (("ae", []), ("aae", [0.8]), ("itsr", [0.9, 0.92]))
    }
    other = Setting(pair=PAIRS[1], alpha=0.05)
    bars |= {(other.name, side, method): [] for side in ("observed", "unobserved") for method in ("ae", "aae", "itsr")}
    boxes = dict.fromkeys((setting.name, other.name), (stages[0], stages[1]))
    plot_bars_and_boxes(tmp_path / "5.png", (setting, other), bars, boxes, "note")
    for number in (1, 3, 4, 5):
        assert (tmp_path / f"{number}.png").read_bytes()[:4] == PNG
