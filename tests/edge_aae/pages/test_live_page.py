"""`edge-aae run --serve` in a real browser: what somebody at the machine sees and does."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from tests.edge_aae.conftest import Cli
from tests.edge_aae.device.running import Running
from tests.edge_aae.pages.browser import browser, watched

pytest.importorskip("starlette", reason="starlette is not installed")

SCREENSHOTS = Path(os.environ.get("EDGE_AAE_SCREENSHOTS", "/nonexistent"))
"""Where pictures of the pages are kept to be looked at; a folder of the test's own where it is not set."""


def address_of(run: Running) -> str:
    run.wait_for(lambda: any("live page at" in line for line in run.said), "the live page")
    line = next(line for line in run.said if "live page at" in line)
    return re.search(r"http://\S+", line)[0]  # type: ignore[index]


@pytest.mark.slow
def test_the_live_page_shows_a_run_and_takes_what_people_say(
    workplace: Path, photos: Path, cli: Cli, tmp_path: Path
) -> None:
    shots = SCREENSHOTS if SCREENSHOTS.is_dir() else tmp_path
    name = "<img src=x onerror=alert(1)>"
    (tmp_path / name).mkdir()
    for number, file in enumerate(sorted((photos / "train/c").iterdir())[:8]):
        (tmp_path / name / f"{number}.png").write_bytes(file.read_bytes())
    steady = f"test://pattern?fps=20&width=96&height=80&images={photos / 'train/c'}"
    faulty = f"test://freeze?fps=20&width=96&height=80&at=12&for=600&images={tmp_path / name}"
    arguments = ("--source", steady, "--source", faulty, "--model", workplace / "model.aae", "--threshold", "1e6",
                 "--alarm", "2/3", "--clear-frames", "2", "--stall-timeout", "2", "--serve", ":0")  # fmt: skip
    with browser() as opened, Running(*arguments, cwd=tmp_path) as run:
        one = watched(opened)
        page = one.page
        page.goto(address_of(run))
        card = page.locator(".card").first
        page.wait_for_selector('.card[data-state="normal"]')

        # The picture moves, and the chart grows.
        one.until("document.querySelector('.card').dataset.pictures > 2")
        shown = card.get_attribute("data-frame")
        points = int(card.get_attribute("data-points"))
        one.until(f"document.querySelector('.card').dataset.frame != {shown}")
        one.until(f"document.querySelector('.card').dataset.points > {points + 5}")
        colours = page.evaluate(
            "(() => { const c = document.querySelector('.card canvas');"
            " const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; return new Set(d).size; })()"
        )
        assert colours > 10

        # A threshold is previewed, and takes effect: the alarm appears, and clears again.
        page.keyboard.press("2")
        page.fill("#threshold-input", "-1000000")
        one.until("/\\d+ of \\d+/.test(document.querySelector('#preview').textContent)")
        page.click("#threshold-use")
        assert page.locator('.card[data-state="alarm"]').count() == 0
        page.click("#confirm-yes")
        page.wait_for_selector('.card.alarm[data-state="alarm"]')
        run.wait_for(lambda: run.frames()[-1]["threshold"] == -1e6, "the threshold in the records")
        assert "THRESHOLD_SET" in run.statuses()
        page.keyboard.press("Tab")
        page.click("#tab-events")
        page.wait_for_selector("#event-list li img")
        one.until("document.querySelector('#event-list img').naturalWidth > 0")
        one.shot(shots / "live-1280.png")
        page.click("#tab-threshold")
        page.fill("#threshold-input", "1000000")
        page.click("#threshold-use")
        page.click("#confirm-yes")
        page.wait_for_selector('.card:not(.alarm)[data-state="normal"]')

        # Feedback, by mouse and by key, lands where a training finds it.
        page.click("#tab-events")
        page.locator("#event-list li").first.locator('[data-answer="wrong"]').click()
        page.wait_for_selector('#event-list [data-answer="wrong"][aria-pressed="true"]')
        table = tmp_path / "feedback/labels.csv"
        with table.open() as stream:
            (label,) = csv.DictReader(stream)
        assert label["label"] == "good"
        page.keyboard.press("j")
        page.keyboard.press("r")
        page.wait_for_selector('#event-list [data-answer="right"][aria-pressed="true"]')
        page.wait_for_selector("#training:visible >> text=1 defect")
        named = page.inner_text("#training-command")
        assert named.startswith("edge-aae train PHOTOS --feedback ")

        # What stalls is said within the timeout, and its picture is not passed off as live.
        run.wait_for_status("SOURCE_STALLED")
        stalled = page.locator('.card[data-state="stalled"]')
        stalled.wait_for(timeout=5000)
        assert "down" in stalled.get_attribute("class")
        assert stalled.locator(".score b").inner_text() == "\u2013"
        assert "no data since" in stalled.locator(".state").inner_text()
        assert page.locator(".card").first.get_attribute("data-state") == "stalled"
        page.click("#tab-messages")
        page.wait_for_selector("#message-list >> text=gives no good frame any more")
        page.click("#tab-health")
        page.click("#doctor-button")
        page.wait_for_selector("#doctor-list >> text=onnxruntime-cpu")

        # Names are text: no image of theirs was made, nothing ran.
        assert name in page.inner_text("#health")
        assert page.locator("img[onerror]").count() == 0
        assert one.errors == []
        assert {url.split("/")[2] for url in one.requests if url.startswith("http")} == {address_of(run).split("/")[2]}

        phone = watched(opened, width=360, height=740, scheme="dark")
        phone.page.goto(address_of(run))
        phone.page.wait_for_selector('.card[data-state="normal"]')
        phone.until("document.querySelector('.card[data-state=normal]').dataset.pictures > 1")
        phone.page.wait_for_selector("#event-list img")
        assert phone.overflow() <= 0
        phone.shot(shots / "live-360.png")
        for button in phone.page.locator("button:visible").all():
            assert button.bounding_box()["height"] >= 38

        # The run ends: the page says so, and shows nothing as live.
        run.process.send_signal(signal.SIGTERM)
        page.wait_for_selector("#banner:visible")
        assert page.inner_text("#connection") == "no data"
        assert page.locator(".card.down").count() == 2
        assert run.end() == 0

    trained = cli(*shlex.split(named)[1:2], photos / "train", *shlex.split(named)[3:], "--network", "conv", "--imgsz",
                  "32x32", "--epochs", "1", cwd=tmp_path)  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    with table.open() as stream:
        labels = {row["name"]: row["label"] for row in csv.DictReader(stream)}
    run = tmp_path / "runs/latest"
    with (run / "refinement.csv").open() as stream:
        names = {Path(row["name"]).name for row in csv.DictReader(stream)}
    assert names & set(labels) == {name for name, label in labels.items() if label == "good"}
    known = json.loads((run / "calibration.json").read_text())["calibration"]["known_bad"]
    assert known is not None or "known defects do not move the threshold" in trained.stderr


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


def test_elsewhere_than_on_the_loopback_the_address_has_a_token(model: Path, tmp_path: Path) -> None:
    arguments = ("--source", "test://pattern?fps=20&width=64&height=48", "--model", model)
    with browser() as opened, Running(*arguments, "--serve", "0.0.0.0:0", cwd=tmp_path) as run:
        port = re.search(r":(\d+)/", address_of(run))[1]  # type: ignore[index]
        token = (tmp_path / "edge-aae-live-page").read_text().strip().split("token=")[1]
        assert len(token) >= 20
        assert token not in "".join(run.said)
        one = watched(opened)
        answer = one.page.goto(f"http://127.0.0.1:{port}/")
        assert answer.status == 401
        one.page.goto(f"http://127.0.0.1:{port}/?token={token}")
        one.page.wait_for_selector("#connection.good")
        assert token not in one.page.url
        assert run.stop() == 0


def test_who_may_look_alone_is_offered_nothing_that_changes_things(model: Path, tmp_path: Path) -> None:
    tokens = {"changes": "token-of-operators", "looks": "token-of-viewers-"}
    for name, token in tokens.items():
        (tmp_path / name).write_text(token)
        (tmp_path / name).chmod(0o600)
    arguments = ("--source", "test://pattern?fps=20&width=64&height=48", "--model", model, "--alarm", "1/1")
    served = ("--threshold", "-1e6", "--serve", ":0", "--serve-token", "@changes", "--serve-view-token", "@looks")
    with browser() as opened, Running(*arguments, *served, cwd=tmp_path) as run:
        address = address_of(run)
        for name, token in tokens.items():
            one = watched(opened)
            one.page.goto(f"{address}?token={token}")
            one.page.wait_for_selector("#event-list li", state="attached")
            one.page.click("#tab-threshold")
            assert one.page.locator("#threshold-use").is_visible() == (name == "changes")
            assert (one.page.locator("#event-list [data-answer]").count() > 0) == (name == "changes")
            assert one.errors == []
            if name == "changes":
                one.page.fill("#threshold-input", "7")
                one.page.click("#threshold-use")
                one.page.click("#confirm-yes")
        told = run.wait_for_status("THRESHOLD_SET")["payload"]
        assert (told["threshold"], told["by"]) == (7.0, {"role": "operator", "address": "127.0.0.1"})
        assert run.stop() == 0
