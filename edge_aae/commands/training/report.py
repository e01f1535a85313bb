"""`edge-aae report`: one page about a training or a bundle, to be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import CLASSES
from edge_aae.commands.places import model_and_data, refuse_bundles
from edge_aae.commands.terminal import say
from edge_aae.commands.training.evaluate import judged as judge
from edge_runtime.extras import require

__all__ = ["report"]


@click.command(cls=Command, short_help="One HTML page about a run or a bundle: figures, pictures, evidence.")
@click.argument("places", nargs=-1, metavar="RUN|BUNDLE [DATA]...", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path), help="Run folder or bundle, in place of the first argument.")
@click.option("--out", type=click.Path(path_type=Path), help="HTML file.  [default: report.html in the run, or beside]")
@click.option("--labels", type=click.Path(path_type=Path), help="CSV with columns name,label, as for evaluate.")
@click.option("--classes", type=CLASSES, default=(), help="Normal classes of an IDX set.  [default: the model's]")
def report(
    places: tuple[Path, ...], model: Path | None, out: Path | None, labels: Path | None, classes: tuple[int, ...]
) -> None:
    """Write one self-contained HTML page about a run folder or a bundle.

    Of a run: losses by phase, scores with the threshold, error against likelihood, codes, what was rejected in groups,
    the most and the least anomalous with their maps, the command to make it again. Of a bundle: its thresholds, the
    gate's evidence, its golden samples. With labelled DATA, as for evaluate: ROC, precision and recall, a table.
    `edge-aae train` writes it at its end. The page needs no network, and prints.

    \b
    edge-aae report runs/latest
    edge-aae report model.aae test/ --out report.html
    """
    model, data = model_and_data(places, model, "report")
    refuse_bundles(data, "report", by=model)
    require("torch", extra="train", purpose="reports")
    require("matplotlib", extra="train", purpose="reports")
    from edge_runtime.verdict import verdict_of
    from train.pages.bundle_page import bundle_page
    from train.pages.page import write_page
    from train.pages.run_page import run_page
    from train.runs.run_folder import RunFolder

    is_run = (model / "config.json").is_file()
    judged = judge(model, data, labels=labels, classes=classes) if data else None
    if is_run:
        sections, out = run_page(model, evaluation=judged), out or model / "report.html"
        calibration, _ = RunFolder(model).read_calibration()
    else:
        from edge_runtime.bundle.bundle import Bundle

        bundle = Bundle.open(model)
        sections, out = bundle_page(bundle, judged), out or model.with_suffix(".html")
        calibration = bundle.manifest["calibration"]
    write_page(out, f"{model.resolve().name}: {'training' if is_run else 'bundle'}", sections)
    verdict = judged.verdict if judged else verdict_of(calibration)
    say(f"wrote {out}")
    say(verdict.line)
    say(verdict.next_line("edge-aae export" if is_run else "edge-aae run --camera 0"))
