"""`edge-aae report`: the page that a training leaves, opened as its reader would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.edge_aae.conftest import Cli
from tests.edge_aae.pages.browser import browser, watched
from tests.edge_aae.pages.test_live_page import SCREENSHOTS


@pytest.fixture
def run(workplace: Path, tmp_path: Path) -> Path:
    """A copy of the trained run, its images where they were."""
    return Path(shutil.copytree((workplace / "runs/latest").resolve(), tmp_path / "run"))


def outside(page: str) -> list[str]:
    """Everything in a page that a browser would fetch."""
    named = re.findall(r"""(?:src|href|xlink:href)=["']([^"'#][^"']*)""", page) + re.findall(
        r"url\(([^)#][^)]*)\)", page
    )
    return [address for address in named if not address.startswith("data:")]


def test_training_leaves_a_page_that_says_how_to_do_it_again(workplace: Path) -> None:
    page = (workplace / "runs/latest/report.html").read_text()
    assert outside(page) == []
    assert "<script" not in page
    command = (workplace / "runs/latest/command.txt").read_text()
    assert command.startswith("edge-aae train ")
    assert "--imgsz 32x32 --epochs 40" in command
    assert "--imgsz 32x32 --epochs 40" in page
    for heading in ("Losses", "Scores of the training images", "Where the images lie", "Least anomalous"):
        assert f"<h2>{heading}</h2>" in page
    assert "false alarms" in page


@pytest.mark.slow
def test_the_page_opens_without_errors_and_without_a_network(
    workplace: Path, photos: Path, run: Path, cli: Cli, tmp_path: Path
) -> None:
    shots = SCREENSHOTS if SCREENSHOTS.is_dir() else tmp_path
    done = cli("report", run, photos / "test", "--out", tmp_path / "run.html", cwd=workplace)
    assert done.returncode == 0, done.stderr
    done = cli("report", "model.aae", photos / "test", "--out", tmp_path / "bundle.html", cwd=workplace)
    assert done.returncode == 0, done.stderr
    with browser() as opened:
        for name in ("run", "bundle"):
            for width, scheme in ((1280, "light"), (360, "dark")):
                one = watched(opened, width=width, scheme=scheme)
                one.page.goto(f"file://{tmp_path / name}.html")
                assert one.overflow() <= 0
                one.shot(shots / f"report-{name}-{width}.png")
                assert one.errors == []
                assert [url for url in one.requests if not url.startswith(("file://", "data:"))] == []
                assert one.page.locator("svg").count() >= 4
                assert "On labelled images" in one.page.inner_text("body")
                ink = one.page.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
                assert ink == one.page.evaluate("getComputedStyle(document.body).color")
            assert one.page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")


def test_names_in_a_page_are_text(run: Path, cli: Cli, tmp_path: Path) -> None:
    table = (run / "refinement.csv").read_text().splitlines()
    table[1] = table[1].replace(table[1].split(",")[1], "<script>alert(1)</script>.png")
    (run / "refinement.csv").write_text("\n".join(table) + "\n")
    (run / "command.txt").write_text("edge-aae train '<script>alert(2)</script>'\n")
    assert cli("report", run, cwd=tmp_path).returncode == 0
    assert "<script" not in (run / "report.html").read_text()


def test_a_page_without_the_images_says_so_and_one_of_no_run_is_an_error(run: Path, cli: Cli, tmp_path: Path) -> None:
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(re.sub(r'"path": "[^"]*"', '"path": "/nowhere"', config))
    assert cli("report", run, cwd=tmp_path).returncode == 0
    assert "No pictures: no data at" in (run / "report.html").read_text()
    (run / "refinement.csv").write_text("index\n")
    wrong = cli("report", run, cwd=tmp_path)
    assert (wrong.returncode, "refinement.csv cannot be read" in wrong.stderr) == (1, True)
    assert cli("report", tmp_path / "absent", cwd=tmp_path).returncode == 1
    unlabelled = cli("report", run, tmp_path, cwd=tmp_path)
    assert unlabelled.returncode == 1
