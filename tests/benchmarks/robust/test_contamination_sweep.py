"""The tables of the contamination sweep, from results made up for the purpose."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.robust.contamination_sweep import markdown


def result(alpha: float, seed: int, flagged: int, auroc: float) -> dict[str, Any]:
    cell = {"bacc": 0.9, "tpr": 0.9, "fpr": 0.1, "auroc": auroc}
    return {
        "setting": "mnist-0-2",
        "alpha": alpha,
        "method": "robust",
        "key": {},
        "seed": seed,
        "cells": {"observed": cell, "unobserved": cell},
        "false_alarms": {"0.01": flagged},
        "n_normal_test": 1000,
        "command": "python somewhere.py",
    }


def photographs(n_mixed_in: int, rate: float, auroc: float = 0.9) -> dict[str, Any]:
    return {
        "job": "clean-robust-x1-seed0",
        "method": "robust",
        "condition": "clean",
        "bacc": 0.7,
        "auroc": {"all": auroc},
        "n_mixed_in": n_mixed_in,
        "n_train": 800,
        "n_test": {"all": 150, "hole": 50},
        "false_alarms": {"asked 0.01": rate},
    }


def test_cells_are_means_over_seeds() -> None:
    lines = list(markdown([result(0.0, 0, 5, 0.8), result(0.0, 1, 5, 0.9), result(0.05, 0, 5, 0.7)], []))
    assert "| robust | 2 | 0.900 / 0.900 (0.850 / 0.850) | 0.900 / 0.900 (0.700 / 0.700) |" in lines


@pytest.mark.parametrize(("flagged", "above"), [(10, False), (17, False), (18, True)])
def test_a_rate_beyond_the_binomial_interval_is_marked(flagged: int, above: bool) -> None:
    # 97.5 % of binomial(1000, 0.01) lie at or below 17.
    lines = list(markdown([result(0.0, 0, flagged, 0.8)], []))
    assert lines[-1].startswith(f"| MNIST 0 vs 2 | 0 % | 1% | {flagged / 1000:.2%} (1 x 1000) |")
    assert ("above" in lines[-1]) == above


def test_photographs_join_by_their_normal_test_images() -> None:
    (line,) = [line for line in markdown([], [photographs(40, 0.05)]) if line.startswith("| Magnetic")]
    assert line.startswith("| Magnetic tile | 5 % | 1% | 5.00% (1 x 100) |")
    assert "above" in line


def test_methods_on_photographs_stand_side_by_side_by_share() -> None:
    itsr = {**photographs(0, 0.0, 0.6), "method": "itsr"}
    lines = list(markdown([], [photographs(0, 0.0), photographs(0, 0.0, 0.8), photographs(40, 0.05, 0.7), itsr]))
    assert "| method | 0 % | 5 % |" in lines
    assert "| robust | 0.700 (0.850), 2 seeds | 0.700 (0.700) |" in lines
    assert any(line.endswith("| 0.700 (0.600) | - |") for line in lines)
