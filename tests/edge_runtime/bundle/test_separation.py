"""Thresholds between normal frames and known defects, by hand-made scores."""

from __future__ import annotations

import pytest

from edge_runtime.bundle.separation import Separation
from edge_runtime.errors import DataError


def test_where_one_threshold_parts_all_it_lies_in_the_midst_of_the_gap() -> None:
    threshold, found = Separation.between([0.0, 1.0, 0.5], [3.0, 2.0])
    assert threshold == 1.5
    assert found == Separation(normal=3, false_alarms=0, defects=2, caught=2)
    lines = found.lines()
    assert "between the normal frames and the defects" in lines[0]
    assert lines[1] == "known defects found: 2 of 2, TPR 100.0%, 34.2% to 100.0% (95 %)"  # Wilson: 2 / (2 + 1.96^2)
    assert lines[2] == "false alarms expected: 0 per 1,000 good frames, 0 to 561 (95 %), from 0 of 3"


def test_where_none_parts_all_the_balanced_accuracy_decides_and_not_the_numbers() -> None:
    # At 1.5 all ten defects are found for 1 of 4 normal ones; at 9.5 none is a false alarm, for half of the defects.
    threshold, found = Separation.between([0.0, 0.5, 1.0, 9.0], [2.0] * 5 + [10.0] * 5)
    assert threshold == 1.5
    assert (found.false_alarms, found.caught, found.parts_all) == (1, 10, False)
    assert "where the balanced accuracy is best" in found.lines()[0]


def test_of_equally_good_thresholds_the_widest_gap_is_taken() -> None:
    # Below 1 and above 2 each give 3 of 4 right; the wider gap is that from 2 to 8.
    assert Separation.between([0.0, 2.0], [1.0, 8.0])[0] == 5.0


def test_defects_that_the_bundle_does_not_see_are_refused() -> None:
    with pytest.raises(DataError, match="the bundle does not see these defects"):
        Separation.between([1.0, 2.0, 3.0], [0.0, 0.5])
    with pytest.raises(DataError, match="does not see"):
        Separation.between([1.0], [1.0])
    with pytest.raises(DataError, match="3 normal frames and 0 known defects"):
        Separation.between([1.0, 2.0, 3.0], [])
