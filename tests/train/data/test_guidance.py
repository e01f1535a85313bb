from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, DataError
from train.data.guidance import KEEP, REJECT, UNGUIDED, Guidance, GuidanceFiles, read_guidance
from train.data.loading import load_training_set
from train.data.settings import DataSettings

NAMES = ["a.png", "b.png", "deep/c d.png", "e,f.png"]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def guided(**files: Path) -> list[int]:
    return read_guidance(GuidanceFiles.of(**files), NAMES).verdicts.tolist()


def test_without_files_nothing_is_known() -> None:
    guidance = read_guidance(GuidanceFiles(), NAMES)
    assert not guidance
    assert len(guidance) == len(NAMES)
    assert not guidance.keep.any()
    assert not guidance.reject.any()


def test_a_text_file_names_one_image_a_line(tmp_path: Path) -> None:
    keep = write(tmp_path / "keep.txt", "a.png\n\n  deep/c d.png  \r\n")
    reject = write(tmp_path / "reject.txt", "e,f.png")
    assert guided(keep=keep, reject=reject) == [KEEP, UNGUIDED, KEEP, REJECT]


@pytest.mark.parametrize("name", ["review.csv", "review"])
def test_a_csv_file_names_images_in_its_column_name(tmp_path: Path, name: str) -> None:
    review = write(tmp_path / name, 'index,name,score\n3,"e,f.png",2.1\n1,b.png,1.9\n')
    assert guided(reject=review) == [UNGUIDED, REJECT, UNGUIDED, REJECT]


def test_labels_call_images_normal_or_defective(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", 'name,label\na.png,0\nb.png,Good\ndeep/c d.png,scratch\n"e,f.png",1\n')
    assert guided(labels=labels) == [KEEP, KEEP, REJECT, REJECT]


def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfname,label\r\na.png,crack\r\n")
    assert guided(labels=tmp_path / "labels.csv")[0] == REJECT


def test_a_name_that_is_no_utf8_is_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / "keep.txt").write_bytes(b"caf\xe9.png\n")
    assert read_guidance(GuidanceFiles.of(keep=tmp_path / "keep.txt"), ["a.png", name]).keep.tolist() == [False, True]


def test_unknown_names_are_refused_with_some_of_them(tmp_path: Path) -> None:
    keep = write(tmp_path / "keep.txt", "a.png\n1\n2\n3\n4\n")
    with pytest.raises(
        DataError,
        match=r"--keep .*keep\.txt names 4 images that are not in the training set: '1', '2', '3', \.\.\.; "
        r"expected names of its images, such as 'a\.png'",
    ):
        guided(keep=keep)


def test_a_word_about_a_skipped_image_is_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reject = write(tmp_path / "reject.txt", "bad.png\na.png\n")
    with caplog.at_level(logging.WARNING, logger="train.data.guidance"):
        guidance = read_guidance(GuidanceFiles.of(reject=reject), NAMES, {"bad.png"})
    assert guidance.reject.tolist() == [True, False, False, False]
    assert caplog.messages == ["--reject names 1 skipped images: 'bad.png'"]


def test_an_image_that_two_files_call_differently_is_refused(tmp_path: Path) -> None:
    keep = write(tmp_path / "keep.txt", "a.png\n")
    reject = write(tmp_path / "reject.txt", "a.png\n")
    with pytest.raises(DataError, match=r"'a\.png' is called normal by --keep and anomalous by --reject; take it out"):
        guided(keep=keep, reject=reject)


def test_files_that_agree_may_overlap(tmp_path: Path) -> None:
    reject = write(tmp_path / "reject.txt", "a.png\n")
    labels = write(tmp_path / "labels.csv", "name,label\na.png,crack\n")
    assert guided(reject=reject, labels=labels)[0] == REJECT


def test_labels_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    labels = write(tmp_path / "labels.csv", "name,label\na.png,0\na.png,1\n")
    with pytest.raises(DataError, match=r"labels\.csv calls 'a\.png' both normal and anomalous"):
        guided(labels=labels)


def test_an_image_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a\.png' has no label; expected 0 or good for normal"):
        guided(labels=write(tmp_path / "labels.csv", "name,label\na.png\n"))


def test_a_table_without_the_column_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has columns a\.png, 1; expected a first line that names name and label"):
        guided(labels=write(tmp_path / "labels.csv", "a.png,1\n"))
    with pytest.raises(DataError, match=r"has columns none; expected a first line that names name"):
        guided(keep=write(tmp_path / "keep.csv", ""))


def test_a_photograph_where_a_table_belongs_is_no_text(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01")
    with pytest.raises(DataError, match=r"photo\.jpg is no CSV text; expected lines name,label, the first one saying"):
        guided(labels=photo)
    with pytest.raises(DataError, match=r"photo\.jpg is no text; expected one name of an image a line"):
        guided(keep=photo)


def test_rejecting_every_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"call all 4 images anomalous; nothing is left to train on"):
        guided(reject=write(tmp_path / "reject.txt", "\n".join(NAMES)))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*nowhere\.txt: No such file"):
        GuidanceFiles.of(keep=tmp_path / "nowhere.txt")


def test_a_file_that_changed_since_the_run_began_is_refused(tmp_path: Path) -> None:
    files = GuidanceFiles.of(keep=write(tmp_path / "keep.txt", "a.png\n"))
    write(tmp_path / "keep.txt", "b.png\n")
    with pytest.raises(DataError, match=r"keep\.txt has changed since the run began; put the old one back"):
        read_guidance(files, NAMES)


def test_guidance_goes_with_the_training_set_and_survives_json(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((20, 16, 16), dtype=np.uint8))
    files = GuidanceFiles.of(labels=write(tmp_path / "labels.csv", "name,label\n3,scratch\n4,0\n"))
    settings = DataSettings(path=str(tmp_path / "set.npz"), guidance=files)
    assert DataSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    guidance = load_training_set(settings, "conv").guidance
    assert np.flatnonzero(guidance.reject).tolist() == [3]
    assert np.flatnonzero(guidance.keep).tolist() == [4]
    assert len(Guidance.none(20)) == len(guidance)
