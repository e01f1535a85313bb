"""Text from strangers: shown as it is where it is plain, its escapes written out where it is not."""

from __future__ import annotations

import logging

import pytest

from edge_runtime.terminal import PrintableFormatter, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a plain text, ünïcode and 日本", "a plain text, ünïcode and 日本"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x08c\x7f", "a\\rb\\x08c\\x7f"),
        ("\x9b31m", "\\x9b31m"),  # the one-byte form of escape and bracket
        ("abc\u202etxt.exe", "abc\\u202etxt.exe"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("lone \udcff", "lone \\udcff"),
        ("line\u2028line", "line\\u2028line"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_what_would_move_the_cursor_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown
    printable(text).encode()  # which a lone surrogate would not let


def test_one_line_stays_one_line() -> None:
    assert printable("error\nmodel.aae: passed\t", one_line=True) == "error\\nmodel.aae: passed\\t"


def test_a_log_line_is_printable() -> None:
    record = logging.LogRecord("edge_aae", logging.WARNING, "", 0, "%s is not used", ("\x1b[31mx.aae",), None)
    assert PrintableFormatter("%(message)s").format(record) == "\\x1b[31mx.aae is not used"
