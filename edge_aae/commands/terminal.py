"""What commands say on standard output and error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import click

from edge_runtime.redact import redact
from edge_runtime.terminal import printable

__all__ = ["progress", "say", "say_line"]

Item = TypeVar("Item")


def say(text: str, *, err: bool = False) -> None:
    """Print a text of one or more lines; escapes that strangers put into it are shown and not obeyed."""
    click.echo(printable(redact(text) if err else text), err=err)


def say_line(text: str) -> None:
    """Print one line, whose own line ends are shown too: what it quotes cannot look like another line of ours."""
    click.echo(printable(text, one_line=True))


@contextmanager
def progress(items: Iterable[Item], label: str) -> Iterator[Iterable[Item]]:
    """The items, with a bar on standard error as they are taken, where that is a terminal; nothing elsewhere.

    By rich, which extra `train` brings; without it by click.
    """
    if not sys.stderr.isatty():
        yield items
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        with click.progressbar(items, label=label, file=sys.stderr) as bar:
            yield bar
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # What is printed meanwhile is our own, and printable already: rich leaves it alone.
    with Progress(
        *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=True, transient=True
    ) as bars:
        yield bars.track(items, description=label)
