"""Rejected images in groups for a person: which lie together, and what is written about them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.images import read_image
from train.data.guidance import GuidanceFiles, read_guidance
from train.runs.review import IMAGES_A_GROUP, MOST_GROUPS, SHOWN, Group, group_codes, write_review

N = 200
TIGHT, LOOSE = np.arange(0, 40), np.arange(40, 90)


@pytest.fixture
def codes() -> NDArray[np.float32]:
    """40 codes close together, 50 elsewhere less so, and 110 of images that were kept."""
    rng = np.random.default_rng(0)
    values = rng.normal(0.0, 1.0, (N, 3))
    values[TIGHT] = 0.05 * values[TIGHT] + np.array([8.0, 0.0, 0.0])
    values[LOOSE] = 0.6 * values[LOOSE] + np.array([-8.0, 5.0, 0.0])
    return values.astype(np.float32)


REJECTED = np.arange(N) < 90
SCORES = np.random.default_rng(1).uniform(0.0, 5.0, N)
NAMES = [f"part {index:03d}, left.png" for index in range(N)]


@pytest.fixture
def two_groups(codes: NDArray[np.float32]) -> list[Group]:
    tight_alone = np.isin(np.arange(N), TIGHT[:30])
    loose_alone = np.isin(np.arange(N), LOOSE[:30])
    return group_codes(codes, tight_alone | loose_alone, SCORES, 0)


def test_two_clusters_become_two_groups_the_tighter_first(two_groups: list[Group]) -> None:
    assert [sorted(group.members.tolist()) for group in two_groups] == [TIGHT[:30].tolist(), LOOSE[:30].tolist()]
    assert two_groups[0].spread < two_groups[1].spread < 1.0


def test_the_members_of_a_group_come_highest_score_first(two_groups: list[Group]) -> None:
    for group in two_groups:
        scores = SCORES[group.members]
        assert (np.diff(scores) <= 0.0).all()


def test_groups_hold_every_rejected_image_once_and_no_other(codes: NDArray[np.float32]) -> None:
    groups = group_codes(codes, REJECTED, SCORES, 0)
    assert len(groups) == 90 // IMAGES_A_GROUP
    assert sorted(np.concatenate([group.members for group in groups]).tolist()) == list(range(90))
    spreads = [group.spread for group in groups]
    assert spreads == sorted(spreads)
    for group in groups:
        assert set(group.members.tolist()) <= set(TIGHT.tolist()) or set(group.members.tolist()) <= set(LOOSE.tolist())


def test_there_are_never_more_groups_than_a_person_would_look_at() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, (400, 3))
    assert len(group_codes(values, np.full(400, True), np.zeros(400), 0)) == MOST_GROUPS


def test_none_rejected_is_no_group(codes: NDArray[np.float32]) -> None:
    assert group_codes(codes, np.full(N, False), SCORES, 0) == []


def test_one_rejected_image_is_a_group_of_its_own(codes: NDArray[np.float32]) -> None:
    (group,) = group_codes(codes, np.arange(N) == 7, SCORES, 0)
    assert group.members.tolist() == [7]
    assert group.spread == 0.0


def test_codes_that_are_all_the_same_are_grouped_without_a_complaint() -> None:
    groups = group_codes(np.ones((10, 3)), np.full(10, True), np.arange(10.0), 0)
    assert [group.members.tolist() for group in groups] == [list(range(9, -1, -1))]


def test_the_same_seed_gives_the_same_groups(codes: NDArray[np.float32]) -> None:
    one, other = (group_codes(codes, REJECTED, SCORES, 3) for _ in range(2))
    assert [group.members.tolist() for group in one] == [group.members.tolist() for group in other]


@pytest.fixture
def written(tmp_path: Path, two_groups: list[Group]) -> Path:
    images = np.random.default_rng(0).integers(0, 256, (N, 12, 16, 1), dtype=np.uint8)
    write_review(tmp_path / "review", two_groups, images, NAMES, SCORES)
    return tmp_path / "review"


def test_each_group_has_a_sheet_and_a_list(written: Path) -> None:
    assert sorted(file.name for file in written.iterdir()) == [
        "group-1.csv",
        "group-1.png",
        "group-2.csv",
        "group-2.png",
        "review.csv",
    ]
    for number in (1, 2):
        sheet = read_image(written / f"group-{number}.png")
        assert sheet.shape[1] > 900  # ten tiles of 96 pixels
        assert sheet.std() > 0


def test_the_lists_name_the_members_with_group_and_score(written: Path, two_groups: list[Group]) -> None:
    with (written / "group-2.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [NAMES[index] for index in two_groups[1].members]
    assert {row["group"] for row in rows} == {"2"}
    assert [float(row["score"]) for row in rows] == pytest.approx(SCORES[two_groups[1].members].tolist(), rel=1e-5)
    with (written / "review.csv").open(newline="", encoding="utf-8") as file:
        assert [row["group"] for row in csv.DictReader(file)] == ["1"] * 30 + ["2"] * 30


def test_the_lists_answer_as_reject_and_keep_of_the_next_run(written: Path, two_groups: list[Group]) -> None:
    files = GuidanceFiles.of(reject=written / "group-1.csv", keep=written / "group-2.csv")
    guidance = read_guidance(files, NAMES)
    assert np.flatnonzero(guidance.reject).tolist() == sorted(two_groups[0].members.tolist())
    assert np.flatnonzero(guidance.keep).tolist() == sorted(two_groups[1].members.tolist())


def test_a_second_review_replaces_the_first_wholly(written: Path, two_groups: list[Group]) -> None:
    images = np.zeros((N, 12, 16, 3), np.uint8)
    write_review(written, two_groups[:1], images, NAMES, SCORES)
    assert sorted(file.name for file in written.iterdir()) == ["group-1.csv", "group-1.png", "review.csv"]


def test_a_sheet_shows_the_highest_scores_of_a_large_group(tmp_path: Path) -> None:
    asked: list[int] = []

    class Images:
        def __getitem__(self, index: int) -> NDArray[np.uint8]:
            asked.append(index)
            return np.zeros((8, 8, 1), np.uint8)

    members = np.arange(N)[::-1]
    write_review(tmp_path / "review", [Group(members, 0.5)], Images(), NAMES, np.arange(float(N)))
    assert asked == list(range(N - 1, N - 1 - SHOWN, -1))


def test_a_review_without_groups_is_an_empty_list(tmp_path: Path) -> None:
    write_review(tmp_path / "review", [], np.zeros((0, 8, 8, 1), np.uint8), [], np.zeros(0))
    assert (tmp_path / "review" / "review.csv").read_text(encoding="utf-8").split() == ["name,group,score"]
