"""`edge-aae report`: one page about a training or a bundle, to be looked at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_aae.commands.evaluate import scorer_of
from edge_aae.commands.options import CLASSES
from edge_aae.commands.score import score_with_progress
from edge_runtime.errors import DataError
from edge_runtime.extras import require

if TYPE_CHECKING:
    from train.evaluation import Report

__all__ = ["report"]

logger = logging.getLogger(__name__)

SEED = 0
N_RESAMPLES = 1000


@click.command(short_help="One HTML page about a run or a bundle: figures, pictures, evidence.")
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("data", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="HTML file.  [default: report.html in the run, or beside]")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with columns name,label, as for evaluate.")
@click.option("--classes", type=CLASSES, default=(), help="Normal classes of an IDX set.  [default: the model's]")
def report(
    model: Path, data: tuple[Path, ...], out: Path | None, labels: Path | None, classes: tuple[int, ...]
) -> None:
    """Write one self-contained HTML page about MODEL, a run folder or a bundle.

    Of a run: losses by phase, scores with the threshold, error against likelihood, codes, what was rejected in groups,
    the most and the least anomalous with their maps, the command to make it again. Of a bundle: its thresholds, the
    gate's evidence, its golden samples. With labelled DATA, as for evaluate: ROC, precision and recall, a table.
    `edge-aae train` writes it at its end. The page needs no network, and prints.

    \b
    edge-aae report runs/latest
    edge-aae report model.aae test/ --out report.html
    """
    require("torch", extra="train", purpose="reports")
    require("matplotlib", extra="train", purpose="reports")
    from train.report_page import bundle_page, run_page, write_page

    is_run = (model / "config.json").is_file()
    judged = _judged(model, data, labels, classes) if data else None
    if is_run:
        sections, out = run_page(model, evaluation=judged), out or model / "report.html"
    else:
        from edge_runtime.bundle import Bundle

        sections, out = bundle_page(Bundle.open(model), judged), out or model.with_suffix(".html")
    write_page(out, f"{model.resolve().name}: {'training' if is_run else 'bundle'}", sections)
    click.echo(f"wrote {out}")


def _judged(model: Path, data: tuple[Path, ...], labels: Path | None, classes: tuple[int, ...]) -> Report:
    from edge_runtime.items import load_items
    from train.evaluation import Circumstances, report_of
    from train.pixel_metrics import PixelTally, find_masks

    scorer, trained_on, kind = scorer_of(model, None, None, None)
    items = load_items(data, trained_on, labels, classes)
    if all(item.anomalous is None for item in items):
        raise DataError(f"none of {len(items)} images has a label; name --labels FILE, or leave DATA out")
    found = find_masks(items, data, None)
    tally = PixelTally(found) if found else None
    circumstances = Circumstances(
        model=str(model), kind=kind, data=[str(path) for path in data], decision=scorer.decision, n_excluded=0,
        n_resamples=N_RESAMPLES, seed=SEED,
    )  # fmt: skip
    return report_of(score_with_progress(scorer, items, None, tally.add if tally else None), circumstances, tally)
