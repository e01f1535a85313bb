"""Thresholds made on site, false-alarm rates from kept scores, and drift."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle.frame_view import View
from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores
from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path, trimmed
from edge_runtime.errors import BundleError, ConfigError, DataError
from edge_runtime.scoring.detector import Detector
from edge_runtime.watching.drift import DriftWatch


def made(scores: Any, target_fpr: float = 0.05, **changes: Any) -> SiteCalibration:
    facts = {"model": "ab", "source": "camera:0", "precision": "fp32", "backend": "onnxruntime-cpu"}
    return SiteCalibration.of(list(scores), target_fpr, **(facts | changes))


@pytest.fixture
def own_bundle(bundle_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(bundle_file, tmp_path / "model.aae"))


@pytest.mark.parametrize("target_fpr", [0.01, 0.05, 0.2])
def test_the_asked_rate_is_held_on_new_frames(target_fpr: float) -> None:
    rng = np.random.default_rng(0)
    rates = [(rng.normal(size=2000) > made(rng.normal(size=400), target_fpr).threshold).mean() for _ in range(100)]
    assert np.mean(rates) == pytest.approx(target_fpr, rel=0.25)
    assert np.mean(rates) < 1.1 * target_fpr


def test_anomalies_among_the_frames_are_left_out() -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(size=500)
    found = made([*clean, *np.full(25, 40.0)], 0.01)
    assert found.trimmed == 25
    assert found.threshold == made(clean, 0.01).threshold
    assert (found.frames, found.score_quantiles[-1]) == (525, clean.max())


def test_scores_that_do_not_vary_are_all_kept() -> None:
    assert len(trimmed(np.ones(60))) == 60
    assert len(trimmed(np.array([]))) == 0


def test_too_few_frames_and_rates_that_are_none_are_refused() -> None:
    with pytest.raises(DataError, match=r"a rate of 0\.1 % needs 999 or more"):
        made(range(500), 0.001, strict=True)
    for strict in (False, True):
        with pytest.raises(DataError, match="needs 20 or more"):
            made(range(19), 0.1, strict=strict)
    for rate in (0.0, 0.5, 2.0):
        with pytest.raises(ConfigError, match=r"above 0 and below 0\.5"):
            made(range(500), rate)


def test_few_frames_are_set_for_what_they_can_show_and_it_is_said() -> None:
    rng = np.random.default_rng(4)
    calibrations = [made(rng.normal(size=30), 0.01) for _ in range(400)]
    found = next(one for one in calibrations if not one.trimmed)
    assert found.threshold == found.score_quantiles[-1]
    assert found.stated_fpr == pytest.approx(1 / 31)
    told = "30 frames cannot show 1 %; set for about 3.2 % false alarms, 90 % interval 0.17 % to 9.5 %; 99 frames can"
    assert found.rate_line() == told
    rates = [(rng.normal(size=2000) > one.threshold).mean() for one in calibrations]
    assert np.mean(rates) == pytest.approx(1 / 31, rel=0.25)
    within = [one.realised_fpr[0] < rate < one.realised_fpr[1] for one, rate in zip(calibrations, rates, strict=True)]
    assert np.mean(within) == pytest.approx(0.9, abs=0.05)
    enough = made(np.arange(500.0), 0.01)
    assert enough.stated_fpr == 0.01
    assert enough.rate_line() == "set for 1 % false alarms by 500 frames, 90 % interval 0.39 % to 1.8 %"


def test_a_threshold_that_a_person_chose_stays_and_keeps_the_scores_so_far(own_bundle: Path) -> None:
    digest = Detector.load(own_bundle).bundle.digest
    SiteCalibration.chosen(1.7, model=digest, before=None).save(own_bundle)
    alone = Detector.load(own_bundle)
    assert (alone.decision.threshold, alone.usual) == (1.7, None)
    assert "threshold 1.7, chosen by a person" in str(SiteCalibration.beside(own_bundle))
    frames = made(np.linspace(0, 2, 201), model=digest)
    SiteCalibration.chosen(1.8, model=digest, before=frames).save(own_bundle)
    detector = Detector.load(own_bundle)
    assert (detector.decision.threshold, detector.usual) == (1.8, KeptScores(frames.score_quantiles, 201))
    other = SiteCalibration.chosen(1.9, model=digest, before=frames, view=View(roi=(0, 0, 8, 8)))
    assert (other.kept, other.rate_line()) == (None, None)
    with pytest.raises(ConfigError, match="expected a finite number"):
        SiteCalibration.chosen(float("nan"), model=digest, before=None)


def test_a_threshold_between_frames_and_known_defects_comes_back(own_bundle: Path) -> None:
    frames = made(np.linspace(0, 1, 60), model="ab")
    found = frames.parted(np.linspace(0, 1, 60).tolist(), [2.0, 3.0])
    assert (found.threshold, found.rate_line(), found.kept) == (1.5, None, KeptScores(frames.score_quantiles, 60))
    found.save(own_bundle)
    assert SiteCalibration.beside(own_bundle) == found
    assert "2 of 2 known defects above it" in str(found)


def test_a_calibration_of_before_is_read(own_bundle: Path) -> None:
    found = made(np.linspace(0, 1, 100))
    found.save(own_bundle)
    values = json.loads(overlay_path(own_bundle).read_text())
    for later in ("basis", "stated_fpr", "realised_fpr", "separation"):
        del values[later]
    overlay_path(own_bundle).write_text(json.dumps(values))
    before = SiteCalibration.beside(own_bundle)
    assert before is not None
    assert (before.threshold, before.kept, before.rate_line()) == (found.threshold, found.kept, None)
    assert f"for 0.05 false alarms, from 100 frames of camera:0, 0 left out, {found.created}" in str(before)
    overlay_path(own_bundle).write_text(json.dumps({**values, "basis": "other"}))
    with pytest.raises(BundleError, match="calibrate again"):
        SiteCalibration.beside(own_bundle)


def test_a_calibration_lies_beside_its_bundle_which_stays_as_it_is(own_bundle: Path) -> None:
    before = own_bundle.read_bytes()
    plain = Detector.load(own_bundle)
    found = made(np.linspace(0, 2, 201), model=plain.bundle.digest)
    assert found.save(own_bundle) == own_bundle.with_name("model.aae.calibration.json")
    assert own_bundle.read_bytes() == before
    assert SiteCalibration.beside(own_bundle) == found
    detector = Detector.load(own_bundle)
    assert detector.decision.threshold == found.threshold
    assert detector.usual == found.kept
    assert Detector.load(own_bundle, threshold=7.0).decision.threshold == 7.0
    assert Detector.load(own_bundle, target_fpr=0.5).decision.threshold == pytest.approx(1.0, abs=0.02)
    with pytest.raises(ConfigError, match="both given"):
        Detector.load(own_bundle, threshold=7.0, target_fpr=0.5)


def test_one_of_another_bundle_is_said_and_not_used(own_bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    made(range(100)).save(own_bundle)
    assert Detector.load(own_bundle).decision.threshold == 1.0
    assert "is of another bundle and is not used" in caplog.text


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"schema": 9}', '{"schema": 1, "threshold": 1.0}'])
def test_one_that_cannot_be_read_is_an_error_with_a_remedy(own_bundle: Path, text: str) -> None:
    overlay_path(own_bundle).write_text(text)
    with pytest.raises(BundleError, match="edge-aae calibrate --undo"):
        Detector.load(own_bundle)


def test_a_bundle_that_keeps_no_scores_has_no_threshold_at_a_rate(own_bundle: Path) -> None:
    assert Detector.load(own_bundle).usual is None
    with pytest.raises(ConfigError, match="keeps no distribution"):
        Detector.load(own_bundle, target_fpr=0.05)


def usual() -> KeptScores:
    return KeptScores(tuple(np.quantile(np.random.default_rng(2).normal(size=20_000), SCORE_QUANTILES)), 20_000)


def test_scores_as_usual_are_no_drift_and_shifted_ones_are() -> None:
    rng = np.random.default_rng(3)
    watch = DriftWatch(usual(), 500)
    windows = [window for score in rng.normal(size=100_000) if (window := watch.add(score))]
    assert len(windows) == 200
    assert not any(window.drifted for window in windows)
    shifted = [window for score in rng.normal(0.4, size=5000) if (window := watch.add(score))]
    assert all(window.drifted for window in shifted)
    assert shifted[0].median > shifted[0].usual_median + 0.2
    assert re.search(r"last 500 scores are not as .* `edge-aae calibrate` with frames of now", str(shifted[0]))
    assert re.search(r"last 500 scores are as the calibration's again: median -?0\.", str(windows[0]))
    wider = [window for score in rng.normal(0, 2.0, size=5000) if (window := watch.add(score))]
    assert all(window.drifted for window in wider)  # the same median, another spread


@pytest.mark.parametrize(
    ("n", "window", "rate", "decimals"),
    [(500, 1000, 1e-4, 15), (60, 60, 0.02, 15), (200, 2000, 0.02, 15), (200, 500, 0.02, 1)],
)
def test_undisturbed_windows_are_called_drifted_no_more_often_than_promised(
    n: int, window: int, rate: float, decimals: int
) -> None:
    rng = np.random.default_rng(7)
    n_trials, drifted = 1500, 0
    for _ in range(n_trials):
        calibrating, scores = rng.normal(size=n).round(decimals), rng.normal(size=window).round(decimals)
        watch = DriftWatch(made(calibrating).kept, window, false_alarm_rate=rate)
        *_, ended = map(watch.add, scores)
        assert ended is not None
        drifted += ended.drifted
    assert drifted <= n_trials * rate + 3.0 * np.sqrt(n_trials * rate)


@pytest.mark.parametrize("n", [50, 199, 201, 999])
def test_the_distance_is_that_of_all_scores_less_what_quantiles_leave_out(n: int) -> None:
    rng = np.random.default_rng(n)
    calibrating, scores = rng.normal(size=n), rng.normal(0.3, 1.2, size=80)
    watch = DriftWatch(made(calibrating).kept, 80)
    *_, ended = map(watch.add, scores)
    assert ended is not None
    everything = np.concatenate((calibrating, scores))
    shares = [
        np.searchsorted(np.sort(sample), everything, side="right") / len(sample) for sample in (calibrating, scores)
    ]
    whole = np.abs(shares[0] - shares[1]).max()
    assert whole - 1 / 200 - 2 / n <= ended.distance <= whole + 1e-12
    assert ended.limit == pytest.approx(np.sqrt(np.log(np.e / 1e-4) / 2 * (1 / 80 + 1 / n)))


def test_a_window_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match="50 or more"):
        DriftWatch(usual(), 10)


def test_a_saved_calibration_is_plain_json(own_bundle: Path) -> None:
    found = made(np.linspace(0, 1, 100))
    found.save(own_bundle)
    values = json.loads(overlay_path(own_bundle).read_text())
    assert (values["schema"], values["threshold"], len(values["score_quantiles"])) == (1, found.threshold, 201)
