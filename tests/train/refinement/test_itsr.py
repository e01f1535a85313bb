from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

import train.refinement.itsr
from edge_runtime.errors import ConfigError
from train.refinement.itsr import NEVER, ItsrSettings, Refinement


def codes_with_two_far_out(n: int = 100, seed: int = 0) -> NDArray[np.float32]:
    """(n, 2) codes in one cluster, but for images 3 and 7."""
    codes = np.random.default_rng(seed).normal(0.0, 0.3, (n, 2)).astype(np.float32)
    codes[3], codes[7] = (4.0, 4.0), (-4.0, 3.0)
    return codes


def refinement_with_candidates(rejected_in: list[int], settings: ItsrSettings | None = None) -> Refinement:
    rounds = np.array(rejected_in, dtype=np.int32)
    return Refinement(settings or ItsrSettings(), (rounds == NEVER).astype(np.float32), rounds)


def test_before_detection_every_image_weighs_one_and_none_is_a_candidate() -> None:
    refinement = Refinement.fresh(5, ItsrSettings())
    assert refinement.weights.tolist() == [1.0] * 5
    assert not refinement.candidates.any()
    assert refinement.error_cap == math.inf


def test_detection_gives_outliers_weight_zero_and_their_round() -> None:
    refinement = Refinement.fresh(100, ItsrSettings(nu=0.1))
    n_joined = refinement.detect(codes_with_two_far_out(), 4, seed=0)
    assert refinement.candidates[[3, 7]].all()
    assert n_joined == refinement.candidates.sum() <= 15
    assert (refinement.weights == np.where(refinement.candidates, 0.0, 1.0)).all()
    assert (refinement.rejected_in == np.where(refinement.candidates, 4, NEVER)).all()


def test_candidates_accumulate_keep_their_round_and_never_return() -> None:
    codes = codes_with_two_far_out()
    refinement = Refinement.fresh(100, ItsrSettings(nu=0.1))
    refinement.detect(codes, 1, seed=0)
    first = refinement.candidates.copy()
    codes[3] = codes[7] = 0.0  # now in the middle of the cluster
    codes[50] = (4.0, -4.0)
    n_joined = refinement.detect(codes, 2, seed=0)
    assert (refinement.rejected_in[first] == 1).all()
    assert (refinement.weights[first] == 0.0).all()
    assert refinement.rejected_in[50] == 2
    assert refinement.candidates.sum() == first.sum() + n_joined


def test_candidates_take_no_part_in_the_next_rounds_fit() -> None:
    codes = codes_with_two_far_out()
    with_them, without = codes.copy(), codes.copy()
    with_them[[3, 7]] = (1000.0, 1000.0)  # would set the kernel's width, were they fitted
    chosen = []
    for each in (with_them, without):
        refinement = refinement_with_candidates([1 if index in (3, 7) else NEVER for index in range(100)])
        refinement.detect(each, 2, seed=0)
        chosen.append(refinement.rejected_in.tolist())
    assert chosen[0] == chosen[1]


@pytest.mark.parametrize(
    ("nu", "n_images", "latent_dim"),
    [(0.02, 2000, 2), (0.1, 2000, 2), (0.02, 2000, 32), (0.02, 400, 2), (0.02, 400, 32)],
)
def test_each_round_rejects_about_nu_of_what_remains(nu: float, n_images: int, latent_dim: int) -> None:
    rng = np.random.default_rng(0)
    refinement = Refinement.fresh(n_images, ItsrSettings(nu=nu))
    shares = []
    for round_number in range(1, 6):
        remaining = int((~refinement.candidates).sum())
        codes = rng.standard_normal((n_images, latent_dim)).astype(np.float32)
        shares.append(refinement.detect(codes, round_number, seed=0) / remaining)
    assert 0.5 * nu < np.mean(shares) < 1.5 * nu, f"rejected {[f'{share:.3f}' for share in shares]} a round"


def test_codes_beyond_the_most_the_svm_is_fitted_on_are_still_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train.refinement.itsr, "SVM_MAX_FIT", 40)
    codes = codes_with_two_far_out(400)
    rejected = []
    for _ in range(2):
        refinement = Refinement.fresh(400, ItsrSettings(nu=0.05))
        refinement.detect(codes, 1, seed=5)
        assert refinement.candidates[[3, 7]].all()
        rejected.append(refinement.rejected_in.tolist())
    assert rejected[0] == rejected[1], "one seed draws the same codes to fit on"


def test_the_retrain_threshold_is_the_80th_percentile_of_the_candidates_errors() -> None:
    refinement = refinement_with_candidates([1, 1, 2, 2, 3, NEVER, NEVER])
    n_negative = refinement.start_retraining(np.array([1, 2, 3, 4, 5, 90, 0.1], dtype=np.float32))
    # Position 0.8 * 4 = 3.2 among 1, 2, 3, 4, 5; the image of error 90 is no candidate.
    assert refinement.retrain_threshold == pytest.approx(4.2)
    assert n_negative == 1


def test_retraining_weighs_candidates_above_the_threshold_negatively_the_others_zero_the_rest_one() -> None:
    refinement = refinement_with_candidates([1, 1, 2, 2, 3, NEVER, NEVER])
    refinement.start_retraining(np.array([1, 2, 3, 4, 5, 90, 0.1], dtype=np.float32))
    assert refinement.weights.tolist() == [0.0, 0.0, 0.0, 0.0, -0.5, 1.0, 1.0]


def test_retraining_follows_its_settings() -> None:
    settings = ItsrSettings(retrain_percentile=0.5, negative_weight=-2.0, error_cap=3.0)
    refinement = refinement_with_candidates([1, 1, 2, 2, 3, NEVER], settings)
    n_negative = refinement.start_retraining(np.array([1, 2, 3, 4, 5, 90], dtype=np.float32))
    assert n_negative == 2
    assert refinement.weights.tolist() == [0.0, 0.0, 0.0, -2.0, -2.0, 1.0]
    assert refinement.error_cap == pytest.approx(3.0 * 3.0)


def test_the_error_cap_is_twice_the_retrain_threshold() -> None:
    refinement = refinement_with_candidates([1, 1, 2, 2, 3, NEVER])
    refinement.start_retraining(np.array([1, 2, 3, 4, 5, 90], dtype=np.float32))
    assert refinement.error_cap == pytest.approx(2 * 4.2)


def test_without_candidates_retraining_changes_nothing() -> None:
    refinement = Refinement.fresh(4, ItsrSettings())
    assert refinement.start_retraining(np.array([1, 2, 3, 4], dtype=np.float32)) == 0
    assert refinement.weights.tolist() == [1.0] * 4
    assert refinement.error_cap == math.inf


def test_one_candidate_is_not_above_its_own_percentile() -> None:
    refinement = refinement_with_candidates([1, NEVER])
    assert refinement.start_retraining(np.array([7, 1], dtype=np.float32)) == 0
    assert refinement.weights.tolist() == [0.0, 1.0]


def test_a_verdict_names_round_error_and_threshold() -> None:
    refinement = refinement_with_candidates([NEVER, 1, 2, 2, 3, 10])
    refinement.start_retraining(np.array([0, 1, 2, 3, 4, 5.25], dtype=np.float32))
    kept, candidate, negative = (refinement.verdict(index) for index in (0, 2, 5))
    assert (kept.kept, kept.weight, kept.round, kept.reason) == (True, 1.0, NEVER, "")
    assert (candidate.kept, candidate.weight, candidate.round) == (False, 0.0, 2)
    assert candidate.reason == "outlier of the one-class SVM on latent codes in round 2"
    assert (negative.kept, negative.weight, negative.round) == (False, -0.5, 10)
    # Position 0.8 * 4 = 3.2 among 1, 2, 3, 4, 5.25: 4 + 0.2 * 1.25
    assert negative.reason == (
        "outlier of the one-class SVM on latent codes in round 10; error 5.25 above T_retrain 4.25"
    )


def test_the_state_survives_arrays() -> None:
    refinement = refinement_with_candidates([1, 1, 2, 2, 3, NEVER])
    refinement.start_retraining(np.array([1, 2, 3, 4, 5, 90], dtype=np.float32))
    again = Refinement.from_arrays(refinement.to_arrays(), refinement.settings)
    assert [again.verdict(index) for index in range(6)] == [refinement.verdict(index) for index in range(6)]
    assert again.error_cap == refinement.error_cap


def test_a_state_read_back_shares_no_memory_with_its_arrays() -> None:
    arrays = Refinement.fresh(100, ItsrSettings()).to_arrays()
    again = Refinement.from_arrays(arrays, ItsrSettings())
    again.detect(codes_with_two_far_out(), 1, seed=0)
    assert arrays["weights"].all()
    assert (arrays["rejected_in"] == NEVER).all()


def test_the_default_numbers_are_the_paper_s() -> None:
    settings = ItsrSettings()
    assert (settings.nu, settings.rounds, settings.retrain_percentile) == (0.02, 10, 0.8)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("nu", 0.0, r"nu is 0\.0, expected a share between 0 and 1"),
        ("nu", 1.0, r"nu is 1\.0, expected a share between 0 and 1"),
        ("nu", math.nan, r"nu is nan, expected a share between 0 and 1"),
        ("rounds", 0, r"refinement rounds are 0, expected at least 1"),
        ("retrain_percentile", 0.0, r"retrain percentile is 0\.0, expected between 0 and 1"),
        ("retrain_percentile", 1.0, r"retrain percentile is 1\.0, expected between 0 and 1"),
        ("retrain_percentile", 80, r"retrain percentile is 80, expected between 0 and 1"),
        ("negative_weight", 0.0, r"negative weight is 0\.0, expected below 0"),
        ("negative_weight", 0.5, r"negative weight is 0\.5, expected below 0"),
        ("error_cap", 0.99, r"error cap is 0\.99 times T_retrain, expected at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(name: str, value: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ItsrSettings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("negative_weight", math.nan),
        ("negative_weight", -math.inf),
        ("error_cap", math.nan),
        ("error_cap", math.inf),
    ],
)
def test_numbers_that_are_not_finite_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name.replace("_", " ")):
        ItsrSettings(**{name: value})  # type: ignore[arg-type]
