"""Synthetic defects: each kind changes what it marks, within the photograph, and one seed gives one defect."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from train.synthesis.defects import KINDS, SynthesisSettings, draw_defect
from train.synthesis.shapes import smooth_noise


def _grained(seed: int, shape: tuple[int, int] = (90, 120)) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    columns = rng.normal(110.0, 12.0, shape[1])
    return np.clip(columns + rng.normal(0.0, 4.0, shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_what_it_marks_more_than_the_rest(kind: str) -> None:
    grey = _grained(0)
    for seed in range(5):
        defect = draw_defect(grey, [_grained(1)], [kind], np.random.default_rng(seed), SynthesisSettings())
        changed = np.abs(defect.grey - grey)
        assert defect.grey.shape == grey.shape
        assert defect.grey.min() >= 0.0
        assert defect.grey.max() <= 255.0
        assert 4 <= defect.mask.sum() < 0.95 * defect.mask.size
        if defect.mask.mean() < 0.2:  # of a larger region the border alone is marked
            assert changed[defect.mask].mean() > 2.0 * changed[~defect.mask].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_one_defect(kind: str) -> None:
    grey = _grained(0)
    first, second = (
        draw_defect(grey, [_grained(1)], [kind], np.random.default_rng(3), SynthesisSettings()) for _ in range(2)
    )
    np.testing.assert_array_equal(first.grey, second.grey)
    np.testing.assert_array_equal(first.mask, second.mask)


@pytest.mark.parametrize("shape", [(16, 16), (20, 300), (300, 20)])
def test_small_and_narrow_photographs_get_defects_too(shape: tuple[int, int]) -> None:
    grey = _grained(0, shape)
    for seed, kind in enumerate(KINDS):
        defect = draw_defect(grey, [], [kind], np.random.default_rng(seed), SynthesisSettings())
        assert np.isfinite(defect.grey).all()


def test_ease_leaves_out_the_faintest() -> None:
    grey = np.full((64, 64), 128, dtype=np.uint8)

    def faintest(ease: float) -> float:
        rng = np.random.default_rng(0)
        found = [draw_defect(grey, [], ["shading"], rng, SynthesisSettings(faintest=0.01), ease) for _ in range(40)]
        return min(float(np.abs(defect.grey - grey).max()) for defect in found)

    assert faintest(1.0) >= faintest(0.0)


def test_smooth_noise_is_standardised() -> None:
    noise = smooth_noise((50, 70), 12.0, np.random.default_rng(0))
    assert abs(float(noise.mean())) < 1e-4
    assert abs(float(noise.std()) - 1.0) < 1e-3


def test_contrasts_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"contrasts are 0.5 to 0.2, expected 0 < faintest < strongest"):
        SynthesisSettings(faintest=0.5, strongest=0.2)
