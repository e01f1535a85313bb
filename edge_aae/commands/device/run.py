"""`edge-aae run`: frames in, records out."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.config_file import config_of, config_options
from edge_aae.commands.device.run_options import alarm_options, capture_options, feed_options, run_settings, sources_of
from edge_aae.commands.device.sink_options import (
    delivered,
    delivery_options,
    outbox_of,
    page_of,
    page_options,
    sink_options,
    sinks_of,
)
from edge_aae.commands.options import PERCENT, EngineOptions, ViewOptions, model_option, resolve_model
from edge_runtime.errors import DataError

if TYPE_CHECKING:
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["run"]

logger = logging.getLogger(__name__)


@click.command(short_help="Score cameras, streams, videos or images, one JSON record a frame.")
@click.option("--camera", "cameras", multiple=True, help="V4L2 camera: 0 is /dev/video0; or /dev/v4l/by-id/NAME.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    help="rtsp:// or http:// URL, csi://0, GStreamer pipeline, video, image, folder, glob, - or test://FAULT.",
)
@click.option("--streams", type=click.Path(path_type=Path), help="Text file with one source a line.")
@model_option
@EngineOptions.options
@click.option("--threshold", type=float, help="On the score; 1 is as calibrated, more flags less.")
@click.option("--target-fpr", type=PERCENT, help="Threshold for so many false alarms, such as 1%.")
@click.option("--threads", type=int, default=0, help="For inference; 0 uses every core.")
@click.option("--max-frames", type=click.IntRange(min=1), help="End after so many frames.")
@click.option("--power", type=click.FloatRange(min=1), help="Report power mode, watts, temperatures every so many s.")
@click.option("--watch-model", is_flag=True, help="Take up a bundle that replaces this one, once it is verified.")
@click.option(
    "--last-good",
    type=click.Path(path_type=Path),
    help="Verify; keep a copy of what passed, for when --model does not.",
)
@click.option("--systemd", is_flag=True, help="Tell systemd readiness, watchdog and status (Type=notify).")
@click.option("--metrics", help="Serve /healthz and /metrics at PORT (loopback) or HOST:PORT.")
@ViewOptions.options
@capture_options
@feed_options
@alarm_options
@sink_options
@delivery_options
@page_options
@config_options
def run(
    cameras: tuple[str, ...],
    sources: tuple[str, ...],
    streams: Path | None,
    model: Path | None,
    threshold: float | None,
    target_fpr: float | None,
    threads: int,
    max_frames: int | None,
    metrics: str | None,
    power: float | None,
    watch_model: bool,
    last_good: Path | None,
    systemd: bool,
    print_config: bool,
    **options: Any,
) -> None:
    """Score cameras, streams, videos or images: one JSON record a frame.

    --camera and --source may be repeated: the sources take turns. A live source gives its newest frame; while it is
    stalled, lost, frozen, black or torn, nothing of it is scored, and status records say so. It is opened again for as
    long as it takes, unless --reconnect says how often. Files give every frame, in order.

    --roi and --mask leave out what is none of the part; calibrate takes them too, and a run then need not name them.

    SIGINT and SIGTERM end a run cleanly; SIGHUP takes up a calibration that was made or undone meanwhile. The last line
    on standard error sums the run up: frames, anomalies, latency. An existing --out file is kept: it gets the suffix
    .1, .2 and so on.

    \b
    edge-aae run --camera 0
    edge-aae run --source line3.avi --out records.jsonl
    edge-aae run --source rtsp://user:password@10.0.0.5/live --alarm 3/5 --smooth median:5
    edge-aae run --config line3.toml
    edge-aae run --camera 0 --alarm 3/5 --snapshots events --mqtt mqtt://broker --out log.jsonl --rotate-mb 100
    """
    if print_config:
        click.echo(config_of(click.get_current_context()), nl=False)
        return
    from edge_aae.commands.device.upkeep import Upkeep
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.operations.stopping import reload_requests, stop_requests
    from edge_runtime.operations.systemd import Systemd
    from edge_runtime.redact import redact
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sinks import Annotator
    from edge_runtime.sinks.records import status_record
    from edge_runtime.stream.pipeline import Pipeline, RunSummary

    opened = sources_of(cameras, sources, streams, options)
    engine = EngineOptions.of(options)
    path = resolve_model(model)
    load = partial(
        Detector.load,
        precision=engine.precision,
        backend=engine.backend,
        threads=threads,
        threshold=threshold,
        target_fpr=target_fpr,
        view=ViewOptions.of(options).view(),
    )
    kept = None
    if last_good is not None:
        from edge_runtime.gate.last_good import LastGood

        kept = LastGood(last_good, path, load, engine.precision)
    detector = kept.open() if kept else load(Bundle.open(path))
    names = ", ".join(redact(source.source_id) for source in opened)
    logger.info(
        "%s on %s %s, model %s sha256:%s, threshold %g",
        names,
        detector.backend.name,
        engine.precision,
        detector.bundle.path,
        detector.bundle.digest[:12],
        detector.decision.threshold,
    )
    summary = RunSummary()
    settings = run_settings(options, detector.decision.threshold)
    try:
        with stop_requests() as stopped, reload_requests() as reload_asked, outbox_of(options) as (outbox, publishers):
            annotator = Annotator(detector)
            sinks = sinks_of(options, detector, annotator, outbox)
            manager = Systemd() if systemd else None
            page = page_of(options, lambda: upkeep.pipeline, path)
            if page:
                sinks.append(page)
            upkeep = Upkeep(annotator, reload_asked, manager, power_s=math.inf if power is None else power)
            pipeline = Pipeline(detector, opened, settings=settings, summary=summary, sinks=sinks, pulse=upkeep.pulse)
            upkeep.pipeline, upkeep.page = pipeline, page
            if kept and kept.refused:
                payload = {"reason": kept.refused, "model": f"sha256:{detector.bundle.digest}"}
                pipeline.report(status_record("error", "MODEL_REFUSED", str(path), payload))
            if watch_model:
                from edge_runtime.operations.model_watch import ModelWatch

                upkeep.watch = ModelWatch(
                    path,
                    detector.bundle.digest,
                    load,
                    pipeline.report,
                    precision=engine.precision,
                    accepted=kept.keep if kept else lambda bundle: None,
                )
            with upkeep.watch or nullcontext(), _observed(pipeline, metrics), delivered(pipeline, outbox, publishers):
                pipeline.run(stopped=stopped, max_frames=max_frames)
            upkeep.stopping()
    except BrokenPipeError:
        # The reader of our standard output went away, which is a way to end a run; Python's own flush at exit must
        # not stumble over it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if sys.exc_info()[0] is None or summary.frames or summary.unscored:
            click.echo(str(summary), err=True)
    if summary.frames == 0 and summary.unscored:
        raise DataError(f"none of {summary.unscored} frames of {names} could be scored; see above")


@contextmanager
def _observed(pipeline: Pipeline, address: str | None) -> Iterator[None]:
    if address is None:
        yield
        return
    from edge_runtime.operations.health_server import address_from, observed

    host, port = address_from(address)
    with observed(pipeline, (host, port)) as bound:
        logger.info("health and metrics at http://%s:%d/healthz and /metrics", host, bound)
        yield
