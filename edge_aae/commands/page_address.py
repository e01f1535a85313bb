"""Saying where a page is: in the log, with a new token on a terminal alone, and there as a QR code for a phone."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click

from edge_runtime.errors import MissingExtraError
from edge_runtime.extras import require
from edge_runtime.terminal import printable

__all__ = ["code_lines", "say_page"]

logger = logging.getLogger(__name__)

WHITE_ON_BLACK, PLAIN = "\x1b[97;40m", "\x1b[0m"
"""Whatever the terminal's colours are: not every camera reads an inverted code"""


def say_page(what: str, addresses: Sequence[str], *, token_is_new: bool, file: Path) -> None:
    """Say where a page is, after words such as "live page at", and show the first address as a QR code on a terminal.

    addresses: with their token. One that was made for the page is shown on a terminal, to who wants to hear of errors
    alone too, for nothing else tells it; where none is, it goes into the file, for its owner to read. One that was
    given is shown nowhere. Raises DataError where the file cannot be written.
    """
    on_terminal, plain = sys.stderr.isatty(), [address.split("?")[0] for address in addresses]
    if not token_is_new:
        shown = plain
        logger.info("%s %s", what, " or ".join(plain))
    elif on_terminal:
        shown = list(addresses)
        # Not through the log, which hides what is a token.
        lines = [f"{what} {shown[0]}", *(f"{'or':>{len(what)}} {address}" for address in shown[1:])]
        click.echo(printable("\n".join(lines)), err=True)
    else:
        from edge_runtime.files import OWN_ALONE, write_atomically

        shown = plain
        write_atomically(file, "".join(f"{address}\n" for address in addresses).encode(), mode=OWN_ALONE)
        logger.info("%s %s (with its token: %s)", what, " or ".join(plain), file)
    if on_terminal and logger.isEnabledFor(logging.INFO):
        _show_code(shown[0])


def code_lines(address: str) -> list[str]:
    """The QR code of an address, two rows of it a line: light is a full block, dark a space. Raises MissingExtraError.

    ISO/IEC 18004; the quiet zone of four modules is part of it.
    """
    segno = require("segno", extra="qr", purpose="QR codes of addresses")
    drawn = io.StringIO()
    segno.make_qr(address, error="l").terminal(drawn, border=4, compact=True)
    return drawn.getvalue().splitlines()


def _show_code(address: str) -> None:
    """For a phone's camera; not of this machine's own loopback, which a phone cannot open."""
    from edge_runtime.serving.access import is_loopback

    if is_loopback(urlsplit(address).hostname or ""):
        return
    try:
        lines = code_lines(address)
    except MissingExtraError as error:
        logger.info("%s", error)
        return
    try:
        "".join(lines).encode(sys.stderr.encoding or "ascii")
        columns = os.get_terminal_size(sys.stderr.fileno()).columns
    except (UnicodeEncodeError, OSError, ValueError):
        columns = 0
    if 0 < columns < len(lines[0]):
        logger.info("its QR code takes %d columns, this terminal has %d", len(lines[0]), columns)
    elif columns:
        click.echo("\n".join(f"{WHITE_ON_BLACK}{line}{PLAIN}" for line in lines), err=True)
