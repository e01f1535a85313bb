"""Files are written whole or not at all; what cannot be is named. Full disks: test_bundle, test_evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.errors import DataError
from edge_runtime.files import check_file_place, check_folder_place, csv_bytes, write_atomically, write_file


def test_a_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "x.aae" / "inner").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot write .*x\.aae: Is a directory"):
        write_atomically(tmp_path / "x.aae", b"content")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "x.aae", tmp_path / "x.aae" / "inner"]


def test_a_written_file_replaces_the_old_one_and_is_readable_by_other_users(tmp_path: Path) -> None:
    path = tmp_path / "x.aae"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_written_in_place_makes_its_folders_and_keeps_other_links_to_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "x.csv"
    write_file(path, b"old")
    (tmp_path / "link").hardlink_to(path)
    write_file(path, b"new")
    assert (tmp_path / "link").read_bytes() == b"new"


@pytest.mark.parametrize("write", [write_file, write_atomically])
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, write: object) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot write .*x/y: "):
        write(tmp_path / "x" / "y", b"content")  # type: ignore[operator]


def test_csv_lines_keep_the_bytes_of_names_that_are_no_utf_8() -> None:
    assert csv_bytes(["name", "n"], [["a\udcfc,b", 1], ["\u00e4", 2]]) == b'name,n\n"a\xfc,b",1\n\xc3\xa4,2\n'


def test_where_nothing_can_be_made_is_known_before_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file/x.html", tmp_path / "file/deep/x.html"):
        with pytest.raises(DataError, match=r"cannot write .*x\.html: Not a directory"):
            check_file_place(place)
        with pytest.raises(DataError, match=r"cannot make the folder .*x\.html: Not a directory; name another --out"):
            check_folder_place(place)
    check_file_place(tmp_path / "new/deep/x.html")
    check_folder_place(tmp_path / "new/deep")
    check_folder_place(tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
