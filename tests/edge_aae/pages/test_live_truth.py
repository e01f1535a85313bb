"""The live page tells the truth at a glance: what is old is not shown as now, what is urgent comes first, and what was
kept is there after a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.scoring.detector import Detector
from tests.edge_aae.device.running import Running
from tests.edge_aae.pages.browser import FirstHeld, browser, watched
from tests.edge_aae.pages.test_live_page import address_of

pytest.importorskip("starlette", reason="starlette is not installed")

QUIET = "test://pattern?fps=10&width=64&height=48"


@pytest.fixture
def model(bundle: Bundle, tmp_path: Path) -> Path:
    bundle.write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_that_is_gone_or_hangs_is_shown_as_no_data_since_when(
    model: Path, tmp_path: Path, how: signal.Signals
) -> None:
    with browser() as opened, Running("--source", QUIET, "--model", model, "--serve", ":0", cwd=tmp_path) as run:
        one = watched(opened, width=360, height=740)
        page = one.page
        page.goto(address_of(run))
        page.wait_for_selector('.card[data-state]:not([data-state="waiting"])')
        one.until("document.querySelector('.card').dataset.pictures > 1")
        # The camera's state comes once a second, pictures before it.
        page.wait_for_selector('.card:not(.down) .score b:not(:text("\u2013"))')
        run.process.send_signal(how)
        page.wait_for_selector('.card.down[data-state="no data"]')
        assert page.inner_text(".score b") == "\u2013"
        assert page.inner_text(".score .state").startswith("no data since ")
        assert page.title().startswith("NO DATA since ")
        banner = page.locator("#banner")
        assert banner.inner_text().startswith("No data since ")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        box = banner.bounding_box()
        assert 0 <= box["y"] < 740 - box["height"]
        told = page.inner_text(".age")
        one.until(f"document.querySelector('.age').textContent !== {told!r}")
        if how == signal.SIGSTOP:
            run.process.send_signal(signal.SIGCONT)
            page.wait_for_selector('.card:not(.down) .score b:not(:text("\u2013"))')
            assert page.locator("#banner").is_hidden()


def test_the_third_camera_in_alarm_comes_first_on_a_phone(model: Path, tmp_path: Path) -> None:
    scores = {}
    for name, level in (("dark", 20), ("bright", 200)):
        (tmp_path / name).mkdir()
        image = np.full((48, 64, 3), level, np.uint8)
        cv2.imwrite(str(tmp_path / name / "0.png"), image)
        scores[name] = Detector.load(model).score(image).score
    usual, odd = sorted(scores, key=lambda name: scores[name])
    threshold = (scores[usual] + scores[odd]) / 2.0
    sources = [f"{QUIET}&images={tmp_path / name}&seed={seed}" for seed, name in enumerate((usual, usual, odd))]
    given = (word for source in sources for word in ("--source", source))
    with (
        browser() as opened,
        Running(*given, "--model", model, "--threshold", f"{threshold:g}", "--serve", ":0", cwd=tmp_path) as run,
    ):
        one = watched(opened, width=360, height=740)
        page = one.page
        page.goto(address_of(run))
        page.wait_for_selector('.card.alarm[data-state="alarm"]')
        one.until("document.querySelectorAll('.card[data-state=normal]').length === 2")
        assert page.locator(".card").first.get_attribute("data-source") == sources[2]
        assert page.inner_text("#summary").split("\n") == ["1 alarm", "2 normal"]
        assert page.title().startswith("(1) ALARM test://pattern (3)")
        assert one.overflow() <= 0
        for part in ("#summary", ".card.alarm .score", "#tab-events", "#tab-threshold", "#tab-messages", "#tab-health"):
            box = page.locator(part).bounding_box()
            assert box["x"] >= 0, part
            assert box["x"] + box["width"] <= 360, part
            assert box["y"] + box["height"] <= 740, part
        page.click("#summary >> text=2 normal")
        one.until("window.scrollY > 200")
        assert page.locator("#summary a").first.is_visible()
        page.click("#tab-health")
        assert page.locator("#health").is_visible()
        # The number and the picture are of one frame, as the records say.
        shown = "(() => { const c = document.querySelector('.card.alarm'); return [Number(c.dataset.frame),"
        shown += " c.querySelector('.score b').textContent, c.querySelector('.facts-line').textContent]; })()"
        for _ in range(5):
            frame, number, facts = page.evaluate(shown)
            assert f"frame {frame}" in facts.split(" · ")
            run.wait_for(lambda frame=frame: any(r["frame_id"] >= frame for r in run.frames()), "its record")
            (record,) = (r for r in run.frames() if r["frame_id"] == frame and r["source_id"] == sources[2])
            assert number == f"{record['score_smoothed']:.2f}"
            page.wait_for_timeout(300)
        assert one.errors == []


def test_a_threshold_kept_for_good_and_events_outlive_a_restart_and_are_taken_back(model: Path, tmp_path: Path) -> None:
    arguments = ("--source", QUIET, "--model", model, "--serve", ":0", "--snapshots", "snaps", "--clips", "clips")
    with browser() as opened:
        with Running(*arguments, cwd=tmp_path) as run:
            page = watched(opened).page
            page.goto(address_of(run))
            page.wait_for_selector(".card[data-points]")
            before = run.frames()[-1]["threshold"]
            page.click("#tab-threshold")
            page.click("#threshold-use")
            page.wait_for_selector("#preview >> text=Type a threshold first")
            page.fill("#threshold-input", "-1000000")
            page.wait_for_selector("#preview table td")
            page.click("#threshold-use")
            page.check("#keep")
            page.click("#confirm-yes")
            page.wait_for_selector("#threshold-history >> text=for good")
            page.wait_for_selector("#threshold-kept >> text=chosen by local of 127.0.0.1")
            page.click("#tab-events")
            page.wait_for_selector("#event-list li")
            run.wait_for(lambda: any((tmp_path / "snaps").rglob("*.jpg")), "the snapshot")
            assert run.stop() == 0
        assert (tmp_path / "feedback/events.db").stat().st_mode & 0o777 == 0o600
        with Running(*arguments, cwd=tmp_path) as run:
            one = watched(opened)
            page = one.page
            page.goto(address_of(run))
            page.wait_for_selector("#event-list li + li")  # the one of before beside that of now
            run.wait_for(lambda: run.frames()[-1]["threshold"] == -1e6, "the kept threshold")
            page.locator("#event-list li").last.locator(".open").click()
            page.wait_for_selector("#detail-chart canvas")
            assert page.locator("#detail-heat").evaluate("(c) => c.width") > 1
            page.wait_for_selector("#detail-files >> text=Download snapshot")
            page.click("#detail-files >> text=Play the clip")
            one.until("document.querySelector('#event-dialog').dataset.played > 1")
            page.click("#detail-close")
            page.locator("#event-list li").last.locator('[data-answer="wrong"]').click()  # its frame is kept too
            page.wait_for_selector('#event-list [data-answer="wrong"][aria-pressed="true"]')
            page.click("#tab-threshold")
            page.click("#threshold-undo")
            page.wait_for_selector("#threshold-history >> text=took back")
            run.wait_for(lambda: run.frames()[-1]["threshold"] == before, "the bundle's own threshold")
            assert not (tmp_path / "model.aae.calibration.json").exists()
            assert one.errors == []
            assert run.stop() == 0


def test_a_preview_that_comes_late_is_not_taken_for_the_threshold_that_was_typed_last(
    model: Path, tmp_path: Path
) -> None:
    with browser() as opened, Running("--source", QUIET, "--model", model, "--serve", ":0", cwd=tmp_path) as run:
        one = watched(opened)
        page = one.page
        held = FirstHeld(page, "**/api/preview*")
        page.goto(address_of(run))
        page.wait_for_selector(".card[data-points]")
        page.click("#tab-threshold")
        page.fill("#threshold-input", "1000")
        page.wait_for_timeout(400)
        page.fill("#threshold-input", "2000")
        page.click("#threshold-use")
        page.wait_for_selector("#confirm:visible >> text=2000")
        held.let_go()
        page.wait_for_selector("#preview >> text=2000")
        page.click("#confirm-yes")
        run.wait_for(lambda: run.frames()[-1]["threshold"] == 2000.0, "the threshold that was typed last")
        assert one.errors == []
        assert run.stop() == 0


def test_one_camera_gets_a_threshold_of_its_own(model: Path, tmp_path: Path) -> None:
    sources = ("--source", f"left={QUIET}", "--source", f"right={QUIET}&seed=5")
    with browser() as opened, Running(*sources, "--model", model, "--serve", ":0", cwd=tmp_path) as run:
        one = watched(opened)
        page = one.page
        page.goto(address_of(run))
        page.wait_for_selector(".card[data-points] >> nth=1")
        page.click("#tab-threshold")
        page.select_option("#threshold-of", label="right")
        page.fill("#threshold-input", "1234")
        page.wait_for_selector("#preview table td >> text=right")
        assert page.locator("#preview table td >> text=left").count() == 0
        page.click("#threshold-use")
        page.wait_for_selector("#confirm:visible >> text=of right from 1 to 1234, and of no other camera")
        page.click("#confirm-yes")
        page.wait_for_selector("#threshold-now >> text=1, of right 1234")
        page.wait_for_selector("#threshold-history >> text=changed the threshold of right from 1 to 1234")

        def in_force() -> dict[str, float]:
            return {record["source_id"]: record["threshold"] for record in run.frames()[-20:]}

        run.wait_for(lambda: in_force() == {"left": 1.0, "right": 1234.0}, "the threshold of one camera")
        page.click("#threshold-undo >> text=Undo: 1 for right again")
        run.wait_for(lambda: in_force() == {"left": 1.0, "right": 1.0}, "the threshold of before")
        assert one.errors == []
        assert run.stop() == 0


def test_a_run_without_an_alarm_rule_says_so(model: Path, tmp_path: Path) -> None:
    with (
        browser() as opened,
        Running("--source", QUIET, "--model", model, "--serve", ":0", "--alarm", "none", cwd=tmp_path) as run,
    ):
        page = watched(opened).page
        page.goto(address_of(run))
        page.wait_for_selector("#no-alarm:visible >> text=This run raises no alarm")
        assert run.stop() == 0
