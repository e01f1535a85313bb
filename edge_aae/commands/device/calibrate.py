"""`edge-aae calibrate`: a threshold from frames of the place where the camera stands."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from edge_aae.commands.device.source_options import CaptureOptions, NamedSources, sources_of
from edge_aae.commands.options import PERCENT, EngineOptions, ViewOptions, resolve_model
from edge_runtime.errors import DataError

__all__ = ["calibrate"]

logger = logging.getLogger(__name__)


@click.command(short_help="Make the threshold on site, from frames believed normal.")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--camera", "cameras", multiple=True, help="As for run.")
@click.option("--source", "sources", multiple=True, help="As for run.")
@click.option("--frames", type=click.IntRange(min=1), default=500, show_default=True, help="How many are scored.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame alone.")
@click.option("--target-fpr", type=PERCENT, default="1%", show_default=True, help="False alarms asked for.")
@click.option("--undo", is_flag=True, help="Go back to the bundle's own threshold.")
@click.option("--threads", type=int, default=0, help="For inference; 0 uses every core.")
@EngineOptions.options
@ViewOptions.options
@CaptureOptions.options
def calibrate(
    bundle: Path | None,
    cameras: tuple[str, ...],
    sources: tuple[str, ...],
    frames: int,
    every: int,
    target_fpr: float,
    undo: bool,
    threads: int,
    **options: Any,
) -> None:
    """Make BUNDLE's threshold (default: as for run) from frames of the place where it will work.

    The frames are believed normal; those far above the rest are left out as anomalies among them. The threshold is
    written beside the bundle, which stays as it is, and used from then on by run, score and evaluate, with the --roi
    and --mask given here; --threshold still wins. Precision and backend should be those that will run. Frames that
    follow each other look alike: take them over a while, with --every.

    \b
    edge-aae calibrate --camera 0 --frames 2000 --every 10 --target-fpr 0.5%
    edge-aae calibrate --undo
    """
    from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path

    path = resolve_model(bundle)
    overlay = overlay_path(path)
    if undo:
        if not overlay.exists():
            raise DataError(f"nothing to undo: there is no {overlay}")
        aside = overlay.with_name(f"{overlay.name}.undone")
        overlay.replace(aside)
        click.echo(f"{path} has its own threshold again; the calibration lies as {aside}")
        return
    from edge_runtime.bundle.frame_view import WHOLE_FRAME
    from edge_runtime.operations.stopping import stop_requests
    from edge_runtime.redact import redact
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.stream.feed import FeedSettings
    from edge_runtime.stream.pipeline import Pipeline, RunSettings

    # The sources are opened once: who calibrates stands beside the camera, and should see that it is not there.
    named = NamedSources(cameras=cameras, others=sources)
    opened = sources_of(named, CaptureOptions.of(options), must_exist=True)
    engine, view = EngineOptions.of(options), ViewOptions.of(options).view() or WHOLE_FRAME
    detector = Detector.load(path, precision=engine.precision, backend=engine.backend, threads=threads, view=view)
    scores: list[float] = []

    def keep(record: dict[str, Any]) -> None:
        if record["type"] == "frame":
            scores.append(record["score"])
        elif record["type"] == "status":
            logger.warning("%s: %s", record["event_type"], record["payload"].get("reason", ""))

    names = ", ".join(redact(source.source_id) for source in opened)
    logger.info("scoring %d frames of %s", frames, names)
    with stop_requests() as stopped:
        settings = RunSettings(feed=FeedSettings(reconnects=0, every=every))
        Pipeline(detector, opened, keep, settings).run(stopped=stopped, max_frames=frames)
        if stopped():
            raise DataError(f"stopped after {len(scores)} frames; nothing was changed")
    found = SiteCalibration.of(
        scores,
        target_fpr,
        model=detector.bundle.digest,
        source=names,
        precision=engine.precision,
        backend=detector.backend.name,
        view=view,
    )
    before = detector.decision.threshold
    written = found.save(path)
    share = sum(score > before for score in scores) / len(scores)
    click.echo(f"{found}")
    click.echo(f"before: threshold {before:.4g}, {share:.1%} of these frames above it")
    click.echo(f"wrote {written}; undo: edge-aae calibrate --undo {path}")
