"""The share of anomalies among unlabelled scores: simulated sets whose truth is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from train.calibration.contamination import estimate_contamination


def simulated(share: float, seed: int, n: int = 2000) -> NDArray[np.float64]:
    """Normal images' scores around 0 and anomalies' around 5, in random order."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0.0, 1.0, n)
    scores[: round(share * n)] += 5.0
    return rng.permutation(scores)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_the_interval_holds_the_true_share(share: float, seed: int) -> None:
    found = estimate_contamination(simulated(share, seed), seed)
    assert found.low <= share <= found.high
    assert found.low <= found.share <= found.high


def test_the_readings_grow_with_the_true_share() -> None:
    found = [estimate_contamination(simulated(share, 0), 0) for share in (0.02, 0.05, 0.1)]
    assert [reading.share for reading in found] == sorted(reading.share for reading in found)
    assert [reading.high for reading in found] == sorted(reading.high for reading in found)


@pytest.mark.parametrize("seed", range(3))
def test_normal_images_with_an_exponential_tail_stand_out_of_nothing(seed: int) -> None:
    scores = np.random.default_rng(seed).exponential(1.0, 2000)
    found = estimate_contamination(scores, seed)
    assert found.share < 0.02
    assert found.low < 0.01


def test_symmetric_normal_images_are_explained_by_their_lower_half() -> None:
    found = estimate_contamination(simulated(0.0, 0), 0)
    assert found.share < 0.01
    # What resampling 2000 images leaves: two standard errors of a share near one half, 2 * 0.5 / sqrt(2000).
    assert found.high < 0.05


def test_the_same_seed_gives_the_same_interval() -> None:
    scores = simulated(0.05, 1)
    assert estimate_contamination(scores, 3) == estimate_contamination(scores, 3)


def test_scale_and_place_of_the_scores_do_not_matter() -> None:
    scores = simulated(0.05, 1)
    one, other = estimate_contamination(scores, 3), estimate_contamination(64.0 * scores + 512.0, 3)
    for name in ("share", "low", "high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), abs=2e-3)


@pytest.mark.parametrize(
    "scores",
    [
        pytest.param(np.full(100, 3.0), id="constant"),
        pytest.param(np.array([1.0]), id="one image"),
        pytest.param(np.array([1.0, 2.0]), id="two images"),
        pytest.param(np.arange(5.0), id="five images"),
        pytest.param(np.repeat([0.0, 1.0], [90, 10]), id="two values"),
        pytest.param(np.repeat([0.0, 1.0], [10, 90]), id="two values, most of them high"),
        pytest.param(np.arange(1000.0), id="evenly spread"),
        pytest.param(np.arange(1000.0) ** 0.25, id="no tail at all"),
        pytest.param(np.concatenate([np.zeros(60), np.full(40, 1e-300)]), id="hardly apart"),
        pytest.param(np.concatenate([np.arange(100.0), [1e12]]), id="one far away"),
    ],
)
def test_strange_scores_give_shares_between_none_and_all(scores: NDArray[np.float64]) -> None:
    found = estimate_contamination(scores, 0)
    assert 0.0 <= found.low <= found.share <= found.high <= 1.0
    assert all(math.isfinite(value) for value in (found.low, found.share, found.high))


def test_constant_scores_show_no_anomaly() -> None:
    found = estimate_contamination(np.full(50, 2.0), 0)
    assert (found.share, found.low, found.high) == (0.0, 0.0, 0.0)


def test_the_shares_are_plain_json() -> None:
    found = estimate_contamination(simulated(0.05, 0), 0).to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"share", "low", "high"}
