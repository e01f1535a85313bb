"""`edge-aae review`: rejected images in the browser."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.page_address import say_page
from edge_runtime.errors import TakenError
from edge_runtime.extras import require

__all__ = ["review"]

logger = logging.getLogger(__name__)


@click.command(cls=Command, short_help="Look through the rejected images of a run in the browser: keep or reject.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option("--serve", default=":8081", show_default=True, help=":PORT (loopback) or HOST:PORT, with a token.")
def review(run: Path | None, serve: str) -> None:
    """Serve a page with the rejected images of RUN (default: runs/latest), in groups that look alike.

    Keep or reject by click or key. What is decided is written at once, as review-keep.csv and review-reject.csv in the
    run folder, which the next training takes: the page shows the command. Ctrl-C ends it.

    \b
    edge-aae review
    edge-aae train photos/ --keep runs/latest/review-keep.csv --reject runs/latest/review-reject.csv
    """
    require("starlette", extra="dashboard", purpose="review pages")
    from edge_runtime.files import is_run_folder
    from edge_runtime.serving.access import Access, is_loopback
    from edge_runtime.serving.listening import address_from, addresses_of, bound

    host, port = address_from(serve, "--serve")
    token = "" if is_loopback(host) else secrets.token_urlsafe(18)
    try:
        listener = bound(host, port)
    except OSError as error:
        raise TakenError(f"review cannot be served at {host}:{port}: {error}") from error
    with listener:
        named = run or Path("runs/latest")
        if is_run_folder(named):  # else there is nothing to open; what is wrong is said below
            # PyTorch and the run take seconds: a browser that comes meanwhile waits.
            addresses = addresses_of(host, listener.getsockname()[1], token)
            say_page("review at", addresses, token_is_new=bool(token), file=named / "review-page")
            logger.info("loading %s", named)
        require("torch", extra="train", purpose="reviews")
        from train.pages.review_server import ReviewPage, serve_review
        from train.runs.run_folder import latest_run

        page = ReviewPage(run or latest_run(), Access(host, token))
        serve_review(page, listener, lambda: logger.info("ready; Ctrl-C ends it"))
    click.echo(page.command())
