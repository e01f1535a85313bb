"""`edge-aae train`."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from edge_aae.commands.config_file import config_of, config_options
from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import max_pixels_option
from edge_aae.commands.places import refuse_as_training_data
from edge_aae.commands.terminal import say
from edge_aae.commands.training.outcome_lines import outcome_lines
from edge_aae.commands.training.train_options import ImageOptions, LearningOptions, MethodOptions
from edge_aae.commands.training.train_settings import settings_of
from edge_runtime.errors import EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.files import write_file

__all__ = ["train"]

RESUME_KEEPS = {"out", "resume", "device", "review", "report", "max_pixels"}
"""What may stand beside --resume; every other setting comes from the run folder."""

logger = logging.getLogger(__name__)

INTERRUPTED = 130


@click.command(cls=Command, short_help="Train a detector on unsorted images.")
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME-N]")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: --out, or runs/latest.")
@MethodOptions.options
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, a page to look at.")
@click.option("--review", is_flag=True, help="Write review/: rejected images in groups that look alike.")
@ImageOptions.options
@max_pixels_option
@LearningOptions.options
@config_options
@click.option("--dry-run", is_flag=True, help="Say what would happen, with time and memory; write nothing.")
@click.pass_context
def train(
    ctx: click.Context,
    data: str | None,
    out: Path | None,
    resume: bool,
    report: bool,
    review: bool,
    dry_run: bool,
    print_config: bool,
    **options: Any,
) -> None:
    """Train a detector on DATA: a folder of unsorted images, a video, an IDX (MNIST format) folder or
    an .npz file.

    Ctrl-C ends training at the last whole epoch and leaves a run folder that export can use and --resume goes on with.

    \b
    edge-aae train photos/
    edge-aae train fashion-mnist/ --classes 0 --contaminate 2:0.05 --network mlp --refine itsr
    edge-aae train photos/ --config line3.toml
    edge-aae train --resume
    torchrun --nproc-per-node 2 -m edge_aae train photos/    # two GPUs; see docs/training-at-scale.md
    """
    if print_config:
        click.echo(config_of(ctx), nl=False)
        return
    if data is not None:
        refuse_as_training_data(data)
    require("torch", extra="train", purpose="training runs")
    from train.distributed import joined
    from train.runs import session
    from train.runs.run_folder import default_run_path, latest_run

    if resume:
        _refuse_settings(ctx, data)
    elif data is None:
        raise click.UsageError("name the images to train on: edge-aae train DATA (or --resume)")
    learning = LearningOptions.of(options)
    device = learning.device
    with joined(os.environ, device) as world:
        if world.device is None:
            session.pick_device(device)  # before images are read
        if not world.is_first:
            logging.getLogger().setLevel(logging.ERROR)
            for package in ("edge_aae", "train"):
                logging.getLogger(package).setLevel(logging.ERROR)
        if data is None:
            path = world.from_first(lambda: out or latest_run())
            outcome = session.resume(path, device=device, review=review, world=world)
        else:
            settings = settings_of(data, MethodOptions.of(options), ImageOptions.of(options), learning)
            path = world.from_first(lambda: out or default_run_path(data))
            if dry_run:
                if world.is_first:
                    _rehearse(settings, path, "cpu" if world.device is None else str(world.device))
                return
            outcome = session.train(*settings, path, device=device, review=review, world=world)
    if world.is_first:
        if data is not None:
            write_file(path / "command.txt", f"{shlex.join(['edge-aae', *sys.argv[1:]])}\n".encode("utf-8", "replace"))
        say("\n".join(outcome_lines(outcome)))
        if outcome.complete and report:
            _write_report(path, outcome.images)
    if not world.is_first:
        # Its share is done. gloo's threads now and then abort a process that is torn down while the first still writes.
        os._exit(0 if outcome.complete else INTERRUPTED)
    if not outcome.complete:
        ctx.exit(INTERRUPTED)


def _write_report(path: Path, images: Any) -> None:
    """The page about the run; what keeps it from being written costs no training."""
    from train.pages.page import write_page
    from train.pages.run_page import run_page

    try:
        write_page(path / "report.html", f"{path.resolve().name}: training", run_page(path, images))
        logger.info("report: %s", path / "report.html")
    except (EdgeAaeError, OSError) as error:
        logger.warning("no report: %s; `edge-aae report %s` tries again", error, path)
    except Exception:  # the training is done and written: a page must not make it look failed
        logger.exception("no report; the run in %s is complete", path)


def _rehearse(settings: tuple[Any, Any], out: Path, device: str) -> None:
    from train.runs.dry_run import dry_run

    for line in dry_run(*settings, device=device, out=out).lines():
        say(line)
    say(f"run folder:  {out}, not made: this was a dry run")


def _refuse_settings(ctx: click.Context, data: str | None) -> None:
    named = [
        f"--{name.replace('_', '-')}"
        for name in ctx.params
        if name not in RESUME_KEEPS and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and name != "data"
    ]
    if ctx.get_parameter_source("config") is ParameterSource.COMMANDLINE:
        named.append("--config")
    if data is not None:
        named.insert(0, "DATA")
    if named:
        raise click.UsageError(f"a resumed run keeps its settings: drop {', '.join(named)}")
