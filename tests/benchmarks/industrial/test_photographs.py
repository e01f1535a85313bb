"""Sets in every layout: which files are trained on and tested, and which masks belong to them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from benchmarks.industrial import photographs
from benchmarks.industrial.photographs import DEVELOPMENT, KNOWN, REPORTED, PhotographSet, Places, find, known, names_in
from benchmarks.paper.protocol import default_data
from edge_runtime.errors import DataError
from edge_runtime.model.images import list_images, read_image
from tests.benchmarks.industrial.conftest import MakeSet


def _places(tmp_path: Path, **named: Path) -> Places:
    return Places(data=tmp_path / "data", work=tmp_path / "work", **named)


def _names(found: PhotographSet) -> tuple[int, int, dict[str, int], int]:
    kinds = {kind: len(files) for kind, files in found.defects.items()}
    return len(found.train), len(found.good), kinds, len(found.masks)


def test_a_folder_holds_kinds_of_defects_and_masks_of_either_name(tmp_path: Path, make_set: MakeSet) -> None:
    root = make_set(hole=2, crack=1)
    (root / "ground_truth/crack/0_mask.png").rename(root / "ground_truth/crack/0.png")
    found = find("aliens", _places(tmp_path))
    assert _names(found) == (8, 2, {"crack": 1, "hole": 2}, 3)
    assert found.masks[root / "test/crack/0.png"] == root / "ground_truth/crack/0.png"


def test_a_missing_set_is_named_with_its_place(tmp_path: Path, make_set: MakeSet) -> None:
    with pytest.raises(DataError, match=r"kolektor: no folders train and test in .*kolektor"):
        find("kolektor", _places(tmp_path))
    make_set("data/kolektor", n_good=0, hole=1)
    with pytest.raises(DataError, match="kolektor: no photographs to test as good"):
        find("kolektor", _places(tmp_path))


def test_twins_of_tested_tiles_are_not_trained_on(
    tmp_path: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set("data/magnetic-tile", hole=2)
    (tmp_path / "twins.txt").write_text("test/good/1.png\ntrain/3.png\ntrain/5.png\n")
    monkeypatch.setattr(photographs, "TWINS", tmp_path / "twins.txt")
    found = find("magnetic-tile", _places(tmp_path))
    assert {file.name for file in found.train} == {f"{index}.png" for index in (0, 1, 2, 4, 6, 7)}
    assert len(found.good) == 2


def test_the_list_of_twins_leaves_459_of_762() -> None:
    named = [line for line in photographs.TWINS.read_text().splitlines() if line.startswith("train/")]
    assert len(set(named)) == 762 - 459


def test_solar_cells_are_split_in_file_order(tmp_path: Path, make_set: MakeSet) -> None:
    folder = make_set("elpv/elpv_dataset/data", n_train=10).rename(tmp_path / "cells")
    rows = [*(f"train/good/{index}.png  0.0  mono" for index in range(7)), "a.png 1.0 mono", "b.png 0.33 mono"]
    (folder / "labels.csv").write_text("\n".join([*rows, "c.png 0.0 poly", "", "train/good/7.png  0.0  mono"]))
    found = find("elpv-mono", _places(tmp_path, elpv=tmp_path / "cells"))
    assert [file.stem for file in found.train] == ["0", "1", "2", "3", "4"]  # 7 tenths of 8
    assert [file.stem for file in found.good] == ["5", "6", "7"]
    assert found.defects == {"defect": (folder / "a.png",)}
    with pytest.raises(DataError, match=r"no labels\.csv below"):
        find("elpv-mono", _places(tmp_path, elpv=tmp_path / "elpv"))


def test_a_copy_of_mvtec_ad_is_a_set_a_category(tmp_path: Path, make_set: MakeSet) -> None:
    make_set("mvtec/screw", thread=3)
    (tmp_path / "mvtec/readme").mkdir()
    places = _places(tmp_path, mvtec=tmp_path / "mvtec")
    assert names_in(places) == [*KNOWN, "mvtec-ad-screw"]
    assert _names(find("mvtec-ad-screw", places)) == (8, 2, {"thread": 3}, 3)
    assert known("mvtec-ad-screw").role == REPORTED


@pytest.mark.parametrize("sorted_into", ["visa/1cls/candle", "visa/candle"])
def test_a_sorted_copy_of_visa_is_a_set_an_object(tmp_path: Path, make_set: MakeSet, sorted_into: str) -> None:
    make_set(sorted_into, bad=3)
    places = _places(tmp_path, visa=tmp_path / "visa")
    assert names_in(places) == [*KNOWN, "visa-candle"]
    assert _names(find("visa-candle", places)) == (8, 2, {"bad": 3}, 3)


def test_visa_as_published_is_split_by_its_table(tmp_path: Path) -> None:
    header = ["object", "split", "label", "image", "mask"]
    rows = [
        ["candle", "train", "normal", "candle/Data/Images/Normal/0000.JPG", ""],
        ["candle", "test", "normal", "candle/Data/Images/Normal/0001.JPG", ""],
        ["candle", "test", "anomaly", "candle/Data/Images/Anomaly/000.JPG", "candle/Data/Masks/Anomaly/000.png"],
        ["fryum", "train", "normal", "fryum/Data/Images/Normal/0000.JPG", ""],
    ]
    (tmp_path / "visa/split_csv").mkdir(parents=True)
    with (tmp_path / "visa/split_csv/1cls.csv").open("w", newline="") as table:
        csv.writer(table).writerows([header, *rows])
    places = _places(tmp_path, visa=tmp_path / "visa")
    assert names_in(places)[-2:] == ["visa-candle", "visa-fryum"]
    found = find("visa-candle", places)
    assert _names(found) == (1, 1, {"defect": 1}, 1)
    assert found.masks[found.defects["defect"][0]].name == "000.png"


def test_a_turned_set_is_made_once_and_again_for_other_photographs(tmp_path: Path, make_set: MakeSet) -> None:
    root = make_set(hole=2)
    found = find("turned-aliens", _places(tmp_path))
    assert _names(found) == (8, 2, {"hole": 2}, 2)
    written = found.train[0].stat().st_mtime_ns
    assert find("turned-aliens", _places(tmp_path)).train[0].stat().st_mtime_ns == written
    assert (read_image(found.train[0]) != read_image(root / "train/good/0.png")).any()
    (root / "train/good/7.png").unlink()
    assert len(find("turned-aliens", _places(tmp_path)).train) == 7
    assert not list((tmp_path / "work").rglob("*.partial"))


def test_other_photographs_have_another_fingerprint(tmp_path: Path, make_set: MakeSet) -> None:
    root = make_set(hole=2)
    first = find("aliens", _places(tmp_path)).fingerprint
    assert find("aliens", _places(tmp_path)).fingerprint == first
    (root / "test/good/0.png").write_bytes(np.zeros(7, np.uint8).tobytes())
    assert find("aliens", _places(tmp_path)).fingerprint != first


def test_sets_to_tune_on_are_named() -> None:
    tuned = {name for name, about in KNOWN.items() if about.role == DEVELOPMENT}
    assert tuned == {"deep-pcb", "aliens", "mvtec-bottle", "elpv-mono", "turned-aliens", "turned-mvtec-pill"}


@pytest.mark.parametrize(
    ("name", "train", "good", "defects"),
    [
        ("aliens", 41, 17, 60),
        ("magnetic-tile", 459, 95, 303),
        ("mvtec-pill", 267, 26, 141),
        ("deep-pcb", 300, 150, 150),
    ],
)
def test_the_shared_sets_are_whole(name: str, train: int, good: int, defects: int, tmp_path: Path) -> None:
    data = default_data()
    if not (data / name).is_dir():
        pytest.skip(f"{name} is not in {data}")
    found = find(name, Places(data=data, work=tmp_path))
    assert (len(found.train), len(found.good), found.n_defects) == (train, good, defects)
    assert len(found.masks) == (0 if name == "aliens" else defects)
    assert len(list_images(data / name / "test")) == good + defects
