"""The command `edge-aae`: commands, logging, and how errors end. Heavy imports wait inside the commands."""

from __future__ import annotations

import logging
import os
import signal
import sys

import click

from edge_aae.commands.assurance.check import check
from edge_aae.commands.assurance.compare import compare
from edge_aae.commands.device.bench import bench
from edge_aae.commands.device.calibrate import calibrate
from edge_aae.commands.device.doctor import doctor
from edge_aae.commands.device.run import run
from edge_aae.commands.device.score import score
from edge_aae.commands.device.service import service
from edge_aae.commands.help_pages import Group
from edge_aae.commands.shipping.engines import build, cache
from edge_aae.commands.shipping.export import export, info
from edge_aae.commands.shipping.signing import keys, sign
from edge_aae.commands.shipping.verify import verify
from edge_aae.commands.terminal import say
from edge_aae.commands.training.demo import demo
from edge_aae.commands.training.evaluate import evaluate
from edge_aae.commands.training.report import report
from edge_aae.commands.training.review import review
from edge_aae.commands.training.train import train
from edge_runtime import __version__
from edge_runtime.errors import EdgeAaeError
from edge_runtime.own_packages import PACKAGES, claim
from edge_runtime.redact import redact
from edge_runtime.terminal import PrintableFormatter

__all__ = ["cli", "main"]

logger = logging.getLogger(__name__)

INTERRUPTED = 130
"""What a shell reports for a program that SIGINT ended."""


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edge-aae")
@click.option("-v", "--verbose", is_flag=True, help="Say more on standard error.")
@click.option("-q", "--quiet", is_flag=True, help="Say errors alone.")
def cli(verbose: bool, quiet: bool) -> None:
    """Train an image anomaly detector on unsorted images, export it with a parity gate, run it on the edge.

    \b
    edge-aae train IMAGES     a run folder from a folder of unsorted images
    edge-aae export           ./model.aae from the newest run, if it passes the parity gate
    edge-aae verify           the gate again, on this machine
    edge-aae run --camera 0   one JSON record a frame

    Exit status: 0 ok, 1 error, 2 usage or a bad value, 3 a gate failed (parity, speed, master parts), 4 source lost or
    not openable.
    """
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.ERROR if quiet else logging.WARNING, handlers=[handler], force=True)
    for package in PACKAGES:
        logging.getLogger(package).setLevel(level)


for command in (
    train,
    report,
    review,
    evaluate,
    export,
    sign,
    keys,
    verify,
    info,
    build,
    cache,
    run,
    score,
    calibrate,
    check,
    compare,
    bench,
    doctor,
    service,
    demo,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; every error that a user can cause ends in one line and its exit status."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell leaves it that starts us in the background; Ctrl-C, or `kill -INT`, is to end us all the same.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Before PyTorch is loaded: its threads else wait for each other in a loop, and where others want the cores too,
    # a training step takes eight times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        claim()
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        click.UsageError(redact(error.format_message()), error.ctx).show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except EdgeAaeError as error:
        say(f"error: {error}", err=True)
        logger.debug("raised here", exc_info=error)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except OSError as error:
        say(f"error: {error}", err=True)
        logger.debug("raised here", exc_info=error)
        sys.exit(1)


if __name__ == "__main__":
    main()
