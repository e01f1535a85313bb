"""`edge-aae report`: the page that a training leaves, opened as its reader would."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

from tests.edge_aae.conftest import Cli
from tests.edge_aae.pages.browser import browser, watched
from tests.edge_aae.pages.test_live_page import SCREENSHOTS
from train.pages.examples import BEST, BORDERLINE, WORST


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
    assert re.findall("<h2>(.*?)</h2>", page) == ["What was set aside", "Where the threshold lies"]
    for heading in ("Losses", "Where the images lie", "Least anomalous", "The run", "The same again"):
        assert f"<details>\n<summary>{heading}</summary>" in page


def opened(page: str) -> tuple[str, dict[str, str], list[str]]:
    """The sentence that a page opens with, its four figures, and the captions of its pictures."""
    assert page.index('class="verdict') < page.index('class="four"') < page.index('class="eight"') < page.index("<h2>")
    sentence = re.search(r'class="verdict \w+"><span class="heard">Verdict: </span>(.*?)</p>', page)
    assert sentence is not None
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd[^>]*><b>(.*?)</b>", page))
    pictures = re.findall(r"<figure><img [^>]*><img [^>]*><figcaption>(.*?)</figcaption>", page)
    return html.unescape(sentence[1]), figures, pictures


def said(stdout: str) -> str:
    (verdict,) = (line.removeprefix("verdict: ") for line in stdout.splitlines() if line.startswith("verdict: "))
    return verdict[:1].upper() + verdict[1:]


def test_a_page_opens_with_what_the_terminal_said_four_figures_and_eight_pictures(
    workplace: Path, run: Path, cli: Cli, tmp_path: Path
) -> None:
    for model, n_parts in ((run, "40"), (workplace / "model.aae", "40")):
        done = cli("report", model, "--out", tmp_path / "page.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        sentence, figures, pictures = opened((tmp_path / "page.html").read_text())
        assert sentence == said(done.stdout)
        assert list(figures) == ["parts looked at", "defects found", "false alarms", "time a part"]
        assert figures["parts looked at"] == n_parts
        assert figures["defects found"] == figures["time a part"] == "not measured"
        assert figures["false alarms"].endswith(" of 1,000")
        assert len(pictures) == 8
        assert [sum(why in told for told in pictures) for why in (BEST, BORDERLINE, WORST)] == [3, 2, 3]


def test_with_labels_the_result_comes_first_and_is_counted(
    workplace: Path, photos: Path, run: Path, cli: Cli, tmp_path: Path
) -> None:
    for model in (run, workplace / "model.aae"):
        done = cli("report", model, photos / "test", "--out", tmp_path / "page.html", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        page = (tmp_path / "page.html").read_text()
        sentence, figures, pictures = opened(page)
        assert sentence == said(done.stdout)
        assert re.findall("<h2>(.*?)</h2>", page)[0] == "On labelled images"
        counted = re.search(r"finds (?:only )?(\d+) of 8 defects.* (\d+) false alarms? on 8 good", sentence)
        assert counted is not None
        assert (figures["parts looked at"], figures["defects found"]) == ("16", f"{counted[1]} of 8")
        assert figures["false alarms"] == f"{counted[2]} of 8"
        assert re.fullmatch(r"[\d.]+ m?s", figures["time a part"])
        assert len(pictures) == 8
        assert all(", a defect, " in told or ", good" in told for told in pictures)


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
