"""`edge-aae report`: one page about a training or a bundle, to be looked at."""

from __future__ import annotations

from pathlib import Path

import click

from edge_aae.commands.help_pages import Command
from edge_aae.commands.parameter_types import CLASSES
from edge_aae.commands.places import model_and_data, refuse_bundles
from edge_aae.commands.terminal import say
from edge_aae.commands.training.evaluate import judged as judge
from edge_runtime.errors import DataError
from edge_runtime.extras import require
from edge_runtime.files import check_file_place

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

    It opens with the verdict in one sentence, four figures (parts looked at, defects found, false alarms, time a part)
    and eight pictures under their maps: the most usual, the most anomalous, those beside the threshold. Then what was
    set aside and where the threshold lies; losses, codes, the gate's evidence and the command are folded below. With
    labelled DATA, as for evaluate, all of that is of these images, and their result comes first. `edge-aae train`
    writes it at its end. The page needs no network, and prints.

    \b
    edge-aae report runs/latest
    edge-aae report model.aae test/ --out report.html
    """
    model, data = model_and_data(places, model, "report")
    refuse_bundles(data, "report", by=model)
    if not model.exists():
        raise DataError(f"there is no {model}; expected a run folder such as runs/latest, or an .aae bundle")
    is_run = (model / "config.json").is_file()
    out = out or (model / "report.html" if is_run else model.with_suffix(".html"))
    check_file_place(out)
    require("torch", extra="train", purpose="reports")
    require("matplotlib", extra="train", purpose="reports")
    from edge_runtime.verdict import verdict_of
    from train.pages import bundle_page, run_page
    from train.pages.examples import of_evaluation
    from train.pages.page import write_page
    from train.runs.run_folder import RunFolder

    judged, examples = None, []
    if data:
        judged, scorer = judge(model, data, labels=labels, classes=classes)
        examples = of_evaluation(judged.evaluation, scorer)
    if is_run:
        sections = run_page.run_page(model, None, judged, examples)
        calibration, _ = RunFolder(model).read_calibration()
        usual = run_page.NEXT
    else:
        from edge_runtime.bundle.bundle import Bundle

        bundle = Bundle.open(model)
        sections = bundle_page.bundle_page(bundle, judged, examples)
        calibration, usual = bundle.manifest["calibration"], bundle_page.NEXT
    write_page(out, f"{model.resolve().name}: {'training' if is_run else 'bundle'}", sections)
    verdict = judged.verdict if judged else verdict_of(calibration)
    say(f"wrote {out}")
    say(verdict.line)
    say(verdict.next_line(usual))
