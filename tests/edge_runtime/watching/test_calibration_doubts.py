"""What the frames of a calibration give to doubt, and that frames which look as they should give nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.golden import Golden
from edge_runtime.bundle.kept_scores import SCORE_QUANTILES
from edge_runtime.scoring.detector import Detector
from edge_runtime.watching.calibration_doubts import CalibratingFrame, doubts


@pytest.fixture
def unsure(bundle_file: Path) -> Detector:
    return Detector.load(bundle_file, threads=1)


def frames(scores: NDArray[np.float64]) -> list[CalibratingFrame]:
    return [
        CalibratingFrame(name=f"{index}.png", score=float(score), criteria=(float(score), 0.0))
        for index, score in enumerate(scores)
    ]


@pytest.mark.parametrize("tail", ["normal", "gumbel", "logistic"])
def test_frames_that_look_as_they_should_give_nothing(unsure: Detector, tail: str) -> None:
    for seed in range(5):
        scores = getattr(np.random.default_rng(seed), tail)(size=500)
        assert doubts(frames(scores), 0.01, unsure) == []


def test_constant_scores_and_pictures_that_repeat_are_said(unsure: Detector) -> None:
    (constant,) = doubts(frames(np.full(60, 0.3)), 0.01, unsure)
    assert "all 60 frames have the same score, 0.3: the source repeats one picture" in constant
    (repeated,) = doubts(frames(np.tile(np.linspace(0, 1, 20), 10)), 0.01, unsure)
    assert "200 frames have 20 different scores" in repeated


def test_frames_that_stand_out_are_counted_and_named_with_the_threshold_without_them(unsure: Detector) -> None:
    rng = np.random.default_rng(2)
    good, bad = rng.normal(size=475), rng.uniform(4.5, 5.5, size=25)
    (said,) = doubts(frames(np.concatenate((good, bad))), 0.01, unsure)
    assert "25 of 500 frames stand out, with scores of 4.5" in said
    assert f"{475 + int(bad.argmax())}.png, " in said
    assert "and 20 more" in said
    assert f"the threshold would be {np.sort(good)[471]:.4g}" in said  # rank ceil(476 * 0.99) = 472
    assert "--known-bad" in said


def test_frames_of_the_training_are_known_by_the_bundle_s_samples(unsure: Detector) -> None:
    golden = Golden.from_npz(unsure.bundle.files["golden.npz"])
    results = [unsure.score_input(image) for image in golden.inputs]
    own = [
        CalibratingFrame(name=f"own{index}", score=result.score, criteria=tuple(result.criteria.values()))
        for index, result in enumerate(results)
    ]
    said = doubts([*frames(np.random.default_rng(0).normal(size=100)), *own], 0.01, unsure)
    assert any(f"{len(own)} frames are images that the bundle was trained on, own0 for one" in line for line in said)


def test_frames_that_score_lower_than_unseen_training_images_are_suspected(unsure: Detector) -> None:
    rng = np.random.default_rng(3)
    kept = np.quantile(rng.normal(1.0, 0.5, size=400), SCORE_QUANTILES).tolist()
    unsure.bundle.manifest["calibration"].update(score_quantiles=kept, n_images=400)
    (said,) = doubts(frames(rng.normal(0.0, 0.5, size=200)), 0.01, unsure)
    assert "score lower than training images that no network had seen" in said
    assert doubts(frames(rng.normal(1.0, 0.5, size=200)), 0.01, unsure) == []
    assert doubts(frames(rng.normal(2.0, 0.5, size=200)), 0.01, unsure) == []
