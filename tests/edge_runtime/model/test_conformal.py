"""The interval of a realised rate, against scipy's beta distribution, which devices lack."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edge_runtime.model.conformal import conformal_rank, rate_interval


@pytest.mark.parametrize("n", [1, 2, 20, 30, 99, 500, 20_000])
@pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 0.5])
def test_the_interval_is_that_of_the_beta_distribution(n: int, rate: float) -> None:
    rank = min(conformal_rank(n, rate), n)
    assert rate_interval(n, rank) == pytest.approx(stats.beta.interval(0.9, n + 1 - rank, rank), rel=1e-7)


def test_nine_of_ten_realised_rates_lie_in_it() -> None:
    rng = np.random.default_rng(0)
    low, high = rate_interval(30, 30)
    # The share above the highest of 30 uniform scores is 1 less that score.
    realised = 1.0 - rng.uniform(size=(4000, 30)).max(axis=1)
    assert ((low < realised) & (realised < high)).mean() == pytest.approx(0.9, abs=0.015)
