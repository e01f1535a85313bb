from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.preprocess import Preprocess
from train.data.grouping import Groups, frame_groups, groups_line, photograph_groups
from train.data.image_store import MemoryStore
from train.data.loading import load_training_set
from train.data.near_duplicates import connected_duplicates, duplicate_groups
from train.data.photograph_store import PhotographStore
from train.data.settings import DataSettings

NAMES = ["a/part1_x.png", "a/part1_y.png", "b/part2_x.png", "b/deep/other.png"]
NOON = datetime(2026, 5, 4, 12, 0).timestamp()


def store_of(images: Sequence[NDArray[np.uint8]]) -> MemoryStore:
    return MemoryStore(np.stack(images)[..., None])


def noise(seed: int, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)


def groups_of(group_by: str, names: list[str] = NAMES, folder: Path = Path("nowhere")) -> list[int]:
    store = store_of([noise(index) for index in range(len(names))])
    return photograph_groups(group_by, folder, names, store, distinct=False).of.tolist()


def photograph(file: Path, *, changed: float, taken: str | None = None) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if taken is not None:
        exif.get_ifd(0x8769)[0x9003] = taken
    Image.fromarray(noise(int(changed) % 1000)).save(file, exif=exif)
    os.utime(file, (changed, changed))


def test_none_leaves_every_image_on_its_own() -> None:
    assert groups_of("none") == [0, 1, 2, 3]


def test_folders_group_by_the_whole_path_of_the_folder() -> None:
    assert groups_of("folder") == [0, 0, 1, 2]
    assert groups_of("folder", ["x.png", "a/x.png", "y.png"]) == [0, 1, 0]


def test_a_pattern_groups_by_its_first_group_or_by_the_whole_match() -> None:
    assert groups_of(r"part(\d)_(x|y)") == [0, 0, 1, 2]
    assert groups_of("_[xy]") == [0, 1, 0, 2]
    assert groups_of(r"^a/(part1)?|\.png") == [0, 0, 1, 2]  # a group that takes no part in the match is none


def test_names_without_a_match_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    assert groups_of(r"part\d", ["part1.png", "q.png", "part1b.png", "p.png"]) == [0, 1, 0, 2]
    assert "matches 2 of 4 names; each other one is a group of its own, the first: q.png" in caplog.text


def test_a_pattern_that_matches_no_name_is_refused() -> None:
    with pytest.raises(DataError, match=r"--group-by tile\(\\d\) matches none of 4 names, such as a/part1_x\.png"):
        groups_of(r"tile(\d)")


@pytest.mark.parametrize(
    ("group_by", "message"),
    [
        ("part(", r"--group-by part\( is no regular expression \(.*\), nor auto, none, folder or minutes:N"),
        ("", "--group-by is empty, expected auto"),
        ("minutes:", "--group-by minutes:, expected minutes above 0, such as minutes:5"),
        ("minutes:-1", "expected minutes above 0"),
        ("minutes:inf", "expected minutes above 0"),
    ],
)
def test_what_means_nothing_is_refused_before_an_image_is_read(group_by: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataSettings(path="x", group_by=group_by)


def test_settings_of_before_groups_load() -> None:
    values = json.loads(json.dumps(DataSettings(path="x").to_json()))
    del values["group_by"]
    assert DataSettings.from_json(values).group_by == "auto"


def test_minutes_join_what_follows_within_them_by_exif_before_file_times(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    names = ["a.png", "b.jpg", "c.png", "d.jpg", "e.jpg"]
    photograph(tmp_path / "a.png", changed=NOON + 100)
    photograph(tmp_path / "b.jpg", changed=NOON + 9000, taken="2026:05:04 12:05:00")
    photograph(tmp_path / "c.png", changed=NOON)
    photograph(tmp_path / "d.jpg", changed=NOON, taken="2026:05:04 12:12:00")
    photograph(tmp_path / "e.jpg", changed=NOON + 2000, taken="0000:00:00 00:00:00")
    # 12:01:40, 12:05, 12:00, 12:12 and, its EXIF void, 12:33:20.
    assert groups_of("minutes:5", names, tmp_path) == [0, 0, 0, 1, 2]
    assert groups_of("minutes:8", names, tmp_path) == [0, 0, 0, 0, 1]
    assert "3 of 5 images do not say when they were taken (EXIF)" in caplog.text


def test_auto_links_near_duplicates_in_chains() -> None:
    ramp = np.linspace(0, 200, 32).astype(np.uint8)[None].repeat(32, axis=0)
    images = [ramp.copy() for _ in range(4)]
    for step, image in enumerate(images):
        image[8:16, 8:16] += np.uint8(5 * step)
    store = store_of([images[3], noise(1), images[0], images[1], images[2]])
    found = photograph_groups("auto", Path("nowhere"), list("abcde"), store, distinct=False)
    assert found.of.tolist() == [0, 1, 0, 0, 0]
    assert len(photograph_groups("auto", Path("nowhere"), list("abcde"), store, distinct=True)) == 5


def test_linked_images_have_one_first_image_whatever_the_chain() -> None:
    means = np.array([0, 12, 5, 40, 9], dtype=np.float32)[:, None, None] * np.array([[[1.0, -1.0]]], dtype=np.float32)
    assert connected_duplicates(means).tolist() == [0, 0, 0, 3, 0]


def test_photographs_of_several_sizes_are_compared_whole() -> None:
    preprocess = Preprocess(height=32, width=32, channels=1, fit="tile", overlap=8, self_reference="row_column")
    view = cv2.resize(noise(1, 8), (96, 64), interpolation=cv2.INTER_CUBIC)
    spotted = view.copy()
    spotted[4:12, 4:12] ^= 128
    numbers = duplicate_groups(PhotographStore([view, noise(2, 48), view + np.uint8(0), spotted], preprocess))
    assert numbers.tolist() == [0, 1, 0, 3]


def test_videos_are_cut_into_blocks_of_time() -> None:
    names = [f"v.avi#{number:06d}" for number in range(8)]
    assert frame_groups("auto", names, [0, 1, 2, 3, 4, 5, 6, 7]).of.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert frame_groups("auto", names, [0, 50, 99, 100, 101, 2000, 2999, 3000]).n == 5
    by_minute = frame_groups("minutes:1", names, [0, 30, 59, 60, 61, 200, 299, 300])
    assert by_minute.of.tolist() == [0, 0, 0, 1, 1, 2, 3, 4]
    assert frame_groups("none", names, [0] * 8).n == 8
    assert frame_groups(r"#00000[0-3]", names, [0] * 8).n == 8
    with pytest.raises(ConfigError, match="--group-by folder: a video has no folders"):
        frame_groups("folder", names, [0] * 8)


def test_labelled_sets_have_no_groups(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((20, 16, 16), dtype=np.uint8))
    assert load_training_set(DataSettings(path=str(tmp_path / "set.npz")), "mlp").groups.n == 20
    with pytest.raises(ConfigError, match=r"--group-by folder: .* is a labelled set"):
        load_training_set(DataSettings(path=str(tmp_path / "set.npz"), group_by="folder"), "mlp")


def test_a_folder_s_groups_follow_its_images(tmp_path: Path) -> None:
    for index, name in enumerate(["a/1.png", "a/2.png", "b/3.png"]):
        photograph(tmp_path / name, changed=NOON + index)
    (tmp_path / "a/0.png").write_bytes(b"")
    settings = DataSettings(path=str(tmp_path), group_by="folder", max_bad=0.5, imgsz=(16, 16))
    assert load_training_set(settings, "conv").groups.of.tolist() == [0, 0, 1]


def test_groups_that_make_folds_stay(caplog: pytest.LogCaptureFixture) -> None:
    groups = Groups.by_key("folder", [index // 2 for index in range(24)])
    assert groups.for_folds(3) is groups
    assert not caplog.text
    assert groups.line() == "12 of 24 images, by folder"
    few = Groups.by_key("folder", [index // 6 for index in range(24)])
    assert few.for_folds(3) is few
    assert "only 4 groups of images: the threshold rests on so few objects or sessions" in caplog.text
    assert few.line().endswith("so few that new objects or sessions may give more false alarms than asked for")
    assert Groups.alone(4, "auto").for_folds(9).line() == "4 of 4 images, by auto: every image on its own"


@pytest.mark.parametrize(
    ("keys", "reason"), [([0] * 12 + [1] * 12, "2 groups of images for 3 folds"), ([0] * 20 + [1, 2, 3, 4], "20 of 24")]
)
def test_groups_that_make_no_folds_are_refused_where_asked_for_and_let_go_else(
    keys: list[int], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigError, match=rf"--group-by folder: {reason}.*, expected 3 groups or more"):
        Groups.by_key("folder", keys).for_folds(3)
    found = Groups.by_key("auto", keys)
    torn = found.for_folds(3)
    assert torn.of.tolist() == list(range(24))
    assert torn.to_json() == {"by": "auto", "n": found.n, "folds": "by image"}
    assert f"{reason}" in caplog.text
    assert "the threshold may be too low" in caplog.text
    assert groups_line(torn.to_json(), 24).endswith("so the threshold may be too low")
    assert torn.for_folds(3) is torn
