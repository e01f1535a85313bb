"""Images to score: which are found, what they are called, and who gets which label."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import DataError
from edge_runtime.model.images import write_image
from edge_runtime.scoring.image_items import Item, load_items, without

FLAT = np.full((8, 8), 128, dtype=np.uint8)

IMAGES = np.stack([np.full((8, 8), level, dtype=np.uint8) for level in (10, 20, 30, 40)])
LABELS = np.array([0, 2, 3, 0], dtype=np.uint8)


def folder_of(folder: Path, *names: str) -> Path:
    """A folder with a flat image under each of these names."""
    for name in names:
        write_image(folder / name, FLAT)
    return folder


def idx(array: NDArray[np.uint8]) -> bytes:
    header = bytes((0, 0, 0x08, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def idx_folder(folder: Path) -> Path:
    """A set in the MNIST format; its training split is another one than IMAGES and LABELS, its test split."""
    folder.mkdir()
    (folder / "train-images-idx3-ubyte").write_bytes(idx(IMAGES[:1]))
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS[:1]))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(IMAGES))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(LABELS))
    return folder


def trained_on(bundle: Bundle, **data: Any) -> Bundle:
    """The bundle with facts about its training data in the manifest."""
    return Bundle.from_parts({**bundle.manifest, "training": {"data": data}}, bundle.files, Path("trained.aae"))


def labels_csv(folder: Path, content: str | bytes) -> Path:
    path = folder / "labels.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def known(items: list[Item]) -> dict[str, bool | None]:
    """What is known of each item, by name."""
    return {item.name: item.anomalous for item in items}


# Folders and files


def test_a_folder_beside_good_is_anomalous(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "test", "good/1.png", "scratch/1.png", "scratch/deep/2.png", "dent/1.png", "top.png")
    items = load_items([folder], bundle)
    assert {item.name: (item.group, item.anomalous, item.observed) for item in items} == {
        "good/1.png": ("good", False, None),
        "scratch/1.png": ("scratch", True, None),
        "scratch/deep/2.png": ("scratch", True, None),
        "dent/1.png": ("dent", True, None),
        "top.png": (None, None, None),
    }


def test_good_is_found_in_any_case(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([folder_of(tmp_path, "Good/1.png", "bent/1.png")], bundle)
    assert known(items) == {"Good/1.png": False, "bent/1.png": True}


def test_good_further_down_labels_nothing(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([folder_of(tmp_path, "test/good/1.png", "test/bent/1.png", "good.png")], bundle)
    assert {item.group for item in items} == {None, "test"}
    assert set(known(items).values()) == {None}


def test_folders_without_good_have_groups_and_no_labels(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([folder_of(tmp_path, "monday/1.png", "tuesday/1.png")], bundle)
    assert [(item.name, item.group, item.anomalous) for item in items] == [
        ("monday/1.png", "monday", None),
        ("tuesday/1.png", "tuesday", None),
    ]


def test_images_directly_in_a_folder_come_in_natural_order_without_group_or_label(
    bundle: Bundle, tmp_path: Path
) -> None:
    items = load_items([folder_of(tmp_path, "10.png", "9.JPG", "1.bmp")], bundle)
    assert [(item.name, item.group, item.anomalous) for item in items] == [
        ("1.bmp", None, None),
        ("9.JPG", None, None),
        ("10.png", None, None),
    ]


def test_a_file_is_named_by_its_path(bundle: Bundle, tmp_path: Path) -> None:
    folder_of(tmp_path, "good/1.png")
    (item,) = load_items([tmp_path / "good" / "1.png"], bundle)
    assert (item.name, item.group, item.anomalous) == (str(tmp_path / "good" / "1.png"), None, None)


def test_several_paths_are_scored_in_the_order_given(bundle: Bundle, tmp_path: Path) -> None:
    folder_of(tmp_path, "b/good/1.png", "b/bent/1.png", "a/good/1.png", "c.png")
    items = load_items([tmp_path / "b", tmp_path / "c.png", tmp_path / "a"], bundle)
    assert [item.name.removeprefix(f"{tmp_path}/") for item in items] == [
        "b/bent/1.png",
        "b/good/1.png",
        "c.png",
        "a/good/1.png",
    ]


def test_each_item_loads_its_own_image(bundle: Bundle, tmp_path: Path) -> None:
    for index, image in enumerate(IMAGES):
        write_image(tmp_path / "files" / f"{index}.png", image)
    folder = idx_folder(tmp_path / "set")
    items = load_items([tmp_path / "files", folder], bundle, classes=[0])
    assert [int(item.load()[0, 0]) for item in items] == [10, 20, 30, 40, 10, 20, 30, 40]


def test_a_missing_path_is_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "there", "1.png")
    with pytest.raises(DataError, match=r"no such file or folder: .*gone"):
        load_items([folder, tmp_path / "gone"], bundle)


def test_an_empty_folder_is_named(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(DataError, match=r"empty holds no PNG, JPEG, WebP, BMP or TIFF image, at any depth"):
        load_items([tmp_path / "empty"], bundle)


def test_a_file_that_is_no_image_is_named(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(
        DataError, match=r"notes\.txt is no image \(PNG, JPEG, WebP, BMP or TIFF\), folder, IDX set or \.npz"
    ):
        load_items([tmp_path / "notes.txt"], bundle)


# Labelled sets


@pytest.mark.parametrize("kind", ["folder", "images file", "npz", "npz of one split"])
def test_the_test_split_is_labelled_by_the_classes_the_bundle_was_trained_on(
    bundle: Bundle, tmp_path: Path, kind: str
) -> None:
    folder = idx_folder(tmp_path / "set")
    path = tmp_path / "set.npz"
    if kind == "folder":
        path = folder
    elif kind == "images file":
        path = folder / "t10k-images-idx3-ubyte"
    elif kind == "npz":
        np.savez(path, images=IMAGES[:1], labels=LABELS[:1], test_images=IMAGES, test_labels=LABELS)
    else:
        np.savez(path, images=IMAGES, labels=LABELS)
    items = load_items([path], trained_on(bundle, classes=[0], contaminate=[[2, 0.05]]))
    assert [item.name for item in items] == [f"{path.name}/{index}" for index in range(4)]
    assert [item.group for item in items] == ["class 0", "class 2", "class 3", "class 0"]
    assert [item.anomalous for item in items] == [False, True, True, False]
    assert [item.observed for item in items] == [None, True, False, None]
    for item, image in zip(items, IMAGES, strict=True):
        np.testing.assert_array_equal(item.load(), image)


def test_without_contamination_no_anomaly_counts_as_observed_or_not(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([idx_folder(tmp_path / "set")], trained_on(bundle, classes=[0, 3], contaminate=[]))
    assert [item.anomalous for item in items] == [False, True, False, False]
    assert [item.observed for item in items] == [None] * 4


def test_classes_of_the_caller_replace_the_bundle_s(bundle: Bundle, tmp_path: Path) -> None:
    contaminated = trained_on(bundle, classes=[0], contaminate=[[2, 0.05]])
    items = load_items([idx_folder(tmp_path / "set")], contaminated, classes=(2, 3))
    assert [item.anomalous for item in items] == [True, False, False, True]
    assert [item.observed for item in items] == [None] * 4


def test_classes_of_the_caller_serve_where_the_bundle_has_none(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([idx_folder(tmp_path / "set")], bundle, classes=[3])
    assert [item.anomalous for item in items] == [True, True, False, True]


@pytest.mark.parametrize("data", [None, {}, {"classes": [], "contaminate": []}], ids=str)
def test_a_labelled_set_without_known_classes_is_refused(
    bundle: Bundle, tmp_path: Path, data: dict[str, Any] | None
) -> None:
    trained = bundle if data is None else trained_on(bundle, **data)
    with pytest.raises(
        DataError, match=r"set has classes, the bundle was trained without; name the normal ones: --classes 0"
    ):
        load_items([idx_folder(tmp_path / "set")], trained)


def test_a_set_without_labels_needs_no_classes(bundle: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES)
    items = load_items([tmp_path / "set.npz"], bundle)
    assert [(item.group, item.anomalous, item.observed) for item in items] == [(None, None, None)] * 4


def test_a_set_without_a_test_split_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(IMAGES))
    with pytest.raises(DataError, match="has no t10k-images-idx3-ubyte file for the test split"):
        load_items([tmp_path], bundle)


# Labels from a file


@pytest.mark.parametrize("label", ["0", "good", "Normal", " OK ", "false"])
def test_words_for_normal(bundle: Bundle, tmp_path: Path, label: str) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    assert known(load_items([folder], bundle, labels_csv(tmp_path, f"name,label\na.png,{label}\n"))) == {"a.png": False}


@pytest.mark.parametrize("label", ["1", "bad", "anomaly", "Anomalous", "defect", " defective", "TRUE"])
def test_words_for_anomalous(bundle: Bundle, tmp_path: Path, label: str) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    assert known(load_items([folder], bundle, labels_csv(tmp_path, f"name,label\na.png,{label}\n"))) == {"a.png": True}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfname,label\r\na.png,1\r\n",
        b"label,name\n1,a.png\n",
        b'camera,"name",label,remark\n3,"a.png",1,"a dent, small"\n',
        b"name,label\na.png,1",
        "name,label\nmüller.png,0\na.png,1\n".encode(),
    ],
    ids=["as Excel writes it", "columns turned", "more columns", "no last newline", "umlaut of another image"],
)
def test_labels_are_read_by_their_columns(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    assert known(load_items([folder], bundle, labels_csv(tmp_path, content))) == {"a.png": True}


def test_labels_find_images_by_path_and_by_file_name_and_the_path_wins(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "monday/1.png", "tuesday/1.png", "tuesday/2.png", "tuesday/3.png")
    labels = labels_csv(tmp_path, "name,label\ntuesday/1.png,1\n1.png,0\n2.png,1\n")
    assert known(load_items([folder], bundle, labels)) == {
        "monday/1.png": False,
        "tuesday/1.png": True,
        "tuesday/2.png": True,
        "tuesday/3.png": None,
    }


@pytest.mark.parametrize("by", ["path", "file name"])
def test_a_single_file_is_labelled_too(bundle: Bundle, tmp_path: Path, by: str) -> None:
    file = folder_of(tmp_path / "set", "a.png") / "a.png"
    labels = labels_csv(tmp_path, f"name,label\n{file if by == 'path' else 'a.png'},1\n")
    assert known(load_items([file], bundle, labels)) == {str(file): True}


def test_labels_of_the_file_go_before_those_of_the_folder(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "good/1.png", "good/2.png", "bent/3.png")
    items = load_items([folder], bundle, labels_csv(tmp_path, "name,label\ngood/2.png,bad\n"))
    assert known(items) == {"bent/3.png": True, "good/1.png": False, "good/2.png": True}
    assert [item.group for item in items] == ["bent", "good", "good"]


def test_labels_of_the_file_go_before_those_of_the_class(bundle: Bundle, tmp_path: Path) -> None:
    trained = trained_on(bundle, classes=[0], contaminate=[[2, 0.05]])
    items = load_items([idx_folder(tmp_path / "set")], trained, labels_csv(tmp_path, "name,label\nset/2,0\n"))
    assert [item.anomalous for item in items] == [False, True, False, False]
    assert [item.observed for item in items][1] is True
    assert int(items[2].load()[0, 0]) == 30


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "name,label\na.png,0\nb.png,perhaps\n",
            r"labels\.csv, line 3: label is 'perhaps', expected 0 or good, 1 or an",
        ),
        ("name,label\na.png,2\n", r"labels\.csv, line 2: label is '2', expected"),
        ("name,label\na.png,\n", r"labels\.csv, line 2: label is '', expected"),
        ("name,label\na.png\n", r"labels\.csv, line 2: label is '', expected"),
        (
            "name,label\na.png,0\n,1\n",
            r"labels\.csv, line 3: expected columns name and label, came \['name', 'label'\]",
        ),
        ("file,label\na.png,0\n", r"labels\.csv, line 2: expected columns name and label, came \['file', 'label'\]"),
        ("name;label\na.png;0\n", r"labels\.csv, line 2: expected columns name and label, came \['name;label'\]"),
        ("a.png,0\nb.png,1\n", r"labels\.csv, line 2: expected columns name and label, came \['a\.png', '0'\]"),
        ("name,label\n", r"labels\.csv has no lines below its header; expected columns name and label"),
        ("", r"labels\.csv has no lines below its header"),
        (
            "name,label\nz.png,0\n",
            r"labels\.csv names none of the images, such as a\.png; names are paths below the fol",
        ),
        (b"name,label\n\xe4.png,0\n", r"cannot read labels from .*labels\.csv: 'utf-8' codec can't decode"),
        (
            f"name,label\na.png,{'0' * 200_000}\n",
            r"cannot read labels from .*labels\.csv: field larger than field limit",
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_labels_that_cannot_be_used_are_refused_with_their_line(
    bundle: Bundle, tmp_path: Path, content: str | bytes, message: str
) -> None:
    folder = folder_of(tmp_path / "set", "a.png", "b.png")
    with pytest.raises(DataError, match=message):
        load_items([folder], bundle, labels_csv(tmp_path, content))


def test_a_missing_label_column_is_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    with pytest.raises(DataError, match=r"expected columns name and label, came \['name', 'class'\]"):
        load_items([folder], bundle, labels_csv(tmp_path, "name,class\na.png,0\n"))


@pytest.mark.parametrize("before", ["\n", '"a\nb.png",0\n'], ids=["empty line", "newline in a name"])
def test_the_line_of_a_bad_label_is_that_of_the_file(bundle: Bundle, tmp_path: Path, before: str) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    n_line = 2 + before.count("\n")
    with pytest.raises(DataError, match=rf"line {n_line}: label is 'perhaps'"):
        load_items([folder], bundle, labels_csv(tmp_path, f"name,label\n{before}a.png,perhaps\n"))


def test_a_missing_labels_file_is_named(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    with pytest.raises(DataError, match=r"cannot read labels from .*gone\.csv: .*No such file or directory"):
        load_items([folder], bundle, tmp_path / "gone.csv")


def test_images_of_the_same_name_in_two_folders_are_named_by_the_path_given(bundle: Bundle, tmp_path: Path) -> None:
    folder_of(tmp_path, "x/test/1.png", "y/test/1.png", "y/test/2.png", "z/3.png")
    items = load_items([tmp_path / "x" / "test", tmp_path / "y" / "test", tmp_path / "z"], bundle)
    assert [item.name for item in items] == [
        (tmp_path / "x/test/1.png").as_posix(),
        (tmp_path / "y/test/1.png").as_posix(),
        (tmp_path / "y/test/2.png").as_posix(),
        "3.png",
    ]


def test_sets_of_the_same_name_are_named_by_the_path_given(bundle: Bundle, tmp_path: Path) -> None:
    for place in ("x", "y"):
        (tmp_path / place).mkdir()
        np.savez(tmp_path / place / "set.npz", images=IMAGES[:1])
    items = load_items([tmp_path / "x" / "set.npz", tmp_path / "y" / "set.npz"], bundle)
    assert [item.name for item in items] == [(tmp_path / place / "set.npz/0").as_posix() for place in ("x", "y")]


def test_a_label_that_could_be_of_two_images_is_refused_naming_one(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "monday/1.png", "tuesday/1.png")
    with pytest.raises(DataError, match=r"1\.png could be any of 2 images; write its path, such as monday/1\.png"):
        load_items([folder], bundle, labels_csv(tmp_path, "name,label\n1.png,1\n"))


def test_any_end_of_a_path_serves_as_its_name(bundle: Bundle, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "a/monday/1.png", "a/tuesday/1.png")
    labels = labels_csv(tmp_path, "name,label\nmonday/1.png,1\na/tuesday/1.png,0\n")
    assert known(load_items([folder], bundle, labels)) == {"a/monday/1.png": True, "a/tuesday/1.png": False}


def test_labels_of_images_that_are_not_there_are_counted(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path / "set", "a.png")
    load_items([folder], bundle, labels_csv(tmp_path, "name,label\na.png,1\nb.png,0\nc.png,0\n"))
    assert "2 of 3 names are of no image scored, such as b.png" in caplog.text


# Names to leave out


def names_file(folder: Path, content: str | bytes) -> Path:
    path = folder / "names.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def kept_of(bundle: Bundle, tmp_path: Path, content: str | bytes) -> list[str]:
    folder = folder_of(tmp_path / "test", "good/1.png", "good/2.png", "dent/1.png", "dent/3.png")
    return [item.name for item in without(load_items([folder], bundle), names_file(tmp_path, content))]


def test_named_images_are_left_out_by_path_and_by_file_name(bundle: Bundle, tmp_path: Path) -> None:
    assert kept_of(bundle, tmp_path, "dent/1.png\n3.png\n") == ["good/1.png", "good/2.png"]


@pytest.mark.parametrize("content", ["\ufeffdent/1.png", "\n\ndent/1.png\r\n\n", "dent/1.png\ndent/1.png"])
def test_marks_of_order_empty_lines_and_repeats_are_no_names(bundle: Bundle, tmp_path: Path, content: str) -> None:
    assert kept_of(bundle, tmp_path, content) == ["dent/3.png", "good/1.png", "good/2.png"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_a_file_without_names_leaves_out_nothing(bundle: Bundle, tmp_path: Path, content: str) -> None:
    assert len(kept_of(bundle, tmp_path, content)) == 4


def test_a_name_that_could_be_of_two_images_leaves_out_neither(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"names.txt: 1\.png could be any of 2 images; write its path"):
        kept_of(bundle, tmp_path, "1.png")


def test_names_of_no_image_are_refused_and_of_some_counted(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DataError, match=r"names\.txt names none of the images, such as dent/1\.png"):
        kept_of(bundle, tmp_path, "other.png")
    assert len(kept_of(bundle, tmp_path, "other.png\n3.png")) == 3
    assert "1 of 2 names are of no image scored, such as other.png" in caplog.text


def test_leaving_out_every_image_or_an_unreadable_file_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names every one of 4 images"):
        kept_of(bundle, tmp_path, "2.png\n3.png\ngood/1.png\ndent/1.png")
    with pytest.raises(DataError, match=r"cannot read names from .*nowhere\.txt: No such file"):
        without([Item("1.png", lambda: FLAT)], tmp_path / "nowhere.txt")


def test_images_of_a_labelled_set_are_left_out_by_their_number(bundle: Bundle, tmp_path: Path) -> None:
    items = load_items([idx_folder(tmp_path / "mnist")], trained_on(bundle, classes=[0]))
    assert [item.name for item in without(items, names_file(tmp_path, "mnist/1\n3"))] == ["mnist/0", "mnist/2"]
