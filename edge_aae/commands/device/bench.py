"""`edge-aae bench`: how fast a bundle runs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import EngineOptions, resolve_model
from edge_aae.commands.parameter_types import THREADS
from edge_aae.commands.places import bundle_argument
from edge_aae.commands.secret_values import warn_of_shown_secrets
from edge_aae.commands.terminal import say
from edge_runtime.errors import GateError
from edge_runtime.files import json_bytes

if TYPE_CHECKING:
    from edge_runtime.operations.bench import BenchReport

__all__ = ["bench"]

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command(cls=Command, short_help="Measure a bundle on this machine, stage by stage.")
@click.option(
    "--source",
    default="test://pattern?width=640&height=480&fps=1000",
    show_default=True,
    help="Whose frames are scored.",
)
@bundle_argument
@EngineOptions.options
@click.option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")
@click.option("--frames", type=click.IntRange(min=50), default=500, show_default=True, help="How many are measured.")
@click.option("--min-fps", type=POSITIVE, help="Exit 3 below it.")
@click.option("--max-p99-ms", type=POSITIVE, help="Exit 3 where the 99th percentile end to end is above it.")
@click.option(
    "--max-overhead", type=POSITIVE, help="Exit 3 where end to end is more than so many times the bare network."
)
@click.option("--no-cold", is_flag=True, help="Leave out start and memory of a process of its own.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the figures as JSON, too.")
def bench(
    source: str,
    model: Path | None,
    threads: int,
    frames: int,
    min_fps: float | None,
    max_p99_ms: float | None,
    max_overhead: float | None,
    no_cold: bool,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Measure a bundle on this machine: every stage of a frame, the network alone, memory, start.

    A few frames are taken from --source and scored again and again by what `edge-aae run` uses; after each, the bare
    network runs once on a prepared input: the ratio of the two is what all the rest costs. A busy machine slows both.

    \b
    edge-aae bench --threads 1
    edge-aae bench --source line3.avi --backend openvino --min-fps 30 --max-p99-ms 40
    """
    from edge_runtime.files import write_file
    from edge_runtime.operations.bench import bench as measure
    from edge_runtime.sources import CaptureSettings, source_from, split_name

    warn_of_shown_secrets(click.get_current_context())
    engine = EngineOptions.of(options)
    path = resolve_model(model)
    detector = engine.detector(path, threads=threads)
    cold = ["--model", str(path), "--precision", engine.precision, "--backend", detector.backend.name]
    cold += ["--threads", str(threads), "--reject", "none"]
    if engine.require_signature is not None:
        cold += ["--require-signature", str(engine.require_signature)]
    report = measure(
        detector,
        source_from(None, split_name(source)[1], CaptureSettings()),
        n_frames=frames,
        precision=engine.precision,
        threads=threads,
        cold_arguments=None if no_cold else cold,
    )
    say(table_of(report))
    if json_file:
        write_file(json_file, json_bytes(report.to_json()))
    failures = []
    if min_fps is not None and report.fps < min_fps:
        failures.append(f"{report.fps:g} frames a second, asked for {min_fps:g} or more")
    if max_p99_ms is not None and report.end_to_end_ms.p99 > max_p99_ms:
        failures.append(f"p99 {report.end_to_end_ms.p99:g} ms end to end, asked for {max_p99_ms:g} or less")
    if max_overhead is not None and report.overhead > max_overhead:
        failures.append(f"{report.overhead:g} times the bare network, asked for {max_overhead:g} or less")
    if failures:
        raise GateError("too slow: " + "; ".join(failures))


def table_of(report: BenchReport) -> str:
    """The report for people."""
    height, width = report.frame_shape[:2]
    threads = f"{report.threads} threads" if report.threads else "all cores"
    lines = [
        f"{report.frames} frames of {width}x{height}, {report.backend} {report.precision}, {threads}",
        f"{'milliseconds a frame':<22}{'p50':>9}{'p95':>9}{'p99':>9}",
    ]
    rows = {**report.stages_ms, "end to end": report.end_to_end_ms, "network alone": report.bare_ms}
    lines += [f"{name:<22}{row.p50:>9.3f}{row.p95:>9.3f}{row.p99:>9.3f}" for name, row in rows.items()]
    lines.append(f"{report.fps:g} frames a second without decoding, {report.overhead:.2f} times the network alone")
    if report.cold_start_s is not None:
        lines.append(
            f"first record {report.cold_start_s:.2f} s after the start, {report.resident_mib:.0f} MiB resident"
        )
    if report.energy_j_per_frame is not None:
        joules = report.energy_j_per_frame
        lines.append(f"{joules:.4f} J a frame by {report.energy_meter}, the bare runs included")
    return "\n".join(lines)
