"""`edge-aae review` in a real browser, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.edge_aae.conftest import ROOT, Cli
from tests.edge_aae.device.hostile_requests import REQUESTS, send_all
from tests.edge_aae.pages.browser import browser, watched
from tests.edge_aae.pages.test_live_page import SCREENSHOTS

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
        if found := re.search(r"review at (\S+);", line):
            break
    assert found, said
    yield found[1]
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert "edge-aae train" in out


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
        page.locator(".shot").first.click()
        page.wait_for_selector('.shot[data-verdict="keep"]')
        page.locator(".shot").nth(1).focus()
        page.keyboard.press("r")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("k")
        one.until(f"document.querySelector('#counts').textContent === '2 keep, 1 reject, {n_rejected - 3} open'")
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
        page.locator("text=Leave all open").first.click()
        one.until(f"/ {n_rejected} open|0 keep/.test(document.querySelector('#counts').textContent)")
        page.locator("text=Reject all").first.click()
        one.until("document.querySelectorAll('.shot[data-verdict=\"reject\"]').length > 3")
    kept, rejected = names(run / "review-keep.csv"), names(run / "review-reject.csv")
    assert len(rejected) == n_rejected
    assert not kept
    trained = cli("train", photos / "train", "--reject", run / "review-reject.csv", "--network", "conv",
                  "--imgsz", "32x32", "--epochs", "1", "--no-report", cwd=tmp_path)  # fmt: skip
    assert trained.returncode == 0, trained.stderr


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
    for path in ("api/images/../../config.json.png", f"api/images/{kept[0]}.png", "api/images/1e3.png", "review.py"):
        assert status(path) == 404
    assert not (run / "review-keep.csv").exists()
    assert status("api/verdicts", body, **own) == 200
    assert len(names(run / "review-keep.csv")) == 1


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
