"""The bar of scorings: on a terminal alone, by rich where it is there, and never loaded elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from edge_aae.commands.terminal import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_shown_and_nothing_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    with progress([1, 2, 3], "scoring") as taken:
        assert list(taken) == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("has_rich", [True, False])
def test_on_a_terminal_the_items_are_counted_with_and_without_rich(
    monkeypatch: pytest.MonkeyPatch, has_rich: bool
) -> None:
    if has_rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.progress", None)
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    with progress(list(range(7)), "scoring") as taken:
        assert list(taken) == list(range(7))
    assert "scoring" in shown.getvalue()
    assert ("7/7" in shown.getvalue()) == has_rich


def test_what_has_no_length_is_shown_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress(iter("abc"), "scoring") as taken:
        assert "".join(taken) == "abc"
