"""What is kept of changed frames is bounded: those that changed most, the rest is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.operations import frame_comparison
from edge_runtime.operations.frame_comparison import FrameComparison
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources.contract import CapturedFrame

NOISE = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)


def frame(frame_id: int, contrast: float) -> CapturedFrame:
    """Noise of a contrast up to 1: the more, the higher its score."""
    image = (128 + contrast * (NOISE.astype(float) - 128)).astype(np.uint8)
    return CapturedFrame(image, frame_id, 0.0, 0.0, 0.0, None)


@pytest.fixture
def pair(detector: Detector) -> tuple[Detector, Detector]:
    """The same detector, and one that never flags."""
    return detector, detector.with_threshold(1e6)


def test_the_list_is_bounded_and_the_counts_are_not(
    pair: tuple[Detector, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_comparison, "MOST_CHANGED", 2)
    comparison = FrameComparison(*pair)
    for frame_id, contrast in enumerate((0.7, 0.9, 1.0, 0.8)):
        comparison.take(frame(frame_id, contrast))
    assert comparison.to_normal == 4
    found = comparison.to_json("line")
    assert found["changed_left_out"] == len(found["changed"]) == 2


def test_of_frames_that_changed_as_much_the_first_are_kept(pair: tuple[Detector, Detector], tmp_path: Path) -> None:
    comparison = FrameComparison(*pair, tmp_path / "out", 2)
    for frame_id in range(5):
        comparison.take(frame(frame_id, 1.0))
    assert [changed.frame_id for changed in comparison.changed] == [0, 1, 2, 3, 4]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000000-frame.png", "000001-frame.png"]
    pictures = [one["picture"] for one in comparison.to_json("line")["changed"]]
    assert pictures == [
        str(tmp_path / "out/000000-frame.png"),
        str(tmp_path / "out/000001-frame.png"),
        None,
        None,
        None,
    ]


def test_large_frames_are_shrunk_for_their_pictures(pair: tuple[Detector, Detector], tmp_path: Path) -> None:
    comparison = FrameComparison(*pair, tmp_path / "out", 1)
    # Blocks of 250 pixels come out of the bundle's 8x8 as they are.
    large = np.kron(NOISE, np.ones((250, 500), dtype=np.uint8))
    comparison.take(replace(frame(0, 1.0), image=large, name="parts/p\udcff.png"))
    (picture,) = (tmp_path / "out").iterdir()
    assert cv2.imread(str(picture)).shape == (480 + 24, 3 * 960, 3)
    assert comparison.changed[0].name == "parts/p?.png"
