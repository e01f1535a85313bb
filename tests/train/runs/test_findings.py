"""What a run says of the groups that it kept together."""

from __future__ import annotations

import numpy as np

from train.data.grouping import Groups
from train.learning.strategy import HeldOut
from train.runs.findings import groups_told

FOLD = np.zeros(20, dtype=np.int64)


def test_groups_that_training_put_together_are_counted() -> None:
    groups = Groups.alone(20, "auto")
    assert groups_told(groups, None) == groups_told(groups, HeldOut(fold=FOLD)) == {"by": "auto", "n": 20}
    assert groups_told(groups, HeldOut(fold=FOLD, n_groups=7)) == {"by": "auto", "n": 7}


def test_groups_that_folds_could_not_keep_are_still_said_to_be_so() -> None:
    torn = Groups.by_key("auto", [0] * 16 + [1, 1, 2, 2]).for_folds(3)
    assert groups_told(torn, HeldOut(fold=FOLD, n_groups=20)) == {"by": "auto", "n": 3, "folds": "by image"}
