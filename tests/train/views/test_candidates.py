"""Which views a set of frames allows, on synthetic frames and on real ones."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError, FrameError
from edge_runtime.model.images import list_images, read_image
from edge_runtime.model.preprocess import Preprocess
from tests.train.data.test_real_data import data_set
from tests.turned_part import part_frame
from train.views.candidates import ViewCandidate, views_of
from train.views.sizes import SizePolicy


def turned_frames(n: int = 24) -> Iterable[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    for index in range(n):
        yield part_frame(rng.uniform(0, 360), tuple(rng.uniform((110, 100), (190, 140))), seed=index)


def round_frames(n: int = 10) -> Iterable[NDArray[np.uint8]]:
    for index in range(n):
        frame = np.full((240, 300), 60, dtype=np.uint8)
        cv2.circle(frame, (140 + index, 110), 50, 200, -1)
        yield frame


def by_name(candidates: list[ViewCandidate]) -> dict[str, ViewCandidate]:
    assert [candidate.name for candidate in candidates] == ["none", "centre", "turn"]
    return {candidate.name: candidate for candidate in candidates}


def test_a_turned_part_may_be_centred_and_turned() -> None:
    found = by_name(views_of(turned_frames()))
    assert not any(candidate.refused or candidate.note for candidate in found.values())
    assert found["none"].align is None
    centre, turn = found["centre"].align, found["turn"].align
    assert centre is not None
    assert turn is not None
    assert (centre.mode, turn.mode, turn.frame) == ("centre", "turn", (240, 300))
    assert centre.height == pytest.approx(centre.width, rel=0.05)
    assert found["turn"].size[1] > 1.6 * found["turn"].size[0]
    assert turn.width / turn.height == pytest.approx(found["turn"].size[1] / found["turn"].size[0], rel=1e-3)


def test_every_frame_of_the_sample_lies_in_its_view() -> None:
    candidate = by_name(views_of(turned_frames()))["turn"]
    height, width = candidate.size
    preprocess = Preprocess(height=height, width=width, align=candidate.align)
    codes = [place.code for place in map(preprocess.place, turned_frames()) if place is not None]
    assert codes == ["aligned"] * 24


def test_a_view_stretched_onto_a_named_size_does_not_grow() -> None:
    policy = SizePolicy(imgsz=(64, 64))
    grown = by_name(views_of(turned_frames(), policy))["turn"]
    squeezed = by_name(views_of(turned_frames(), policy, keep_aspect=False))["turn"]
    assert grown.size == squeezed.size == (64, 64)
    assert grown.align is not None
    assert squeezed.align is not None
    assert grown.align.height == grown.align.width == pytest.approx(squeezed.align.width, abs=0.1)
    assert squeezed.align.height < 0.6 * squeezed.align.width


def test_a_round_part_is_not_turned() -> None:
    found = by_name(views_of(round_frames()))
    assert not found["centre"].refused
    assert found["turn"].refused == "the part has no long axis, its elongation is 1.00"
    assert found["turn"].align is None


def test_a_part_alike_from_both_ends_is_said() -> None:
    def ellipses() -> Iterable[NDArray[np.uint8]]:
        for angle in range(0, 180, 20):
            frame = np.full((240, 300), 60, dtype=np.uint8)
            cv2.ellipse(frame, (140, 120), (80, 50), angle, 0, 360, 200, -1)
            yield frame

    turn = by_name(views_of(ellipses()))["turn"]
    assert not turn.refused
    assert turn.note == "by its outline either end of the part may come first"


def test_frames_without_an_outline_refuse_both_alignments() -> None:
    plain = [np.full((60, 80), 90, dtype=np.uint8)] * 3
    found = by_name(views_of([*turned_frames(17), *plain]))
    assert found["centre"].refused == found["turn"].refused == "no outline in 3 of 20 frames, no_part in 3"
    assert not found["none"].refused


def test_a_frame_in_twenty_without_an_outline_is_borne() -> None:
    assert not by_name(views_of([*turned_frames(19), np.full((240, 300), 90, dtype=np.uint8)]))["turn"].refused


def test_parts_of_two_sizes_are_refused() -> None:
    frames = [part_frame(10 * index, scale=1.0 if index % 2 else 0.7) for index in range(20)]
    assert "area varies" in by_name(views_of(frames))["centre"].refused


def test_a_region_of_interest_is_cut_before_the_outline_is_looked_for() -> None:
    frames = []
    for frame in turned_frames(6):
        frame[:, :10] = 255
        frames.append(frame)
    assert by_name(views_of(frames))["turn"].refused
    found = by_name(views_of(frames, roi=(20, 0, 280, 240)))
    assert not found["turn"].refused
    assert found["none"].size == (240, 272)
    with pytest.raises(FrameError, match="reaches beyond the frame"):
        views_of(frames, roi=(20, 0, 281, 240))


def test_frames_of_two_resolutions_have_one_view() -> None:
    small = part_frame(30)
    large = part_frame(30, (600.0, 480.0), shape=(960, 1200, 3), scale=4.0)
    one, both = (by_name(views_of(frames))["turn"].align for frames in ([large], [large, small]))
    assert one is not None
    assert both is not None
    assert (both.height, both.width) == pytest.approx((one.height, one.width), rel=0.05)


def test_no_frame_is_an_error() -> None:
    with pytest.raises(DataError, match="no image"):
        views_of([])


@pytest.mark.parametrize(
    ("name", "centre", "turn"),
    [
        ("mvtec-pill", True, True),
        ("aliens", True, True),
        ("mvtec-bottle", True, False),
        ("kolektor", False, False),
        ("mvtec3d-tire", False, False),
    ],
)
def test_real_parts_are_found_or_refused(name: str, centre: bool, turn: bool) -> None:
    files = list_images(data_set(name) / "train")
    found = by_name(views_of(read_image(file) for file in files[:: max(1, len(files) // 24)]))
    assert (not found["centre"].refused, not found["turn"].refused) == (centre, turn)
