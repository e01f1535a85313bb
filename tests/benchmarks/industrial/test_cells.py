"""Cells: who is mixed in and who is tested, what a finished one stands for, and the links that are trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.industrial.cells import MIXED_IN, Cell, Store, Variant, lay_out, replaced, source_of
from benchmarks.industrial.photographs import PhotographSet, Places, find
from edge_runtime.errors import DataError
from tests.benchmarks.industrial.conftest import MakeSet

DONE: dict[str, Any] = {"auroc": 0.9, "failures": []}
FAILED: dict[str, Any] = {"failures": [{"step": "train", "line": "no memory"}]}


@pytest.fixture
def photographs(tmp_path: Path, make_set: MakeSet) -> PhotographSet:
    make_set(n_train=16, hole=6, crack=4)
    return find("aliens", Places(data=tmp_path / "data", work=tmp_path / "work"))


def _cell(photographs: PhotographSet, *, source: str = "abc", arguments: tuple[str, ...] = (), **named: Any) -> Cell:
    variant = Variant(name="hog", arguments=arguments, tree=Path(), source=source)
    return Cell(photographs=photographs, variant=variant, **{"seed": 0, **named})


def _tested(cell: Cell) -> set[Path]:
    return {file for files in cell.split().defects.values() for file in files}


def test_a_clean_cell_tests_every_defect(photographs: PhotographSet) -> None:
    split = _cell(photographs).split()
    assert split.mixed_in == ()
    assert split.n_defects == 10
    assert split.train == photographs.train


@pytest.mark.parametrize("seed", range(4))
def test_none_that_is_mixed_in_is_tested_at_any_share(photographs: PhotographSet, seed: int) -> None:
    shares = (0.0, 0.1, 0.2)
    cells = [_cell(photographs, seed=seed, share=share, reserved=0.2) for share in shares]
    mixed = [set(cell.split().mixed_in) for cell in cells]
    assert [len(of_cell) for of_cell in mixed] == [0, 2, 4]  # 2 of 18, 4 of 20
    assert mixed[0] < mixed[1] < mixed[2]
    assert _tested(cells[0]) == _tested(cells[1]) == _tested(cells[2])
    assert len(_tested(cells[0])) == 6
    assert not mixed[2] & _tested(cells[0])


def test_the_seed_draws_who_is_mixed_in(photographs: PhotographSet) -> None:
    drawn = {_cell(photographs, seed=seed, share=0.2, reserved=0.2).split().mixed_in for seed in range(6)}
    assert len(drawn) > 1


@pytest.mark.parametrize("seed", range(4))
def test_defects_in_others_place_leave_the_number_and_one_test_for_all_shares(
    photographs: PhotographSet, seed: int
) -> None:
    splits = [replaced(photographs, share=share, reserved=0.25, seed=seed) for share in (0.0, 0.125, 0.25)]
    assert [(len(split.train), len(split.mixed_in)) for split in splits] == [(16, 0), (14, 2), (12, 4)]
    assert set(splits[2].train) < set(splits[1].train) < set(splits[0].train) == set(photographs.train)
    assert set(splits[1].mixed_in) < set(splits[2].mixed_in)
    tested = [{file for files in split.defects.values() for file in files} for split in splits]
    assert tested[0] == tested[1] == tested[2]
    assert len(tested[0]) == 6
    assert not tested[0] & set(splits[2].mixed_in)
    with pytest.raises(DataError, match="70 % takes 11 defects, and there are 10"):
        replaced(photographs, share=0.0, reserved=0.7, seed=seed)


def test_a_share_that_leaves_no_defect_to_test_is_refused(photographs: PhotographSet) -> None:
    with pytest.raises(DataError, match="40 % takes 11 defects, and there are 10"):
        _cell(photographs, reserved=0.4).split()


def test_links_are_laid_out_with_their_masks(photographs: PhotographSet, tmp_path: Path) -> None:
    cell = _cell(photographs, share=0.2, reserved=0.2)
    split = cell.split()
    lay_out(split, dict(photographs.masks), tmp_path / "laid")
    trained = sorted(path.name for path in (tmp_path / "laid/train").iterdir())
    assert len(trained) == 20
    assert sum(name.startswith(MIXED_IN) for name in trained) == 4
    tested = {path.resolve() for path in (tmp_path / "laid/test").rglob("*.png")}
    assert tested == {file.resolve() for file in _tested(cell)} | {file.resolve() for file in split.good}
    assert len(list((tmp_path / "laid/ground_truth").rglob("*_mask.png"))) == 6
    with pytest.raises(DataError, match="two photographs called"):
        lay_out(split, {}, tmp_path / "laid")


def test_a_finished_cell_stands_while_nothing_it_depends_on_changes(photographs: PhotographSet, tmp_path: Path) -> None:
    store = Store(tmp_path / "cells")
    store.add(_cell(photographs), DONE)
    again = Store(tmp_path / "cells")
    result = again.get(_cell(photographs))
    assert result is not None
    assert result["auroc"] == 0.9
    others = [
        _cell(photographs, seed=1),
        _cell(photographs, source="def"),
        _cell(photographs, arguments=("--refine", "none")),
        _cell(photographs, reserved=0.2),
    ]
    assert [again.get(cell) for cell in others] == [None] * 4
    photographs.train[0].write_bytes(b"another")
    assert again.get(_cell(photographs)) is None


def test_another_source_stands_where_it_was_allowed_and_the_newest_of_them(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    earlier = Store(tmp_path / "cells").add(_cell(photographs, source="older"), DONE)
    Store(tmp_path / "cells").add(_cell(photographs, source="newer"), {**DONE, "auroc": 0.95})
    store = Store(tmp_path / "cells", [earlier], any_source=True)
    result = store.get(_cell(photographs, source="newest"))
    assert result is not None
    assert result["key"]["source"] == "newer"


def test_a_table_of_before_stands_in_for_files_that_are_gone(photographs: PhotographSet, tmp_path: Path) -> None:
    result = Store(tmp_path / "cells").add(_cell(photographs), DONE)
    kept = json.loads(json.dumps(result))
    assert Store(tmp_path / "elsewhere", [kept]).get(_cell(photographs)) == result


def test_a_failed_cell_is_finished_until_it_is_tried_again_or_given_more_time(
    photographs: PhotographSet, tmp_path: Path
) -> None:
    store, cell = Store(tmp_path / "cells"), _cell(photographs)
    store.add(cell, FAILED)
    assert store.get(cell, limit_s=1e9) is not None
    assert store.get(cell, retry=True) is None
    store.add(cell, {**FAILED, "out_of_time_s": 60.0})
    assert store.get(cell, limit_s=60.0) is not None
    assert store.get(cell, limit_s=61.0) is None


def test_the_source_is_that_of_the_products_python_files(stand_in: Path) -> None:
    first = source_of(stand_in)
    (stand_in / "calls.txt").write_text("train")
    assert source_of(stand_in) == first
    (stand_in / "train/more.py").touch()
    assert source_of(stand_in) != first
    with pytest.raises(DataError, match="expected a checkout of edge-aae"):
        source_of(stand_in / "train")
