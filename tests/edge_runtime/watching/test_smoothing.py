"""Smoothing against hand-worked numbers."""

from __future__ import annotations

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.watching.smoothing import smoothing_from


@pytest.mark.parametrize(
    ("kind", "scores", "expected"),
    [
        ("none", [1, 5, 2], [1, 5, 2]),
        # 1; 1 + .5 * 4; 3 + .5 * -1
        ("ema:0.5", [1, 5, 2], [1, 3, 2.5]),
        ("median:3", [1, 9, 2, 2, 8], [1, 5, 2, 2, 2]),
        ("median:1", [4, 3], [4, 3]),
    ],
)
def test_smoothed(kind: str, scores: list[float], expected: list[float]) -> None:
    smooth = smoothing_from(kind)
    assert [smooth(score) for score in scores] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["", "mean:3", "ema", "ema:0", "ema:1.5", "ema:x", "median:0", "median:1.5", "none:1"])
def test_what_is_not_known_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="--smooth is"):
        smoothing_from(kind)
