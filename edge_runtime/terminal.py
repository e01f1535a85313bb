"""Text from strangers on its way to a terminal: what would move the cursor, recolour or reorder it is written out."""

from __future__ import annotations

import logging
import unicodedata

from edge_runtime.redact import redact

__all__ = ["PrintableFormatter", "printable"]

KEPT = frozenset("\n\t")
HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of Unicode: controls, what is invisible or turns the direction, lone surrogates, other line ends."""


def printable(text: str, *, one_line: bool = False) -> str:
    """The text with each control character as its escape, \\x1b say; line ends and tabs stay unless it is one line."""
    if text.isprintable():
        return text
    return "".join(
        character
        if unicodedata.category(character) not in HIDDEN or (character in KEPT and not one_line)
        else character.encode("unicode_escape", errors="surrogatepass").decode("ascii")
        for character in text
    )


class PrintableFormatter(logging.Formatter):
    """A log's lines, printable and without passwords: tracebacks of libraries quote URLs."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(redact(super().format(record)))
