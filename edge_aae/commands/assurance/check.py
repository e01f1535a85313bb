"""`edge-aae check`: whether the master parts of a site still score as they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_aae.commands.device.score import score_with_progress
from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import EngineOptions, SizeOptions, ViewOptions, model_option, resolve_model
from edge_aae.commands.parameter_types import FINITE, THREADS
from edge_aae.commands.places import refuse_bundles
from edge_aae.commands.terminal import say
from edge_runtime.errors import GateError

__all__ = ["check"]


@click.command(cls=Command, short_help="Try master parts, known good or bad; exit 3 where one scores wrong.")
@click.argument("parts", type=click.Path(path_type=Path))
@model_option
@EngineOptions.options
@click.option("--threshold", type=FINITE, help="On the score; 1 is as calibrated, more flags less.")
@ViewOptions.options
@SizeOptions.options
@click.option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON Lines file that gets one line a check, at its end.")
def check(
    parts: Path, model: Path | None, threshold: float | None, threads: int, out: Path | None, **options: Any
) -> None:
    """Try master parts: the images in PARTS/good must score normal, those in PARTS/bad anomalous.

    Threshold, region and mask are those of the calibration on site where there is one, as for run and score. Precision
    and backend should be those that run. Ends with exit status 3 where a part scores as it should not, 1 where one
    cannot be scored.

    \b
    edge-aae check parts/ --out checks.jsonl
    """
    from edge_runtime.scoring.evaluation import BundleScorer
    from edge_runtime.scoring.master_parts import PartsVerdict, master_parts
    from edge_runtime.sinks.records import check_record
    from edge_runtime.sinks.textfiles import append_record

    refuse_bundles([parts], "check", by=model)
    engine = EngineOptions.of(options)
    view = ViewOptions.of(options).view()
    size = SizeOptions.of(options).asked()
    detector = engine.detector(resolve_model(model), threads=threads, threshold=threshold, view=view, **size)
    items = master_parts(parts, detector.preprocess.levels)
    verdict = PartsVerdict.of(score_with_progress(BundleScorer(detector), items, None))
    for line in verdict.lines():
        say(line)
    if out is not None:
        record = check_record(
            str(parts),
            verdict,
            model=detector.bundle.digest,
            precision=engine.precision,
            backend=detector.backend.name,
            signed_by=detector.bundle.signed_by,
        )
        append_record(out, record)
    if not verdict.passed:
        raise GateError(f"{verdict}; see to camera, light and model before its verdicts are used")
    say(str(verdict))
