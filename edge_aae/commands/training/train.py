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

from edge_aae.commands.options import CLASSES, CONTAMINATE, PERCENT, ROI, SIZE
from edge_runtime.errors import ConfigError, EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.files import write_file

__all__ = ["train"]

RESUME_KEEPS = {"out", "resume", "device", "review", "report"}
"""What may stand beside --resume; every other setting comes from the run folder."""

logger = logging.getLogger(__name__)

INTERRUPTED = 130

FEW_IMAGES = 200
"""Below it the realised false-alarm rate is uncertain by more than a percent."""

FILE = click.Path(path_type=Path)


@click.command(short_help="Train a detector on unsorted images.")
@click.argument("data", required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/NAME-N]")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run: --out, or runs/latest.")
@click.option(
    "--network",
    type=click.Choice(["auto", "mlp", "conv", "hog", "patch"]),
    default="auto",
    show_default=True,
    help="mlp: the paper's; conv: convolutional; hog: pixels and gradients; patch: textures and large photographs, "
    "in tiles; auto: by the images, and says why.",
)
@click.option(
    "--method",
    type=click.Choice(["aae", "ae"]),
    default="aae",
    show_default=True,
    help="aae: adversarial, standard normal prior; ae: conventional autoencoder.",
)
@click.option(
    "--refine",
    type=click.Choice(["robust", "itsr", "none"]),
    default="robust",
    show_default=True,
    help="Against anomalies among the images; robust: cross-fitted; itsr: the paper's three phases.",
)
@click.option(
    "--target-fpr",
    type=PERCENT,
    default="1%",
    show_default=True,
    help="False alarms to allow on normal images; sets the threshold of the fused rule.",
)
@click.option(
    "--decision",
    type=click.Choice(["fused", "union"]),
    help="fused: one score, one threshold; union: the paper's, p90 of each criterion.  [default: fused with robust]",
)
@click.option(
    "--mixture",
    type=int,
    default=1,
    show_default=True,
    help="robust: normal densities fitted to the codes; more where products come in several kinds.",
)
@click.option("--report/--no-report", default=True, show_default=True, help="Write report.html, a page to look at.")
@click.option("--review", is_flag=True, help="Write review/: rejected images in groups that look alike.")
@click.option(
    "--imgsz",
    type=SIZE,
    help="Network input, with patch a tile: N or ROWSxCOLUMNS pixels.  [default: 128; IDX, .npz: as is]",
)
@click.option("--channels", type=click.Choice(["1", "3"]), help="Grey or colour.  [default: what the images have]")
@click.option(
    "--fit",
    type=click.Choice(["stretch", "letterbox"]),
    help="How images meet the input's shape.  [default: stretch if all have one aspect ratio, else letterbox]",
)
@click.option("--scale", type=float, help="patch: photographs are scaled by this before tiles are cut.  [default: 0.5]")
@click.option("--overlap", type=int, help="patch: pixels neighbouring tiles share.  [default: a quarter of a tile]")
@click.option("--width", type=float, default=1.0, show_default=True, help="patch: times the channels of every layer.")
@click.option("--roi", type=ROI, help="Region of interest in image pixels, cut out first.")
@click.option("--classes", type=CLASSES, default=(), help="Normal classes of labelled data, such as 0 or 0,3.")
@click.option(
    "--contaminate",
    type=CONTAMINATE,
    default=(),
    help="Mix in unmarked anomalies: 2:0.05 makes 5 % of the training set class 2.",
)
@click.option("--sample-fps", type=float, default=2.0, show_default=True, help="Frames a second taken from a video.")
@click.option(
    "--drop-duplicates/--keep-duplicates",
    default=None,
    help="Leave out images that look like an earlier one.  [default: drop for videos, keep else]",
)
@click.option(
    "--cache",
    type=click.Choice(["auto", "memory", "disk"]),
    default="auto",
    show_default=True,
    help="Where preprocessed images are held; auto: on disk where memory is short.",
)
@click.option(
    "--augment",
    type=click.Choice(["none", "light"]),
    default="none",
    show_default=True,
    help="light: each step shifts images by up to 2 pixels and changes their light by up to 10 %.",
)
@click.option("--keep", type=FILE, help="Images that are normal: names, one a line, or a CSV with a column `name`.")
@click.option("--reject", type=FILE, help="Images that are anomalous, named likewise.")
@click.option("--labels", type=FILE, help="A few known images: CSV name,label; 0 or good is normal, else a defect.")
@click.option("--max-bad", type=PERCENT, default="1%", show_default=True, help="Unreadable images tolerated.")
@click.option("--latent", type=int, help="Latent dimensions.  [default: 32; mlp with aae 2; patch 16 a site]")
@click.option(
    "--epochs", type=int, help="Epochs of training (itsr: of pretraining; robust: of each network that judges)."
)
@click.option(
    "--refine-epochs", type=int, help="Epochs after each of the 10 itsr rounds; of each robust network that screens."
)
@click.option("--retrain-epochs", type=int, help="Epochs of itsr's re-training.")
@click.option("--epochs-scale", type=float, default=1.0, show_default=True, help="Times every phase's epochs.")
@click.option("--batch", type=int, help="Images a step.  [default: 128; conv 32, patch 16]")
@click.option("--seed", type=int, default=0, show_default=True, help="Repeats a run on one machine.")
@click.option("--device", default="auto", show_default=True, help="auto (a GPU if there is one), cpu, cuda or cuda:N.")
@click.option("--amp/--no-amp", default=None, help="Train in bfloat16.  [default: on GPUs that have it]")
@click.option("--dry-run", is_flag=True, help="Say what would happen, with time and memory; write nothing.")
@click.pass_context
def train(ctx: click.Context, data: str | None, out: Path | None, resume: bool, dry_run: bool, **options: Any) -> None:
    """Train a detector on DATA: a folder of unsorted images, a video, an IDX (MNIST format) folder or
    an .npz file.

    Ctrl-C ends training at the last whole epoch and leaves a run folder that export can use and --resume goes on with.

    \b
    edge-aae train photos/
    edge-aae train fashion-mnist/ --classes 0 --contaminate 2:0.05 --network mlp --refine itsr
    edge-aae train --resume
    torchrun --nproc-per-node 2 -m edge_aae train photos/    # two GPUs; see docs/training-at-scale.md
    """
    require("torch", extra="train", purpose="training runs")
    from train.distributed import joined
    from train.runs import session
    from train.runs.run_folder import default_run_path, latest_run

    if resume:
        _refuse_settings(ctx, data)
    elif data is None:
        raise click.UsageError("name the images to train on: edge-aae train DATA (or --resume)")
    device, review = options["device"], options["review"]
    with joined(os.environ, device) as world:
        if not world.is_first:
            logging.getLogger().setLevel(logging.ERROR)
            for package in ("edge_aae", "train"):
                logging.getLogger(package).setLevel(logging.ERROR)
        if data is None:
            path = world.from_first(lambda: out or latest_run())
            outcome = session.resume(path, device=device, review=review, world=world)
        else:
            settings = _settings(data, options)
            path = world.from_first(lambda: out or default_run_path(data))
            if dry_run:
                if world.is_first:
                    _rehearse(settings, path, "cpu" if world.device is None else str(world.device))
                return
            outcome = session.train(*settings, path, device=device, review=review, world=world)
    if world.is_first:
        if data is not None:
            write_file(path / "command.txt", f"{shlex.join(['edge-aae', *sys.argv[1:]])}\n".encode("utf-8", "replace"))
        _report(outcome)
        if outcome.complete and options["report"]:
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
        click.echo(line)
    click.echo(f"run folder:  {out}, not made: this was a dry run")


def _settings(data: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """DataSettings and TrainSettings from the options; defaults that depend on data and network are filled in."""
    from train.data.guidance import GuidanceFiles
    from train.data.network_choice import choose_network
    from train.data.settings import DataSettings
    from train.learning.augmentation import AUGMENTATIONS
    from train.learning.settings import (
        NetworkName,
        Schedule,
        TrainSettings,
        default_batch_size,
        default_latent_dim,
        default_schedule,
    )
    from train.refinement.settings import RobustSettings

    network: NetworkName
    if options["network"] == "auto":
        choice = choose_network(Path(data))
        network = choice.network
        logger.info("network %s: %s", network, choice.reason)
    else:
        network = options["network"]
    method, refine = options["method"], options["refine"]
    standard = default_schedule(network, method, refine)
    if refine == "none" and (options["refine_epochs"] is not None or options["retrain_epochs"] is not None):
        raise ConfigError("--refine-epochs and --retrain-epochs belong to --refine itsr")
    if refine == "robust" and options["retrain_epochs"] is not None:
        raise ConfigError("--retrain-epochs belongs to --refine itsr; robust has --epochs and --refine-epochs")
    if refine != "robust" and options["mixture"] != 1:
        raise ConfigError(f"--mixture belongs to --refine robust; with --refine {refine} leave it out")
    schedule = Schedule(
        train=_either(options["epochs"], standard.train),
        refine=_either(options["refine_epochs"], standard.refine),
        retrain=_either(options["retrain_epochs"], standard.retrain),
    ).scaled(options["epochs_scale"])
    data_settings = DataSettings(
        path=data,
        classes=options["classes"],
        contaminate=options["contaminate"],
        imgsz=options["imgsz"],
        channels=int(options["channels"]) if options["channels"] else None,  # type: ignore[arg-type]
        fit=options["fit"],
        scale=options["scale"],
        overlap=options["overlap"],
        roi=options["roi"],
        max_bad=options["max_bad"],
        sample_fps=options["sample_fps"],
        drop_duplicates=options["drop_duplicates"],
        cache=options["cache"],
        guidance=GuidanceFiles.of(keep=options["keep"], reject=options["reject"], labels=options["labels"]),
        seed=options["seed"],
    )
    train_settings = TrainSettings(
        network=network,
        method=method,
        refine=refine,
        latent_dim=_either(options["latent"], default_latent_dim(network, method)),
        schedule=schedule,
        robust=RobustSettings(components=options["mixture"]),
        width=options["width"],
        batch_size=_either(options["batch"], default_batch_size(network)),
        augment=AUGMENTATIONS[options["augment"]],
        amp=options["amp"],
        decision=options["decision"],
        target_fpr=options["target_fpr"],
        seed=options["seed"],
    )
    return data_settings, train_settings


def _either(named: int | None, standard: int) -> int:
    return standard if named is None else named


def _refuse_settings(ctx: click.Context, data: str | None) -> None:
    named = [
        f"--{name.replace('_', '-')}"
        for name in ctx.params
        if name not in RESUME_KEEPS and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE and name != "data"
    ]
    if data is not None:
        named.insert(0, "DATA")
    if named:
        raise click.UsageError(f"a resumed run keeps its settings: drop {', '.join(named)}")


def _report(outcome: Any) -> None:
    config = outcome.config
    folder = outcome.folder.path
    calibration = outcome.calibration or {}
    flagged = f", {calibration['flagged_share']:.1%} above the threshold" if calibration else ""
    click.echo(
        f"{'trained' if outcome.complete else 'interrupted'}: {config.epochs_done} of {config.epochs_total} epochs "
        f"in {outcome.seconds:.0f} s, {config.n_images} images, {config.n_skipped} skipped, "
        f"{outcome.n_rejected} rejected{flagged}"
    )
    for line in _calibration_lines(calibration):
        click.echo(line)
    # A robust run that is interrupted has no findings yet.
    written = "  (rejected.png, scores.png, losses.png, refinement.csv)" if calibration else ""
    click.echo(f"run folder: {folder}{written}")
    if not outcome.complete:
        click.echo(f"go on with: edge-aae train --resume --out {folder}")
        return
    click.echo("next: edge-aae export")


def _calibration_lines(calibration: dict[str, Any]) -> list[str]:
    """What the threshold rests on, and how far it can be trusted."""
    found, share = calibration.get("limit"), calibration.get("contamination")
    if not found or not share:
        return []
    n_images = found["n"]
    lines = [
        f"estimated anomalies among them: {share['share']:.1%}, between {share['low']:.1%} and {share['high']:.1%}"
    ]
    asked = f"false alarms asked for: {found['target_fpr']:.3g} of normal images"
    if found["extrapolated"]:
        lines.append(
            f"{asked}; {n_images} images cannot show so low a rate: extrapolated from the tail of their scores"
        )
    else:
        low, high = found["realised_fpr"]
        lines.append(
            f"{asked}; expect {low:.2%} to {high:.2%} (90 %) after {n_images} images, less if some are anomalous"
        )
    if n_images < FEW_IMAGES:
        lines.append(f"only {n_images} images: with {FEW_IMAGES} or more, detector and threshold are more certain")
    return lines
