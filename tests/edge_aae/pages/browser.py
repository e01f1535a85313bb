"""A headless Chromium for the tests of pages, or the reason why there is none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


class Watched:
    """A page with everything that it says on the console and asks of the network."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda said: said.type in ("error", "warning") and self.errors.append(said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def until(self, expression: str, timeout_s: float = 20.0) -> None:
        """Wait for an expression to be true; the page's own policy forbids wait_for_function, which evaluates text."""
        deadline = time.monotonic() + timeout_s
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"{expression} did not come true; {self.errors}"
            time.sleep(0.05)

    def shot(self, file: Path) -> None:
        self.page.screenshot(path=str(file), full_page=True)
        assert file.stat().st_size > 3000

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


class FirstHeld:
    """The first answer to an address comes after the ones that are asked for next."""

    def __init__(self, page: Any, pattern: str) -> None:
        self._answers: list[tuple[Any, Any]] = []
        self.n_asked = 0
        page.route(pattern, self._asked)
        self._page = page

    def _asked(self, route: Any) -> None:
        self.n_asked += 1
        if self.n_asked == 1:
            self._answers.append((route, route.fetch()))
        else:
            route.continue_()

    def let_go(self, after_ms: float = 700.0) -> None:
        """Time enough for the others, then the first."""
        self._page.wait_for_timeout(after_ms)
        ((route, answer),) = self._answers
        route.fulfill(response=answer)


@contextmanager
def browser() -> Iterator[Any]:
    """A browser; skips the test where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        try:
            yield opened
        finally:
            opened.close()


def watched(opened: Any, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Watched:
    context = opened.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    return Watched(context.new_page())
