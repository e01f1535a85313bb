"""Golden samples of bundles that align parts: the view must lie where it lay at export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import BundleError
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.preprocess import Preprocess
from tests.turned_part import part_frame

ALIGN = Alignment(mode="turn", height=90.0, width=170.0, frame=(240, 300))
PREPROCESS = Preprocess(height=24, width=45, align=ALIGN)
VIEW_ROW, INPUT_ROW = "preprocess: view", "preprocess: network_input"


@pytest.fixture(scope="module")
def aligned(make_bundle: Callable[..., Bundle]) -> Bundle:
    """A bundle whose golden samples hold two frames of a part at two angles."""
    bundle = make_bundle(PREPROCESS)
    frames = part_frame(35, (140.0, 120.0)), part_frame(200, (160.0, 118.0), seed=1)
    return with_golden(
        bundle,
        raw_frames=frames,
        raw_inputs=tuple(map(PREPROCESS, frames)),
        raw_views=tuple(np.array(place.matrix) for place in map(PREPROCESS.place, frames) if place),
    )


def with_golden(bundle: Bundle, **changes: Any) -> Bundle:
    golden = replace(Golden.from_npz(bundle.files["golden.npz"]), **changes)
    return Bundle.from_parts(bundle.manifest, {**bundle.files, "golden.npz": golden.to_npz()}, Path("changed.aae"))


def with_preprocess(bundle: Bundle, preprocess: Preprocess) -> Bundle:
    """Sabotaged: another preprocessing in the manifest, and no hash that would tell."""
    return Bundle.from_parts(
        {**bundle.manifest, "preprocess": preprocess.to_json()}, bundle.files, Path("sabotaged.aae")
    )


def failed_rows(bundle: Bundle) -> list[str]:
    return [item.where for item in verify_bundle(bundle, threads=1).comparisons if not item.passed]


def test_the_views_survive_their_file_and_agree(aligned: Bundle) -> None:
    assert [matrix.shape for matrix in Golden.from_npz(aligned.files["golden.npz"]).raw_views] == [(2, 3)] * 2
    report = verify_bundle(aligned, threads=1)
    assert report.failures() == []
    errors = {item.where: item.max_error for item in report.comparisons}
    assert errors[VIEW_ROW] == errors[INPUT_ROW] == 0.0


@pytest.mark.parametrize(
    ("align", "failed"),
    [
        pytest.param(replace(ALIGN, width=180.0), [VIEW_ROW], id="a wider box"),
        pytest.param(replace(ALIGN, height=86.0), [VIEW_ROW], id="a lower box"),
        pytest.param(replace(ALIGN, mode="centre"), [VIEW_ROW], id="not turned"),
        pytest.param(replace(ALIGN, frame=(260, 320)), [VIEW_ROW], id="of larger frames"),
        pytest.param(None, [INPUT_ROW], id="no alignment"),
    ],
)
def test_another_alignment_than_at_export_fails(aligned: Bundle, align: Alignment | None, failed: list[str]) -> None:
    assert failed_rows(with_preprocess(aligned, replace(PREPROCESS, align=align))) == failed


def test_an_alignment_that_the_samples_know_nothing_of_fails(aligned: Bundle) -> None:
    assert VIEW_ROW in failed_rows(with_golden(aligned, raw_views=()))


def test_a_view_a_little_off_passes_and_half_a_pixel_off_fails(aligned: Bundle) -> None:
    """A pixel of the input is 170 / 45 = 3.8 of the frame."""
    views = Golden.from_npz(aligned.files["golden.npz"]).raw_views
    for shift, failed in ((0.5, False), (1.9, True)):
        moved = tuple(matrix + np.array([[0, 0, shift], [0, 0, 0]]) for matrix in views)
        assert (VIEW_ROW in failed_rows(with_golden(aligned, raw_views=moved))) is failed


def test_a_warp_that_differs_by_more_than_a_grey_level_fails(aligned: Bundle) -> None:
    inputs = tuple(image.copy() for image in Golden.from_npz(aligned.files["golden.npz"]).raw_inputs)
    inputs[1][3, 4, 0] += 2
    assert failed_rows(with_golden(aligned, raw_inputs=inputs)) == [INPUT_ROW]


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ((np.zeros((3, 3)), np.zeros((3, 3))), r"frame_0_view \(3, 3\)"),
        ((np.zeros((2, 3)), np.full((2, 3), np.nan)), r"frame_1_view .* finite"),
        ((np.zeros((2, 3)),), "views of 1 frames, expected 2"),
    ],
)
def test_damaged_views_are_refused(aligned: Bundle, views: tuple[Any, ...], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        Golden.from_npz(with_golden(aligned, raw_views=views).files["golden.npz"])
