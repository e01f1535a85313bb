"""Where a page is: what a terminal, a log and a phone's camera are told."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_aae.commands import page_address
from edge_aae.commands.page_address import PLAIN, WHITE_ON_BLACK, code_lines, say_page
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.terminal import PrintableFormatter
from tests.edge_aae.conftest import ROOT

TOKEN = "a-token-of-sixteen"
ADDRESSES = [f"http://10.0.0.5:8080/?token={TOKEN}", f"http://[2001:db8::5]:8080/?token={TOKEN}"]
LIMIT_S = 60


class Terminal:
    """A terminal of its own, and what stands on it."""

    def __init__(self, columns: int = 120) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._came = b""

    @property
    def said(self) -> str:
        return self._came.decode(errors="replace").replace("\r", "")

    def read(self, until: Callable[[str], object] | None = None) -> str:
        """All that has come; until: waits for it."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            if select.select([self.ours], [], [], 0.1 if until else 0.0)[0]:
                try:
                    self._came += os.read(self.ours, 65536)
                except OSError:  # the last who had it open went away
                    break
            elif until is None or until(self.said):
                break
        return self.said

    def close(self) -> None:
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    one = Terminal()
    yield one
    one.close()


def say_on(
    terminal: Terminal, addresses: Sequence[str], *, token_is_new: bool, file: Path, level: int = logging.INFO
) -> str:
    """What say_page leaves on a terminal that is our standard error, with a log as the command line sets it up."""
    with os.fdopen(os.dup(terminal.theirs), "w", encoding="utf-8") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        handler = logging.StreamHandler(stream)
        handler.setFormatter(PrintableFormatter("%(message)s"))
        page_address.logger.addHandler(handler)
        page_address.logger.setLevel(level)
        try:
            say_page("live page at", addresses, token_is_new=token_is_new, file=file)
        finally:
            page_address.logger.removeHandler(handler)
            page_address.logger.setLevel(logging.NOTSET)
    return terminal.read()


def decoded(text: str) -> str:
    """What a camera reads in the code that stands in a text; empty for none."""
    rows = [
        line.split(WHITE_ON_BLACK)[1].split(PLAIN)[0] for line in text.splitlines() if line.startswith(WHITE_ON_BLACK)
    ]
    if not rows:
        return ""
    light = [[mark in half for mark in row] for row in rows for half in ("█▀", "█▄")]
    picture = np.kron(np.array(light), np.ones((8, 8))).astype(np.uint8) * 255
    return str(cv2.QRCodeDetector().detectAndDecode(picture)[0])


def test_a_new_token_is_shown_on_a_terminal_in_the_address_and_in_the_code(terminal: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("segno", reason="segno is not installed")
    said = say_on(terminal, ADDRESSES, token_is_new=True, file=tmp_path / "page")
    assert said.splitlines()[:2] == [f"live page at {ADDRESSES[0]}", f"          or {ADDRESSES[1]}"]
    assert decoded(said) == ADDRESSES[0]
    assert not (tmp_path / "page").exists()


def test_a_token_that_was_given_is_in_neither(terminal: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("segno", reason="segno is not installed")
    said = say_on(terminal, ADDRESSES, token_is_new=False, file=tmp_path / "page")
    assert said.splitlines()[0] == "live page at http://10.0.0.5:8080/ or http://[2001:db8::5]:8080/"
    assert decoded(said) == "http://10.0.0.5:8080/"
    assert TOKEN not in said


def test_who_wants_errors_alone_is_told_a_new_token_and_nothing_else(terminal: Terminal, tmp_path: Path) -> None:
    for token_is_new in (True, False):
        said = say_on(
            terminal, ADDRESSES[:1], token_is_new=token_is_new, file=tmp_path / "page", level=logging.ERROR
        )  # fmt: skip
    assert said == f"live page at {ADDRESSES[0]}\n"


def test_a_page_of_this_machine_alone_has_no_code(terminal: Terminal, tmp_path: Path) -> None:
    for host in ("127.0.0.1", "[::1]", "localhost"):
        said = say_on(terminal, [f"http://{host}:8080/"], token_is_new=False, file=tmp_path / "page")
    assert len(said.splitlines()) == 3


def test_without_segno_one_line_says_how_to_get_it(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    said = say_on(terminal, ADDRESSES[:1], token_is_new=True, file=tmp_path / "page")
    _, line = said.splitlines()
    assert 'QR codes of addresses need segno: pip install "edge-aae[qr]"' in line


def test_a_code_that_does_not_fit_is_not_broken_into_lines(terminal: Terminal, tmp_path: Path) -> None:
    pytest.importorskip("segno", reason="segno is not installed")
    width = len(code_lines(ADDRESSES[0])[0])
    for columns, shown in ((width - 1, False), (width, True)):
        fcntl.ioctl(terminal.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        before = len(terminal.said)
        said = say_on(terminal, ADDRESSES[:1], token_is_new=True, file=tmp_path / "page")
        said = said[before:]
        assert (decoded(said) == ADDRESSES[0]) == shown
        assert (f"its QR code takes {width} columns, this terminal has {columns}" in said) != shown


def test_without_a_terminal_every_address_is_in_a_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        say_page("live page at", ADDRESSES, token_is_new=True, file=tmp_path / "page")
    assert (tmp_path / "page").read_text().splitlines() == ADDRESSES
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o600
    (line,) = caplog.messages
    assert TOKEN not in line
    assert line.endswith(f"(with its token: {tmp_path / 'page'})")


@contextmanager
def on_a_terminal(*arguments: str, cwd: Path) -> Iterator[tuple[Terminal, subprocess.Popen[bytes]]]:
    """An edge-aae command whose standard error is a terminal, until the block ends."""
    one = Terminal()
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_aae", *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=one.theirs,
    )  # fmt: skip
    try:
        yield one, process
    finally:
        process.kill()
        process.wait()
        one.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
def test_the_address_that_a_run_shows_on_a_terminal_opens_its_page(bundle: Bundle, tmp_path: Path, host: str) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    if host == "[::]" and not Path("/proc/net/if_inet6").is_file():
        pytest.skip("there is no IPv6 here")
    bundle.write(tmp_path / "model.aae")
    source = "test://pattern?fps=20&width=8&height=8"
    arguments = ("-q", "run", "--source", source, "--model", "model.aae", "--serve", f"{host}:0")
    with on_a_terminal(*arguments, cwd=tmp_path) as (terminal, process):
        said = terminal.read(until=lambda said: said.endswith("\n") and "http://" in said)
        addresses = re.findall(r"http://\S+", said)
        assert [line for line in said.splitlines() if "http://" not in line] == []
        assert addresses
        for address in addresses:
            assert "?token=" in address
            opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with opener.open(address, timeout=10) as answer:  # by way of a cookie
                assert (answer.status, "?" in answer.geturl()) == (200, False)
        process.send_signal(signal.SIGTERM)
        process.wait(LIMIT_S)


def test_a_review_says_at_once_where_it_is_and_that_it_loads(tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    (tmp_path / "run").mkdir()
    for name in ("config.json", "weights.safetensors"):  # a run folder by its looks, which loading then refuses
        (tmp_path / "run" / name).write_text("{}")
    with on_a_terminal("review", "run", "--serve", ":0", cwd=tmp_path) as (terminal, process):
        process.wait(LIMIT_S)
        lines = terminal.read().splitlines()
    assert re.fullmatch(r"review at http://127\.0\.0\.1:\d+/", lines[0])
    assert lines[1] == "loading run"
    assert lines[2].startswith("error: ")
    assert process.returncode == 1
    with on_a_terminal("review", "nothing", "--serve", ":0", cwd=tmp_path) as (terminal, process):
        process.wait(LIMIT_S)
        assert "review at" not in terminal.read()
        assert not (tmp_path / "nothing").exists()
