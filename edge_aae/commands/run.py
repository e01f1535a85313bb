"""`edge-aae run`: frames in, records out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import click

from edge_aae.commands.options import engine_options, model_option, resolve_model
from edge_runtime.errors import DataError

__all__ = ["run"]

logger = logging.getLogger(__name__)


@click.command(short_help="Score a camera, a video or images, one JSON record a frame.")
@click.option("--camera", type=click.IntRange(min=0), help="V4L2 camera by index: 0 is /dev/video0.")
@click.option("--source", help="Video file, image, folder of images, or a glob pattern of them.")
@model_option
@engine_options
@click.option("--out", default="-", show_default=True, help="JSON Lines file; - is standard output.")
@click.option("--threshold", type=float, help="On the score; 1 is as calibrated, more flags less.")
@click.option("--threads", type=int, default=0, help="For inference; 0 uses every core.")
@click.option("--max-frames", type=click.IntRange(min=1), help="End after so many frames.")
def run(
    camera: int | None,
    source: str | None,
    model: Path | None,
    precision: str,
    backend: str,
    out: str,
    threshold: float | None,
    threads: int,
    max_frames: int | None,
) -> None:
    """Score a camera, a video or images: one JSON record a frame, in order.

    SIGINT and SIGTERM end a run cleanly. The last line on standard error sums it up: frames, anomalies, latency.
    An existing --out file is kept: it gets the suffix .1, .2 and so on.

    \b
    edge-aae run --camera 0
    edge-aae run --source line3.avi --out records.jsonl
    """
    from edge_runtime.detector import Detector
    from edge_runtime.pipeline import RunSummary
    from edge_runtime.pipeline import run as run_pipeline
    from edge_runtime.redact import redact
    from edge_runtime.sources import source_from
    from edge_runtime.stopping import stop_requests

    if (camera is None) == (source is None):
        raise click.UsageError("name one source: --camera INDEX or --source PATH")
    frames = source_from(camera, source)
    detector = Detector.load(
        resolve_model(model), precision=precision, backend=backend, threads=threads, threshold=threshold
    )
    logger.info(
        "%s on %s %s, model %s sha256:%s, threshold %g",
        redact(frames.source_id),
        detector.backend.name,
        precision,
        detector.bundle.path,
        detector.bundle.digest[:12],
        detector.decision.threshold,
    )
    summary = RunSummary()
    try:
        with stop_requests() as stopped, frames, _record_writer(out) as write:
            run_pipeline(detector, frames, write, stopped=stopped, max_frames=max_frames, summary=summary)
    except BrokenPipeError:
        # The reader of our standard output went away, which is a way to end a run; Python's own flush at exit must
        # not stumble over it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        click.echo(str(summary), err=True)
    if summary.frames == 0 and summary.unscored:
        raise DataError(f"none of {summary.unscored} frames of {redact(frames.source_id)} could be scored; see above")


@contextmanager
def _record_writer(out: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that writes one record and flushes it, so that a reader sees each frame at once."""
    from edge_runtime.records import to_line

    def writer(stream: IO[str]) -> Callable[[dict[str, Any]], None]:
        def write(record: dict[str, Any]) -> None:
            stream.write(to_line(record))
            stream.flush()

        return write

    if out == "-":
        yield writer(sys.stdout)
        return
    path = Path(out)
    _keep_older(path)
    try:
        stream = path.open("x", encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot write records to {path}: {error.strerror or error}") from error
    with stream:
        yield writer(stream)


def _keep_older(path: Path) -> None:
    """Move an existing record file aside, so that no run's records are lost."""
    if not path.is_file():
        return
    if path.stat().st_size == 0:
        path.unlink()
        return
    number = 1
    while (older := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    path.rename(older)
    logger.info("kept the older records as %s", older)
