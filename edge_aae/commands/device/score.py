"""`edge-aae score`: images in, scores, metrics and heatmaps out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import (
    BAD_IMAGE,
    EngineOptions,
    SizeOptions,
    ViewOptions,
    max_bad_option,
    max_pixels_option,
    model_option,
    resolve_model,
)
from edge_aae.commands.parameter_types import CLASSES, FINITE, THREADS
from edge_aae.commands.places import refuse_bundles
from edge_aae.commands.terminal import progress, say
from edge_runtime.errors import DataError

if TYPE_CHECKING:
    from edge_runtime.scoring.evaluation import Evaluation, ImageScorer, Row, ScoredImage
    from edge_runtime.scoring.image_items import Item

__all__ = ["score", "score_with_progress"]

logger = logging.getLogger(__name__)


@click.command(cls=Command, short_help="Score images; AUROC, AP and BAcc where labels are known.")
@click.argument("paths", nargs=-1, required=True, metavar="IMAGES...", type=click.Path(path_type=Path))
@model_option
@EngineOptions.options
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="CSV with columns name,label; label 0 or good is normal.",
)
@click.option("--classes", type=CLASSES, default=(), help="Normal classes of an IDX set.  [default: the bundle's]")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write one line an image.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write images and metrics.")
@click.option("--heatmaps", type=click.Path(path_type=Path), help="Folder for one overlay PNG an image.")
@click.option("--masks", type=click.Path(path_type=Path), help="Folder for one PNG an image, white where anomalous.")
@click.option("--threshold", type=FINITE, help="On the score; 1 is as calibrated, more flags less.")
@click.option("--bad-image", **BAD_IMAGE)
@ViewOptions.options
@SizeOptions.options
@max_pixels_option
@max_bad_option
@click.option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")
@click.option("--top", type=click.IntRange(min=0), default=10, show_default=True, help="Highest scores shown.")
def score(
    paths: tuple[Path, ...],
    model: Path | None,
    labels: Path | None,
    classes: tuple[int, ...],
    csv_file: Path | None,
    json_file: Path | None,
    heatmaps: Path | None,
    masks: Path | None,
    threshold: float | None,
    bad_image: str,
    threads: int,
    top: int,
    max_bad: float,
    **options: Any,
) -> None:
    """Score IMAGES: files, folders, an IDX (MNIST format) folder's test split, or an .npz file.

    Where a folder has a `good` subfolder beside others, the others are anomalous; --labels says it for any files. With
    labels it prints AUROC, AP (average precision) and BAcc (balanced accuracy at the bundle's threshold).
    """
    from edge_runtime.image_files.unreadable import check_unscored
    from edge_runtime.scoring.evaluation import BundleScorer, write_csv, write_json
    from edge_runtime.scoring.image_items import load_items
    from edge_runtime.verdict import verdict_of

    refuse_bundles(paths, "score", by=model)
    if masks is not None and heatmaps is not None and masks.resolve() == heatmaps.resolve():
        raise click.UsageError(f"--masks and --heatmaps are both {masks}, expected a folder for each")
    engine = EngineOptions.of(options)
    view = ViewOptions.of(options).view()
    size = SizeOptions.of(options).asked()
    detector = engine.detector(
        resolve_model(model), threads=threads, threshold=threshold, view=view, bad_image=bad_image, **size
    )
    items = load_items(paths, detector.bundle, labels, classes)
    scorer = BundleScorer(detector)
    keep = None if masks is None else _mask_keeper(masks, scorer)
    evaluation = score_with_progress(scorer, items, heatmaps, keep, regions=json_file is not None)
    for line in evaluation.lines(top):
        say(line)
    bundle = detector.bundle
    labelled = evaluation.verdict()
    verdict = labelled or verdict_of(bundle.manifest["calibration"], as_trained=detector.decision == bundle.decision)
    say(verdict.line)
    say(verdict.next_line("edge-aae run --camera 0" if labelled else "edge-aae evaluate, on labelled images"))
    if csv_file:
        write_csv(csv_file, evaluation)
    if json_file:
        write_json(json_file, evaluation)
    check_unscored(len(evaluation.unscored), len(items), max_bad, ", ".join(map(str, paths)))


def _mask_keeper(folder: Path, scorer: ImageScorer) -> Callable[[Row, ScoredImage], None]:
    """Writes a mask of each image as it is scored."""
    import numpy as np

    from edge_runtime.model.images import write_image
    from edge_runtime.scoring.evaluation import picture_path
    from edge_runtime.scoring.regions import mask_of

    def keep(row: Row, scored: ScoredImage) -> None:
        heat = scored.heatmap()
        mask = np.zeros(heat.shape, dtype=np.uint8)
        if scored.is_anomaly:
            mask = mask_of(heat, scorer.heat_scale.peak, scorer.size)
        write_image(picture_path(folder, row.item.name), mask)

    return keep


def score_with_progress(
    scorer: ImageScorer,
    items: Sequence[Item],
    heatmaps: Path | None,
    on_scored: Callable[[Row, ScoredImage], None] | None = None,
    *,
    regions: bool = False,
) -> Evaluation:
    """score_items behind a progress bar on a terminal. Raises DataError where none of the images can be scored."""
    from edge_runtime.scoring.evaluation import score_items

    with progress(items, "scoring") as taken:
        evaluation = score_items(scorer, taken, heatmaps, on_scored, regions=regions)
    if not evaluation.rows:
        raise DataError(f"none of {len(items)} images could be scored; see above")
    return evaluation
