"""`edge-aae demo`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.parameter_types import FINITE
from edge_aae.commands.terminal import say
from edge_runtime.extras import require

__all__ = ["demo"]


@click.command(cls=Command, short_help="The whole road on an embedded sample, in minutes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="Folder for the results.",
)
@click.option("--epochs-scale", type=FINITE, default=1.0, show_default=True, help="Times every phase's epochs.")
@click.option("--seed", type=int, default=0, show_default=True)
def demo(out: Path, epochs_scale: float, seed: int) -> None:
    """Train, export, verify and run on an embedded sample of real images, in minutes.

    The sample is 2000 T-shirts of Fashion-MNIST with 5 % ankle boots unmarked among them. It leaves the bundle, the
    records of a run over a short video, heatmaps and report.html.
    """
    require("torch", extra="demo", purpose="demos")
    require("onnxscript", extra="demo", purpose="demos")
    from edge_aae.demo.demo import run_demo

    for line in run_demo(out, epochs_scale=epochs_scale, seed=seed):
        say(line)
