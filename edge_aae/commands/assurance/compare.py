"""`edge-aae compare`: which verdicts another bundle would change."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import EngineOptions, SizeOptions, ViewOptions, refuse_as_bundle
from edge_aae.commands.parameter_types import THREADS
from edge_aae.commands.places import refuse_as_source
from edge_aae.commands.terminal import progress, say
from edge_runtime.errors import DataError

__all__ = ["compare"]

logger = logging.getLogger(__name__)

PATH = click.Path(path_type=Path)


@click.command(cls=Command, short_help="Score the same frames by two bundles; show whose verdicts change.")
@click.argument("old", type=PATH)
@click.argument("new", type=PATH)
@click.option("--frames", required=True, help="Folder of images, image, glob or video; no labels are needed.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame alone.")
@EngineOptions.options
@ViewOptions.options
@SizeOptions.options
@click.option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")
@click.option("--top", type=click.IntRange(min=0), default=20, show_default=True, help="Changed frames shown.")
@click.option("--out", type=PATH, help="Folder for pictures of changed frames: the frame, and both heatmaps.")
@click.option(
    "--max-pictures", type=click.IntRange(min=1), default=20, show_default=True, help="Of the frames that changed most."
)
@click.option("--json", "json_file", type=PATH, help="Write counts and changed frames.")
def compare(
    old: Path,
    new: Path,
    frames: str,
    every: int,
    threads: int,
    top: int,
    out: Path | None,
    max_pictures: int,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Score the same frames by the bundles OLD and NEW: how many verdicts change each way, and which.

    Each bundle decides by its own threshold, a calibration on site that lies beside it included. Precision, backend,
    region and mask hold for both. A frame changed the more, the further its two scores lie from their thresholds.
    Frames stream by: memory does not grow with a video's length.

    \b
    edge-aae compare model.aae new.aae --frames test/ --out changed/
    """
    from edge_runtime.files import json_bytes, write_file
    from edge_runtime.operations.frame_comparison import FrameComparison, frames_of
    from edge_runtime.sources import source_from
    from edge_runtime.sources.contract import tell_levels

    refuse_as_source([frames], "edge-aae compare OLD NEW --frames IMAGES")
    for path in (old, new):
        refuse_as_bundle(path)
    source = source_from(None, frames)
    if source.live:
        raise click.UsageError("--frames gives frames for ever; name a folder of images, an image or a video")
    engine, view = EngineOptions.of(options), ViewOptions.of(options).view()
    size = SizeOptions.of(options).asked()
    old_detector, new_detector = (engine.detector(path, threads=threads, view=view, **size) for path in (old, new))
    levels, new_levels = old_detector.preprocess.levels, new_detector.preprocess.levels
    tell_levels([source], levels)
    if levels != new_levels:
        logger.warning(
            "16-bit images are read by %s's levels, %s, for both; %s was trained with %s", old, levels, new, new_levels
        )
    comparison = FrameComparison(old_detector, new_detector, out, max_pictures)
    with source, progress(frames_of(source, every), "scoring") as taken:
        for frame in taken:
            comparison.take(frame)
    if comparison.frames == 0:
        raise DataError(f"none of {comparison.unscored} frames of {frames} could be scored by both; see above")
    for line in comparison.lines(top):
        say(line)
    if json_file:
        write_file(json_file, json_bytes(comparison.to_json(source.source_id)))
