"""What a source's pictures come to over its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.image_quality import Fault, QualityLimits, limits_of, measured
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.watching.lens_spot import BLOCK
from edge_runtime.watching.picture_watch import STREAK, PictureWatch
from tests.edge_runtime.watching.test_lens_spot import CENTRE, darkened, scene

DARK = (Fault("dark", 1.0, 2.0),)


@pytest.fixture(scope="module")
def limits() -> QualityLimits:
    found = limits_of([measured(scene(seed)) for seed in range(30)])
    assert found is not None
    return found


@pytest.fixture
def result_of(detector: Detector) -> Callable[..., Result]:
    scored = detector.score(np.zeros((8, 8), np.uint8))

    def make(frame: NDArray[np.uint8], faults: tuple[Fault, ...] = (), *, unknown: bool = False) -> Result:
        return replace(scored, is_anomaly=False, faults=faults, picture=measured(frame), bad_is_unknown=unknown)

    return make


def test_bad_pictures_are_told_after_ten_in_a_row_once_and_good_ones_again(
    limits: QualityLimits, result_of: Callable[..., Result]
) -> None:
    watch, frame = PictureWatch(limits), scene(0)
    single = [watch.judged(result_of(frame, DARK if index % STREAK else ()), frame.shape)[1] for index in range(50)]
    assert single == [None] * 50
    bad = [watch.judged(result_of(frame, DARK), frame.shape)[1] for _ in range(3 * STREAK)]
    (told,) = [change for change in bad if change is not None]
    assert told.faults == DARK
    assert "(dark)" in str(told)
    good = [watch.judged(result_of(frame), frame.shape)[1] for _ in range(3 * STREAK)]
    (told,) = [change for change in good if change is not None]
    assert told.faults == ()


def test_a_lens_spot_is_a_fault_of_the_frame_with_its_place(
    limits: QualityLimits, result_of: Callable[..., Result]
) -> None:
    watch = PictureWatch(limits)
    for seed in range(3 * BLOCK):
        frame = darkened(scene(seed))
        result, _ = watch.judged(result_of(frame, unknown=True), frame.shape)
    assert result.faults is not None
    (fault,) = result.faults
    assert fault.what == "lens spot"
    assert fault.box is not None
    x, y, width, height = fault.box
    assert x < CENTRE[1] < x + width
    assert y < CENTRE[0] < y + height
    assert result.unknown


def test_a_spot_never_hides_an_anomaly(limits: QualityLimits, result_of: Callable[..., Result]) -> None:
    anomalous = replace(result_of(scene(0), DARK, unknown=True), is_anomaly=True)
    assert not anomalous.unknown


def test_without_limits_nothing_is_judged(result_of: Callable[..., Result]) -> None:
    result = replace(result_of(scene(0)), faults=None, picture=None)
    assert PictureWatch(None).judged(result, (240, 320, 1)) == (result, None)
