"""The baselines' own arithmetic, by hand and on made-up images."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.paper.baselines import BASELINES, Baseline, adapt_threshold, hog, missing, trimmed_ppca


def test_a_ramp_fills_the_bin_of_its_direction() -> None:
    image = np.tile(np.arange(14, dtype=np.uint8) * 10, (14, 1))  # rises along x: angle 0, slope 10 / 255
    histograms = hog(image[None]).reshape(2, 2, 8)
    np.testing.assert_allclose(histograms[..., 0], np.sqrt(49 * 10 / 255))
    np.testing.assert_allclose(histograms[..., 1:], 0.0)


def test_opposite_directions_are_told_apart() -> None:
    image = np.tile(np.arange(14, dtype=np.uint8)[::-1] * 10, (14, 1))
    histograms = hog(image[None]).reshape(2, 2, 8)
    np.testing.assert_allclose(histograms[..., 4], np.sqrt(49 * 10 / 255), rtol=1e-6)


def test_a_direction_between_two_bins_is_shared() -> None:
    rise = np.tan(np.pi / 8)  # 22.5 degrees, halfway between bins of 0 and 45
    image = 10 * np.arange(14)[None, :] + np.round(10 * rise * np.arange(14))[:, None]
    histograms = hog(np.clip(image, 0, 255).astype(np.uint8)[None]) ** 2
    cell = histograms.reshape(2, 2, 8).sum(axis=(0, 1))
    assert cell[0] == pytest.approx(cell[1], rel=0.1)
    np.testing.assert_allclose(cell[2:], 0.0, atol=1e-9)


def test_adapt_threshold_by_hand() -> None:
    # Logs 0 to 100: median 50, 16 % quantile 16, so the threshold's log is 50 + 2 * 34.
    assert np.log(adapt_threshold(np.exp(np.arange(101.0)))) == pytest.approx(118.0)


def test_ppca_without_trim_is_the_mahalanobis_distance_where_noise_is_isotropic() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((20_000, 3)) * (3.0, 1.0, 1.0)
    distances, _ = trimmed_ppca(rows, rows[:1], trim=0.0, rounds=0, k=1)
    expected = (rows / (3.0, 1.0, 1.0)) ** 2
    np.testing.assert_allclose(distances, expected.sum(axis=1), rtol=0.1, atol=0.1)


def test_trimming_finds_what_hides_in_the_covariance() -> None:
    rng = np.random.default_rng(0)
    normal = rng.standard_normal((900, 10))
    odd = rng.standard_normal((100, 10))
    odd[:, 0] += rng.choice((-8.0, 8.0), 100)
    train = np.concatenate((normal, odd))
    blind, _ = trimmed_ppca(train, train[:1], trim=0.2, rounds=0, k=3)
    trimmed, _ = trimmed_ppca(train, train[:1], trim=0.2, rounds=5, k=3)
    assert np.median(trimmed[900:]) > np.quantile(trimmed[:900], 0.99)
    assert np.median(blind[900:]) < np.quantile(blind[:900], 0.99)


@pytest.mark.parametrize("name", ["hog-ppca-10", "hog-ppca-25", "isolation-forest", "one-class-svm"])
def test_every_baseline_ranks_noise_above_what_it_was_trained_on(name: str) -> None:
    rng = np.random.default_rng(0)
    train = _bars(rng, 200)
    test = np.concatenate((_bars(rng, 20), rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)))
    scored = BASELINES[name].run(train, test, 0)
    assert scored.scores[20:].min() > scored.scores[:20].max()
    assert (scored.scores[20:] > scored.threshold).all()


def test_a_missing_library_is_named_with_its_extra() -> None:
    absent = Baseline("Some peer", lambda train, test, seed: pytest.fail("not run"), package="no_such_library")
    assert missing(absent) == 'Some peer needs no_such_library: pip install "edge-aae[benchmarks]"'


def _bars(rng: np.random.Generator, n: int) -> np.ndarray:
    images = rng.integers(0, 20, (n, 28, 28), dtype=np.uint8)
    for image, top in zip(images, rng.integers(8, 14, n), strict=True):
        image[top : top + 7, 4:24] = rng.integers(180, 256)
    return images
