"""The pictures of the pages in README and docs, made from the demo's own files.

    python benchmarks/release/screenshots.py [DEMO] [--out docs/images]

DEMO: what `make demo` leaves, demo-out by default. Runs `edge-aae run --serve` on three made-up cameras over the
sample's pictures, one of which gets a blot and one stalls, `edge-aae report` and `edge-aae review` on the demo's
training, and takes pictures of what a headless Chromium shows: live.png, live-phone.png, demo-report.png,
demo-review.png. Needs playwright and Chromium. The pages show smaller pictures of the latter two, of other parts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from benchmarks.runtime.crash_delivery import threshold_for
from benchmarks.runtime.soak import normal_pictures

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


class Page:
    """A command of ours that serves a page, until the block ends."""

    def __init__(self, *words: str | Path, cwd: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_aae", *map(str, words)], cwd=cwd, stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.address = ""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"(?:live page|review) at (http://[^\s;]+)", line):
                self.address = found[1]
                return
        raise SystemExit(f"{words} serves nothing")

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)


def taken(browser: Any, address: str, file: Path, *, width: int, height: int, wait: str, scheme: str = "light") -> None:
    """The window's picture, once a selector is there."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(wait, timeout=60_000)
    time.sleep(3.0)
    page.screenshot(path=str(file))
    context.close()
    print(f"wrote {file}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, nargs="?", default=Path("demo-out"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    demo, out = arguments.demo.resolve(), arguments.out.resolve()
    chromium = shutil.which("chromium") or parser.error("needs Chromium: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        work = Path(folder)
        normal_pictures(demo / "model.aae", work / "pictures")
        threshold = threshold_for(demo / "model.aae", work / "pictures")
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        size = "fps=20&width=420&height=320&images=pictures"
        cameras = (
            f"test://pattern?{size}&seed=7", f"test://freeze?{size}&at=4&for=600",
            f"test://defect?{size}&at=8&for=6&every=20",
        )  # fmt: skip
        run = ["run", *(word for camera in cameras for word in ("--source", camera)), "--model", demo / "model.aae"]
        run += ["--threshold", f"{threshold:.3f}", "--alarm", "2/3", "--serve", ":0", "--smooth", "ema:0.5"]
        run += ["--stall-timeout", "3"]
        with Page(*run, cwd=work) as page:
            alarm = ".card.alarm"
            taken(browser, page.address, out / "live.png", width=1280, height=900, wait=alarm)
            taken(
                browser, page.address, out / "live-phone.png", width=360, height=740, wait=".card",
                scheme="dark",
            )  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "edge_aae", "report", "runs/robust", "--out", work / "report.html"],
            cwd=demo,
            check=True,
        )
        taken(browser, f"file://{work}/report.html", out / "demo-report.png", width=1100, height=1180, wait="svg")
        with Page("review", demo / "runs/robust", "--serve", ":0", cwd=work) as page:
            taken(browser, page.address, out / "demo-review.png", width=1100, height=620, wait=".shot img")
        browser.close()
    for name in ("review-keep.csv", "review-reject.csv"):
        (demo / "runs/robust" / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
