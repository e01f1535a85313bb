"""`edge-aae evaluate`: every figure of a run or bundle on labelled images, with intervals and plots."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.device.score import score_with_progress
from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import SizeOptions, max_bad_option, max_pixels_option
from edge_aae.commands.parameter_types import CLASSES, FINITE
from edge_aae.commands.places import model_and_data, refuse_bundles
from edge_aae.commands.terminal import say
from edge_runtime.errors import DataError, MissingExtraError
from edge_runtime.extras import require

if TYPE_CHECKING:
    from edge_runtime.model.defect_size import DefectSize
    from edge_runtime.scoring.evaluation import ImageScorer
    from edge_runtime.scoring.image_items import TrainedOn
    from train.evaluation.report import Report

__all__ = ["evaluate", "judged"]

N_RESAMPLES = 1000

logger = logging.getLogger(__name__)


@click.command(cls=Command, short_help="Judge a run or bundle on labelled images: metrics, intervals, plots.")
@click.argument("places", nargs=-1, metavar="RUN|BUNDLE DATA...", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Run folder or bundle, in place of the first argument.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for report.json, report.md, scores.csv and plots.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="CSV with columns name,label; label 0 or good is normal.",
)
@click.option("--classes", type=CLASSES, default=(), help="Normal classes of an IDX set.  [default: the model's]")
@click.option(
    "--exclude",
    type=click.Path(path_type=Path),
    help="Names of images to leave out, one a line, such as those that training saw.",
)
@click.option(
    "--masks",
    type=click.Path(path_type=Path),
    help="Folder of masks, DEFECT/NAME_mask.png or DEFECT/NAME.png.  [default: ground_truth beside DATA]",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=N_RESAMPLES,
    show_default=True,
    help="Resamples behind the intervals; 0 gives none.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
@click.option("--threshold", type=FINITE, help="On the score; 1 is as calibrated, more flags less.")
@SizeOptions.options
@click.option("--heatmaps", type=click.Path(path_type=Path), help="Folder for one overlay PNG an image.")
@click.option("--device", help="For a run: auto, cpu, cuda or cuda:N.  [default: auto]")
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    help="For inference; 0 uses every core.  [default: 0 for a bundle, 1 for a run]",
)
@max_pixels_option
@max_bad_option
def evaluate(
    places: tuple[Path, ...],
    model: Path | None,
    out: Path | None,
    labels: Path | None,
    classes: tuple[int, ...],
    exclude: Path | None,
    masks: Path | None,
    bootstrap: int,
    seed: int,
    threshold: float | None,
    heatmaps: Path | None,
    device: str | None,
    threads: int | None,
    max_pixels: int | None,
    max_bad: float,
    **options: Any,
) -> None:
    """Judge a run folder (scored in PyTorch) or a bundle (needs none) on DATA: folders, an IDX set or an .npz file.

    Where a folder has a `good` subfolder beside others, the others are anomalous; --labels says it for any files.
    AUROC, AP and FPR@95TPR need no threshold; BAcc, TPR and FPR are at the deployed one. Where there are masks it adds
    pixel AUROC, AP and AUPRO, which --min-area leaves as they are. docs/evaluation.md says what each figure means.

    \b
    edge-aae evaluate runs/latest tile/test --out evaluation/
    edge-aae evaluate model.aae fashion-mnist/
    """
    model, data = model_and_data(places, model, "evaluate")
    if not data:
        raise click.UsageError(f"name labelled images: edge-aae evaluate {model} test/")
    refuse_bundles(data, "evaluate", by=model)
    plots_missing = _plots_missing() if out else None
    report, _ = judged(
        model, data, labels=labels, classes=classes, exclude=exclude, masks=masks, bootstrap=bootstrap, seed=seed,
        threshold=threshold, size=SizeOptions.of(options).size(), heatmaps=heatmaps, device=device, threads=threads,
    )  # fmt: skip
    from edge_runtime.image_files.unreadable import check_unscored
    from train.evaluation.report_forms import lines_of

    try:
        # First the files: a reader of our output that goes away, such as head, must not cost them.
        written = _write(out, report, plots_missing) if out else []
    finally:
        for line in lines_of(report):
            say(line)
    if written:
        say(f"wrote {out}: {', '.join(written)}")
    is_run = report.circumstances.kind == "run"
    say(report.verdict.next_line("edge-aae export" if is_run else "edge-aae run --camera 0"))
    n_unscored = len(report.evaluation.unscored)
    check_unscored(n_unscored, len(report.evaluation.rows) + n_unscored, max_bad, ", ".join(map(str, data)))


def judged(
    model: Path,
    data: tuple[Path, ...],
    *,
    labels: Path | None,
    classes: tuple[int, ...],
    exclude: Path | None = None,
    masks: Path | None = None,
    bootstrap: int = N_RESAMPLES,
    seed: int = 0,
    threshold: float | None = None,
    size: DefectSize | None = None,
    heatmaps: Path | None = None,
    device: str | None = None,
    threads: int | None = None,
) -> tuple[Report, ImageScorer]:
    """The report on a run folder or a bundle, from labelled images, and what scored them.

    The parameters are the options of evaluate.
    """
    from edge_runtime.model.defect_size import MEASURED_IN_PIXELS
    from edge_runtime.scoring.image_items import load_items, without
    from train.evaluation.pixel_metrics import PixelTally, find_masks
    from train.evaluation.report import Circumstances, report_of

    scorer, trained_on, kind = _scorer(model, threshold, size or MEASURED_IN_PIXELS, device, threads)
    loaded = load_items(data, trained_on, labels, classes)
    items = without(loaded, exclude) if exclude else loaded
    if all(item.anomalous is None for item in items):
        raise DataError(
            f"none of {len(items)} images has a label; put the normal ones in a folder good/ beside others, or name "
            "--labels FILE; `edge-aae score` scores images without"
        )
    found = find_masks(items, data, masks)
    tally = PixelTally(found, scorer.size.least_px) if found else None
    circumstances = Circumstances(
        model=str(model),
        kind=kind,
        data=[str(path) for path in data],
        decision=scorer.decision,
        size=scorer.size,
        n_excluded=len(loaded) - len(items),
        n_resamples=bootstrap,
        seed=seed,
    )
    evaluation = score_with_progress(scorer, items, heatmaps, tally.add if tally else None)
    return report_of(evaluation, circumstances, tally), scorer


def _scorer(
    model: Path, threshold: float | None, size: DefectSize, device: str | None, threads: int | None
) -> tuple[ImageScorer, TrainedOn, str]:
    """The model as a scorer, what it was trained on, and what it is: run or bundle."""
    from edge_runtime.scoring.image_items import TrainedOn

    if not model.exists():
        raise DataError(
            f"no bundle or run folder at {model}; expected what `edge-aae export` or `edge-aae train` wrote"
        )
    if (model / "config.json").is_file():
        torch = require("torch", extra="train", purpose="evaluations of run folders")
        from train.evaluation.run_scorer import RunScorer
        from train.runs.session import pick_device

        # One image at a time gains little from more threads, and loses a lot where others use the cores.
        if threads != 0:
            torch.set_num_threads(threads or 1)
        of_run = RunScorer(model, threshold=threshold, size=size, device=pick_device(device or "auto"))
        trained_on = TrainedOn.of(of_run.run.config.data.to_json(), called="run")
        return of_run, replace(trained_on, levels=of_run.run.config.preprocess.levels), "run"
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.scoring.evaluation import BundleScorer

    if device is not None:
        raise click.UsageError(f"--device is for run folders; {model} is none, and bundles run on the CPU")
    detector = Detector.load(model, threads=threads or 0, threshold=threshold, **size.asked())
    training: dict[str, Any] = detector.bundle.manifest["training"]
    trained_on = TrainedOn.of(training.get("data", {}), called="bundle")
    return BundleScorer(detector), replace(trained_on, levels=detector.preprocess.levels), "bundle"


def _plots_missing() -> str | None:
    """Why there will be no plots, asked for before images are scored; None where there will."""
    try:
        require("matplotlib", extra="train", purpose="plots")
    except MissingExtraError as error:
        return str(error)
    return None


def _write(out: Path, report: Report, plots_missing: str | None) -> list[str]:
    """Write the report's files into the folder; returns their names."""
    from edge_runtime.scoring.evaluation import write_csv
    from train.evaluation.report_forms import write_json, write_markdown

    plots: list[str] = []
    if plots_missing is None:
        from train.evaluation.plots import plot_report

        plots = plot_report(out, report)
    else:
        logger.warning("no plots: %s", plots_missing)
    write_json(out / "report.json", report)
    write_markdown(out / "report.md", report, plots)
    write_csv(out / "scores.csv", report.evaluation)
    return ["report.md", "report.json", "scores.csv", *plots]
