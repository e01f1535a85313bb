"""`edge-aae review` in a real browser, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.serving.access import Access, Refusal
from tests.edge_aae.conftest import ROOT, Cli
from tests.edge_aae.device.hostile_requests import REQUESTS, send_all
from tests.edge_aae.pages.browser import FirstHeld, browser, watched
from tests.edge_aae.pages.test_live_page import SCREENSHOTS
from train.intake.feedback_images import FeedbackImages
from train.pages import review_server
from train.pages.review_server import ReviewPage

pytest.importorskip("starlette", reason="starlette is not installed")


@pytest.fixture
def run(workplace: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree((workplace / "runs/latest").resolve(), tmp_path / "run"))


@pytest.fixture
def address(run: Path, tmp_path: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_aae", "review", run, "--serve", ":0"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if found := re.search(r"review at (\S+)$", line):
            break
    assert found, said
    yield found[1]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert "edge-aae train" in out


def counts(looked: int, n: int, keep: int, reject: int) -> str:
    told = f"{looked} of {n} looked at: {keep} keep, {reject} reject"
    return f"document.querySelector('#counts').textContent === '{told}'"


def names(file: Path) -> list[str]:
    with file.open(newline="") as stream:
        return [row["name"] for row in csv.DictReader(stream)]


@pytest.mark.slow
def test_images_are_kept_and_rejected_and_a_training_takes_it(
    run: Path, address: str, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    shots = SCREENSHOTS if SCREENSHOTS.is_dir() else tmp_path
    with browser() as opened:
        one = watched(opened)
        page = one.page
        page.goto(address)
        page.wait_for_selector(".shot")
        n_rejected = page.locator(".shot").count()
        assert n_rejected == sum(
            row["kept"] == "0" for row in csv.DictReader((run / "refinement.csv").read_text().splitlines())
        )
        one.until("document.querySelectorAll('.shot.current').length === 1")
        page.keyboard.press("k")  # without a click, on the first
        page.wait_for_selector('.shot:first-child[data-verdict="keep"]')
        page.keyboard.press("r")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("k")
        one.until(counts(3, n_rejected, 2, 1))
        one.until("document.querySelector('#progress').value === 3")
        assert page.evaluate("document.querySelector('#progress').max") == n_rejected
        assert "set aside" in page.inner_text(".why")
        page.locator(".shot .picture").nth(1).click()
        page.wait_for_selector("#zoom[open]")
        one.until("document.querySelector('#large').naturalWidth === 48")  # the photograph, not the network's 32x32
        assert "Set aside: " in page.inner_text("#large-why")
        page.keyboard.press("u")
        one.until(counts(2, n_rejected, 2, 0))
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("r")
        one.until(counts(3, n_rejected, 2, 1))
        page.keyboard.press("Escape")
        one.until("!document.querySelector('#zoom').open")
        page.mouse.click(5, 500)  # beside everything: keys go on working
        page.keyboard.press("ArrowLeft")
        one.until("document.activeElement.className === 'picture'")
        one.until("[...document.images].some((image) => image.naturalWidth > 0)")
        one.shot(shots / "review-1280.png")
        assert "--keep" in page.inner_text("#command")
        page.reload()
        page.wait_for_selector('.shot[data-verdict="reject"]')
        assert page.locator('.shot[data-verdict="keep"]').count() == 2
        assert one.errors == []
        phone = watched(opened, width=360, height=740, scheme="dark")
        phone.page.goto(address)
        phone.page.wait_for_selector(".shot")
        assert phone.overflow() <= 0
        phone.shot(shots / "review-360.png")
        phone.page.locator(".shot .answers .keep").nth(3).click()
        phone.until(counts(4, n_rejected, 3, 1))
        phone.page.locator(".shot .picture").nth(3).click()
        phone.page.wait_for_selector("#zoom[open]")
        assert phone.overflow() <= 0
        phone.shot(shots / "review-zoom-360.png")
        assert phone.errors == []
        page.locator("text=Leave all open").first.click()
        one.until(counts(0, n_rejected, 0, 0))
        page.locator("text=Reject all").first.click()
        one.until("document.querySelectorAll('.shot[data-verdict=\"reject\"]').length > 3")
    kept, rejected = names(run / "review-keep.csv"), names(run / "review-reject.csv")
    assert len(rejected) == n_rejected
    assert not kept
    trained = cli("train", photos / "train", "--reject", run / "review-reject.csv", "--network", "conv",
                  "--imgsz", "32x32", "--epochs", "1", "--no-report", cwd=tmp_path)  # fmt: skip
    assert trained.returncode == 0, trained.stderr


def test_the_last_decision_is_what_is_shown_and_kept_whichever_answer_comes_last(run: Path, address: str) -> None:
    with browser() as opened:
        one = watched(opened)
        page = one.page
        held = FirstHeld(page, "**/api/verdicts")
        page.goto(address)
        page.wait_for_selector(".shot.current")
        n = page.locator(".shot").count()
        for key in ("k", "r", "ArrowLeft", "k"):
            page.keyboard.press(key)
        held.let_go()
        one.until(counts(2, n, 2, 0))
        page.wait_for_timeout(300)
        assert page.evaluate(counts(2, n, 2, 0))
        assert held.n_asked == 3
        assert one.errors == []
    assert len(names(run / "review-keep.csv")) == 2
    assert not names(run / "review-reject.csv")


def test_what_is_not_saved_is_shown_as_it_was_saved_last(run: Path, address: str) -> None:
    with browser() as opened:
        page = watched(opened).page
        page.goto(address)
        page.wait_for_selector(".shot.current")
        page.keyboard.press("k")
        page.wait_for_selector("#counts >> text=1 keep")
        page.route("**/api/verdicts", lambda route: route.abort())
        for key in ("ArrowLeft", "r", "ArrowLeft", "u"):
            page.keyboard.press(key)
        page.wait_for_selector("#banner:visible >> text=Not saved")
        page.wait_for_selector('.shot:first-child[data-verdict="keep"]')
    assert len(names(run / "review-keep.csv")) == 1


def test_a_decision_that_failed_takes_back_none_that_came_later(run: Path, address: str) -> None:
    with browser() as opened:
        page = watched(opened).page
        asked: list[Any] = []

        def first_fails(route: Any) -> None:
            asked.append(route)
            if len(asked) > 1:
                route.continue_()

        page.route("**/api/verdicts", first_fails)
        page.goto(address)
        page.wait_for_selector(".shot.current")
        for key in ("k", "ArrowLeft", "r", "ArrowLeft", "k"):
            page.keyboard.press(key)
        page.wait_for_timeout(300)
        asked[0].abort()
        page.wait_for_selector("#counts >> text=1 keep")
        page.wait_for_selector("#banner:visible >> text=Not saved")
        assert page.get_attribute(".shot:first-child", "data-verdict") == "keep"
        assert len(asked) == 3
    assert len(names(run / "review-keep.csv")) == 1


def test_a_page_of_another_site_a_stranger_and_other_images_are_refused(run: Path, address: str) -> None:
    def status(path: str, body: object = None, **headers: str) -> int:
        request = urllib.request.Request(
            f"{address}{path}", None if body is None else json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    own = {"Origin": address.rstrip("/")}
    rejected = [
        int(row["index"])
        for row in csv.DictReader((run / "refinement.csv").read_text().splitlines())
        if row["kept"] == "0"
    ]
    kept = [
        int(row["index"])
        for row in csv.DictReader((run / "refinement.csv").read_text().splitlines())
        if row["kept"] == "1"
    ]
    body = {"indices": rejected[:1], "verdict": "keep"}
    assert status("api/verdicts", body, Origin="http://evil.example") == 403
    assert status("api/verdicts", body) == 403
    assert status("api/groups", None, Host="evil.example") == 403
    assert status("api/verdicts", {"indices": kept[:1], "verdict": "keep"}, **own) == 400
    assert status("api/verdicts", {"indices": ["../x"], "verdict": "keep"}, **own) == 400
    assert status("api/verdicts", {"indices": rejected, "verdict": "burn"}, **own) == 400
    assert status(f"api/images/{rejected[0]}") == status(f"api/photographs/{rejected[0]}") == 200
    of_kept = (f"api/images/{kept[0]}", f"api/photographs/{kept[0]}")
    for path in ("api/images/../../config.json", *of_kept, "api/images/1e3", "api/images/" + "9" * 5000, "review.py"):
        assert status(path) == 404
    assert not (run / "review-keep.csv").exists()
    assert status("api/verdicts", body, **own) == 200
    assert len(names(run / "review-keep.csv")) == 1


def test_groups_that_the_report_has_left_are_shown_before_all_images_are_read(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page of 300 photographs of 800x800 had all of them read, and a network run over them, before it came."""

    def page() -> ReviewPage:
        return ReviewPage(run, Access("127.0.0.1", ""))

    kept = page()
    assert (run / "groups.csv").is_file()
    (run / "groups.csv").unlink()
    assert page().told() == kept.told()
    assert page().images is None
    assert (run / "groups.csv").is_file()
    monkeypatch.setattr(review_server, "load_training_set", lambda *_: pytest.fail("all images were read"))
    assert page().told() == kept.told()
    (run / "groups.csv").write_text("name,group,spread\nother.png,1,0.5\n")
    with pytest.raises(pytest.fail.Exception, match="all images were read"):
        page()


def test_a_run_that_set_nothing_aside_has_no_image_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run / "refinement.csv"
    with table.open(newline="") as stream:
        rows = [{**row, "kept": "1", "round": "", "reason": ""} for row in csv.DictReader(stream)]
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (run / "groups.csv").unlink()
    monkeypatch.setattr(review_server, "load_training_set", lambda *_: pytest.fail("all images were read"))
    assert ReviewPage(run, Access("127.0.0.1", "")).told()["groups"] == []


def test_nothing_is_decided_about_other_images_than_the_runs(run: Path) -> None:
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(re.sub(r'"images_sha256": "[^"]*"', '"images_sha256": "00"', config))
    page = ReviewPage(run, Access("127.0.0.1", ""))
    assert page.images is None
    page.check()
    with pytest.raises(Refusal, match="holds other images than"):
        page.decide([int(page.groups[0].members[0])], "keep")
    assert not (run / "review-keep.csv").exists()


def test_a_name_that_leaves_the_folder_shows_nothing(run: Path) -> None:
    page = ReviewPage(run, Access("127.0.0.1", ""))
    index = int(page.groups[0].members[0])
    assert page._picture(index, 16)[3] == "image/jpeg"
    assert page._picture(index, 4000)[3] == "image/png"
    for name in ("../../config.json", "/etc/hostname"):
        page.names[index] = name
        with pytest.raises(Refusal, match="no such image"):
            page._picture(index, 16)


def test_the_next_training_has_the_defects_and_answers_of_the_run_too(run: Path, tmp_path: Path) -> None:
    page = ReviewPage(run, Access("127.0.0.1", ""))
    page.decide([next(iter(page._rejected))], "keep")
    answered = FeedbackImages(good=(str(tmp_path / "what people said/images/a.png"),), defects=())
    page.config = replace(page.config, data=replace(page.config.data, known_bad="some bad", feedback=answered))
    words = shlex.split(page.command())
    assert words[:2] == ["edge-aae", "train"]
    said = str(tmp_path / "what people said")
    assert words[3:] == ["--keep", str(run / "review-keep.csv"), "--known-bad", "some bad", "--feedback", said]


def test_a_run_whose_images_are_gone_is_an_error(run: Path, cli: Cli, tmp_path: Path) -> None:
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(re.sub(r'"path": "[^"]*"', '"path": "/nowhere"', config))
    ended = cli("review", run, cwd=tmp_path)
    assert (ended.returncode, "no data at /nowhere" in ended.stderr) == (1, True)


@pytest.mark.slow
def test_whatever_is_asked_of_it_is_answered_and_silent_connections_lock_out_nobody(run: Path, address: str) -> None:
    """The review had no bound on either."""
    port = int(address.rsplit(":", 1)[1].strip("/"))
    before = {file: file.read_bytes() for file in run.iterdir() if file.is_file() and file.name != "review-keep.csv"}
    with ExitStack() as open_ones:
        for _ in range(300):
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        sent = send_all(port)
        assert json.loads(urllib.request.urlopen(f"{address}api/groups", timeout=20).read())["groups"]
    assert sent.failed == []
    assert sum(sent.statuses.values()) == len(REQUESTS)
    assert {file: file.read_bytes() for file in before} == before
