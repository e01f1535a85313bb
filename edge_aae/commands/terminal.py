"""What commands say on standard output and error."""

from __future__ import annotations

import click

from edge_runtime.redact import redact
from edge_runtime.terminal import printable

__all__ = ["say", "say_line"]


def say(text: str, *, err: bool = False) -> None:
    """Print a text of one or more lines; escapes that strangers put into it are shown and not obeyed."""
    click.echo(printable(redact(text) if err else text), err=err)


def say_line(text: str) -> None:
    """Print one line, whose own line ends are shown too: what it quotes cannot look like another line of ours."""
    click.echo(printable(text, one_line=True))
