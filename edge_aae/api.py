"""Training and export from Python, with the options of the commands by their names.

A script beside a train.py or an export.py of the user's own reaches ours through here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.own_packages import claim

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle
    from train.runs.session import TrainingOutcome

__all__ = ["export", "train"]

OF_THE_COMMAND = {"out", "format", "resume", "report", "dry_run", "config", "print_config"}
"""Options of what the commands do around a training, or that are arguments of their own here."""


def train(data: str | Path, *, out: str | Path | None = None, **options: Any) -> TrainingOutcome:
    """Train a detector on a folder of unsorted images, a video, an IDX folder or an .npz file, as `edge-aae train`.

    out: run folder, default runs/NAME-N. options: those of the command, as imgsz=(64, 64), refine="none",
    target_fpr=0.02; what is left out has the command's default. The outcome's path is the run folder.

    Raises ConfigError, DataError.
    """
    claim()
    from edge_aae.commands.training.train import train as command

    given = _parsed(command, str(data), options)
    require("torch", extra="train", purpose="training runs")
    from edge_aae.commands.training.train_options import ImageOptions, LearningOptions, MethodOptions
    from edge_aae.commands.training.train_settings import settings_of
    from train.runs import session
    from train.runs.run_folder import default_run_path

    learning = LearningOptions.of(given)
    settings = settings_of(str(data), MethodOptions.of(given), ImageOptions.of(given), learning)
    path = default_run_path(str(data)) if out is None else Path(out)
    return session.train(*settings, path, device=learning.device, review=given["review"])


def export(run: str | Path | None = None, out: str | Path = "model.aae", **options: Any) -> Bundle:
    """Write the bundle of a run, default runs/latest, as `edge-aae export`: only if it passes the parity gate.

    options: those of the command, as precisions=("fp32",), batch=8, sign="release.key".

    Raises GateError with what differs, ConfigError, BundleError.
    """
    claim()
    from edge_aae.commands.key_files import signing_key
    from edge_aae.commands.shipping.export import export as command

    if options.pop("format", "aae") != "aae":
        raise ConfigError("from Python a bundle is written; the folder of ONNX graphs: edge-aae export --format onnx")
    given = _parsed(command, None if run is None else str(run), options)
    require("torch", extra="train", purpose="exports")
    require("onnxscript", extra="export", purpose="exports")
    from export.bundling import ExportRequest, export_bundle
    from train.runs.run_folder import latest_run

    del given["run"], given["out"], given["format"]
    given["sign"] = None if given["sign"] is None else signing_key(given["sign"])
    return export_bundle(latest_run() if run is None else Path(run), Path(out), ExportRequest(**given)).bundle


def _parsed(command: click.Command, argument: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Every option of the command, those given checked by its own types. Raises ConfigError."""
    known = [parameter.name for parameter in command.params if isinstance(parameter, click.Option)]
    known = [name for name in known if name not in OF_THE_COMMAND]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"{command.name} has no option {', '.join(unknown)}; it has {', '.join(map(str, known))}")
    try:
        with command.make_context(command.name, [] if argument is None else [argument], default_map=options) as context:
            return dict(context.params)
    except click.UsageError as error:
        raise ConfigError(error.format_message()) from None
