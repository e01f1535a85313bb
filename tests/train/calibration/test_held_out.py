"""Figures of synthetic defects and of the folds, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edge_runtime.model.score import FusedRule, Limit, Term
from train.calibration.held_out import fold_shares, synthetic_figures

IS_VALUE = FusedRule(
    criteria=("value",),
    terms={"value": Term(weight=1.0, transform="linear")},
    limit=Limit(threshold=1.0, center=0.0),
)
"""The score is the one criterion as it is, anomalous above one."""


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def test_the_share_found_and_the_pairs_in_order_are_counted() -> None:
    figures = synthetic_figures(column(0.0, 0.2, 0.4, 1.5), column(0.3, 2.0, 3.0, 4.0), IS_VALUE, 0)
    assert figures["n"] == 4
    assert figures["found"] == pytest.approx(3 / 4)
    assert figures["auroc"] == pytest.approx(14 / 16)
    low, high = figures["interval"]
    assert low < figures["auroc"] <= high <= 1.0


def test_defects_that_score_as_good_images_do_have_an_interval_about_a_half() -> None:
    values = np.random.default_rng(0).normal(size=(2, 100, 1)).astype(np.float32)
    low, high = synthetic_figures(values[0], values[1], IS_VALUE, 0)["interval"]
    assert low < 0.5 < high


def test_the_folds_are_told_by_their_ends() -> None:
    above = np.array([True, False, False, False])
    folds = fold_shares(above, np.array([0, 0, 1, 1]), np.array([True, True, False]), np.array([0, 1, 1]))
    assert folds == {"n": 2, "above": [0.0, 0.5], "found": [0.5, 1.0]}


def test_a_fold_without_a_copy_leaves_the_spread_of_what_is_found_open() -> None:
    above, fold = np.array([True, False]), np.array([0, 1])
    assert fold_shares(above, fold, np.array([True]), np.array([1]))["found"] is None
