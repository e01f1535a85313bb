"""One page about a training or a bundle: self-contained, without scripts, readable in print.

Of a run it needs the run folder; with its images it adds pictures, codes and maps. Of a bundle it shows what the bundle
carries. With labelled images either gets curves and a table.
"""

from __future__ import annotations

import base64
import csv
import html
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import DataError
from edge_runtime.files import write_atomically
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.score import Decision
from edge_runtime.model.self_reference import N_CHANNELS
from edge_runtime.scoring.heatmap import overlay, peak_of
from train.data.loading import load_training_set
from train.data.photograph_store import PhotographStore
from train.data.training_set import TrainingSet
from train.evaluation.plots import figures_of
from train.evaluation.report import Report
from train.learning.scoring import raw_criteria
from train.learning.trainer import EpochRow
from train.pages.figures import STYLE as STYLE_OF_FIGURES
from train.pages.figures import (
    boundary_figure,
    latent_figure,
    losses_figure,
    quantile_figure,
    scores_figure,
    svg_of,
)
from train.runs.pictures import tile
from train.runs.review import group_codes
from train.runs.run_folder import RunFolder, TrainedRun

__all__ = ["bundle_page", "codes_of", "run_page", "verdicts_of", "write_page"]

SHOWN = 24
"""Images on each contact sheet."""

STYLE = """
:root { --ground: #fff; --ink: #1c1e1b; --quiet: #5c625a; --line: #d9dbd5; --card: #f6f6f3; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #151715; --ink: #e8eae5; --quiet: #a2a99f; --line: #363b36; --card: #1e211e; }
}
@media print { :root { --ground: #fff; --ink: #000; --quiet: #444; --line: #bbb; --card: #fff; color-scheme: light; } }
body { font: 16px/1.5 system-ui, sans-serif; background: var(--ground); color: var(--ink); max-width: 66rem;
  margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.4rem; }
p, li { max-width: 46rem; } .quiet { color: var(--quiet); font-size: .9rem; }
svg { width: 100%; height: auto; max-width: 60rem; display: block; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; } figcaption { color: var(--quiet); font-size: .9rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
pre { background: var(--card); border: 1px solid var(--line); padding: .7rem; overflow-x: auto; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.2rem, 1fr)); gap: .5rem; }
.sheet figure { font-size: .75rem; overflow-wrap: anywhere; } .sheet img { width: 100%; height: auto; display: block;
  image-rendering: pixelated; border: 1px solid var(--line); }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write the sections as one HTML file. Raises DataError."""
    body = "\n".join(sections)
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{_text(title)}</title>\n'
        f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{_text(title)}</h1>\n{body}\n'
        "</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", errors="replace"))


def run_page(path: Path, images: TrainingSet | None = None, evaluation: Report | None = None) -> list[str]:
    """The sections about a run folder.

    images: that it was trained on; None loads them from where they were. Where they are no longer there, or others,
    the page says so and does without their pictures. Raises DataError where the run got no thresholds yet.
    """
    folder = RunFolder(path)
    run = folder.load()
    table = verdicts_of(path / "refinement.csv", run.decision)
    missing = ""
    if images is None:
        try:
            images = load_training_set(run.config.data, run.config.train.network)
            if images.sha256() != run.config.images_sha256:
                images, missing = None, f"{run.config.data.path} holds other images than the run was trained on"
        except DataError as error:
            missing = str(error)
    sections = [_summary_of_run(path, run, table), _command(path), _losses(path / "training.csv")]
    sections.append(_scores(run, table))
    codes = None if images is None else codes_of(run, images)
    sections.append(_planes(run, table, codes))
    if evaluation is not None:
        sections.append(_evaluation(evaluation))
    if images is None:
        sections.append(f'<p class="quiet">No pictures: {_text(missing)}.</p>')
    else:
        sections += _pictures(run, images, table, codes)
    return sections


def bundle_page(bundle: Bundle, evaluation: Report | None = None) -> list[str]:
    """The sections about a bundle: what it is, its thresholds, the gate's evidence, its golden samples."""
    manifest = bundle.manifest
    model, training = manifest["model"], manifest["training"]
    facts = [
        ("bundle", f"{bundle.path}, sha256:{bundle.digest}"),
        ("model", f"{model.get('network')} {model.get('method')}, refine {model.get('refine')}"),
        ("input", "x".join(map(str, bundle.preprocess.input_shape))),
        ("decision", f"{manifest['decision']['rule']}, anomalous above {bundle.decision.threshold:g}"),
        ("trained on", f"{training.get('n_images')} images, {training.get('epochs')} epochs, {training.get('device')}"),
        *_contamination(manifest["calibration"]),
    ]
    sections = [_facts(facts)]
    quantiles = manifest["calibration"].get("score_quantiles")
    if quantiles:
        figure = quantile_figure(quantiles, bundle.decision.threshold)
        sections.append(_section("Scores of the training images", _figure(figure, "share of images above each score")))
    sections.append(_parity(bundle))
    golden = Golden.from_npz(bundle.files["golden.npz"])
    scores = bundle.decision.score(golden.outputs.criteria)
    peak = peak_of(manifest["calibration"])
    order = np.argsort(scores)
    cells = []
    for index in order:
        image, heat = golden.inputs[index], golden.outputs.anomaly_map[index]
        cells.append(_cell(_shown(image), f"{scores[index]:.2f}"))
        if golden.outputs.x_hat is not None and golden.outputs.x_hat.shape[1] == image.shape[2] != N_CHANNELS:
            cells.append(_cell(_decoded(golden.outputs.x_hat[index]), "decoded"))
        cells.append(_cell(_heated(image, heat, peak), "map"))
    sections.append(
        _section(
            "Golden samples", '<p class="quiet">What a device verifies itself with: training images spread over the '
            'scores, each with its map; least anomalous first.</p><div class="sheet">'
            + "".join(cells) + "</div>"
        )
    )  # fmt: skip
    if evaluation is not None:
        sections.insert(2, _evaluation(evaluation))
    return sections


class Verdicts:
    """refinement.csv: what became of each image."""

    def __init__(self, names: list[str], criteria: NDArray[np.float32], kept: NDArray[np.bool_], reasons: list[str]):
        self.names, self.criteria, self.kept, self.reasons = names, criteria, kept, reasons


def verdicts_of(path: Path, decision: Decision) -> Verdicts:
    """A run's refinement.csv; raises DataError where it cannot be used."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            rows = list(csv.DictReader(lines))
        if not rows:
            raise ValueError("it has no rows")
        return Verdicts(
            [row["name"] for row in rows],
            np.array([[float(row[name]) for name in decision.criteria] for row in rows], dtype=np.float32),
            np.array([row["kept"] == "1" for row in rows]),
            [row["reason"] for row in rows],
        )
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error


def _summary_of_run(path: Path, run: TrainedRun, table: Verdicts) -> str:
    config, limit = run.config, run.calibration.get("limit", {})
    n_rejected = int((~table.kept).sum())
    facts = [
        ("run", f"{path}, {config.status}, {config.epochs_done} of {config.epochs_total} epochs on {config.device}"),
        (
            "data",
            f"{config.data.path}: {config.n_images} images"
            + (f", {config.n_skipped} unreadable" if config.n_skipped else ""),
        ),
        ("network", f"{config.train.network}, {config.train.method}, {config.train.latent_dim} latent dimensions"),
        ("input", "x".join(map(str, config.preprocess.input_shape)) + f", fit {config.preprocess.fit}"),
        ("refinement", f"{config.train.refine}: {n_rejected} images rejected, {len(table.names) - n_rejected} kept"),
        ("threshold", f"{run.decision.threshold:.4g} on the score, rule {config.train.rule}"),
        *_false_alarms(limit),
        *_contamination(run.calibration),
        ("made by", f"edge-aae {config.edge_aae}, torch {config.torch}, started {config.started}"),
    ]
    return _facts(facts)


def _false_alarms(limit: dict[str, Any]) -> list[tuple[str, str]]:
    if "target_fpr" not in limit:
        return []
    low, high = limit.get("realised_fpr") or (None, None)
    sure = "" if low is None else f"; with new normal images it will realise {low:.1%} to {high:.1%} (95 %)"
    return [("false alarms", f"{limit['target_fpr']:.1%} asked for, from {limit.get('n')} scores{sure}")]


def _contamination(calibration: dict[str, Any]) -> list[tuple[str, str]]:
    found = calibration.get("contamination")
    if not found:
        return []
    return [("contamination", f"{found['share']:.1%} estimated ({found['low']:.1%} to {found['high']:.1%})")]


def _command(path: Path) -> str:
    try:
        command = (path / "command.txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return '<p class="quiet">The run was not started by the command line; config.json has all of its settings.</p>'
    return _section("The same again", f"<pre>{_text(command)}</pre>")


def _losses(path: Path) -> str:
    try:
        with path.open(newline="") as lines:
            rows = [_epoch_row(row) for row in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error
    phases = list(dict.fromkeys(row.phase for row in rows))
    caption = f"Phases, from left to right: {', '.join(phases)}." if len(phases) > 1 else ""
    return _section("Losses", _figure(losses_figure(rows), "losses over epochs", caption)) if rows else ""


def _epoch_row(values: dict[str, str]) -> EpochRow:
    kinds = {"phase": str, "epoch": int, "images": int, "candidates": int}
    return EpochRow(**{field.name: kinds.get(field.name, float)(values[field.name]) for field in fields(EpochRow)})


def _scores(run: TrainedRun, table: Verdicts) -> str:
    scores = run.decision.score(table.criteria)
    figure = scores_figure(scores, ~table.kept, run.decision.threshold)
    above = int((run.decision.is_anomalous(scores) & table.kept).sum())
    caption = f"{above} of the {int(table.kept.sum())} images that were kept lie above the threshold."
    return _section("Scores of the training images", _figure(figure, "histogram of scores", caption))


def codes_of(run: TrainedRun, images: TrainingSet) -> NDArray[Any]:
    """(N, D): the code of each training image, of a photograph the mean over its sites."""
    if isinstance(images.store, PhotographStore):
        from train.strategies.patch_measure import measured

        device = torch.device("cpu")
        found = measured(run.autoencoder, run.prior, images.store, images.store.photographs, device)  # type: ignore[arg-type]
        codes: NDArray[Any] = found[1]
        return codes
    return raw_criteria(run.autoencoder, run.prior, images.store)[1]


def _planes(run: TrainedRun, table: Verdicts, codes: NDArray[Any] | None) -> str:
    boundary = boundary_figure(table.criteria, run.decision, run.decision.criteria, ~table.kept)
    figures = _figure(
        boundary, "reconstruction error against likelihood",
        "Error against likelihood (the paper's figures 3 and 4). Low and left is usual.",
    )  # fmt: skip
    if codes is not None:
        figures += _figure(latent_figure(codes, ~table.kept), "codes of the training images", "Codes of the images.")
    return _section("Where the images lie", f'<div class="two">{figures}</div>')


def _pictures(run: TrainedRun, images: TrainingSet, table: Verdicts, codes: NDArray[Any] | None) -> list[str]:
    scores, rejected = run.decision.score(table.criteria), ~table.kept
    sections = []
    groups = [] if codes is None else group_codes(codes, rejected, scores, run.config.train.seed)
    for number, group in enumerate(groups, start=1):
        cells = [
            _cell(_shown(images.picture(int(index))), f"{scores[index]:.2f} {Path(table.names[index]).name}")
            for index in group.members[:SHOWN]
        ]
        shown = f", {len(cells)} shown" if len(cells) < len(group.members) else ""
        note = f"<p class='quiet'>{len(group.members)} images{shown}, spread {group.spread:.2f} (less: more alike).</p>"
        sections.append(_section(f"Rejected, group {number}", f'{note}<div class="sheet">{"".join(cells)}</div>'))
    if not rejected.any():
        sections.append('<p class="quiet">No image was rejected.</p>')
    order = np.argsort(-scores, kind="stable")
    kept = order[table.kept[order]]
    for title, chosen in (
        ("Most anomalous of those kept", kept[: SHOWN // 2]),
        ("Least anomalous", order[::-1][: SHOWN // 2]),
    ):
        sections.append(_section(title, _with_reconstructions(run, images, chosen, scores, table.names)))
    return sections


@torch.inference_mode()
def _with_reconstructions(
    run: TrainedRun, images: TrainingSet, chosen: NDArray[np.int64], scores: NDArray[np.float64], names: Sequence[str]
) -> str:
    """Each image, what the decoder makes of its code, and its map; of a photograph in tiles the image alone."""
    cells = []
    peak = peak_of(run.calibration)
    in_tiles = isinstance(images.store, PhotographStore)
    for index in map(int, chosen):
        picture = images.picture(index)
        cells.append(_cell(_shown(picture), f"{scores[index]:.2f} {Path(names[index]).name}"))
        if in_tiles:
            continue
        x = torch.from_numpy(np.ascontiguousarray(picture).transpose(2, 0, 1)[None].copy()).float() / 255.0
        measured = run.autoencoder.measure(x, run.prior)
        x_hat = run.autoencoder.decoder(measured.latent).cpu().numpy()
        if x_hat.shape == tuple(x.shape):
            cells.append(_cell(_decoded(x_hat[0]), "decoded"))
        cells.append(_cell(_heated(picture, measured.anomaly_map[0].cpu().numpy(), peak), "map"))
    note = '<p class="quiet">Each image, decoded from its code, and under its map.</p>' if not in_tiles else ""
    return f'{note}<div class="sheet">{"".join(cells)}</div>'


def _parity(bundle: Bundle) -> str:
    rows = [
        [name, report["backend"], "passed" if report["passed"] else "FAILED", "; ".join(report.get("failures", []))]
        for name, evidence in bundle.manifest["parity"].items()
        for report in evidence.get("reports", [])
    ]
    return _section("The gate", _table(["precision", "backend", "", "failures"], rows)) if rows else ""


def _evaluation(report: Report) -> str:
    with matplotlib.rc_context(STYLE_OF_FIGURES):
        drawn = [(name.removesuffix(".png").replace("_", " "), figure) for name, figure in figures_of(report)]
    figures = "".join(_figure(figure, name) for name, figure in drawn)
    lines = _text("\n".join(report.lines()))
    return _section("On labelled images", f'<pre>{lines}</pre><div class="two">{figures}</div>')


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{_text(title)}</h2>\n{content}\n</section>"


def _facts(facts: Sequence[tuple[str, str]]) -> str:
    return _table(["", ""], [list(fact) for fact in facts])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = f"<tr>{''.join(f'<th>{_text(name)}</th>' for name in header)}</tr>" if any(header) else ""
    body = "".join(
        f"<tr><th scope='row'>{_text(row[0])}</th>{''.join(f'<td>{_text(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f"<table>{head}{body}</table>"


def _figure(figure: Figure, title: str, caption: str = "") -> str:
    told = f"<figcaption>{_text(caption)}</figcaption>" if caption else ""
    return f"<figure>{svg_of(figure, title)}{told}</figure>"


def _cell(image: Frame, caption: str) -> str:
    encoded = base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode("ascii")
    told = _text(caption)
    return f'<figure><img alt="{told}" src="data:image/png;base64,{encoded}"><figcaption>{told}</figcaption></figure>'


def _shown(image: Frame) -> Frame:
    """A training image as a person sees it, at most a sheet's tile large."""
    square = tile(np.ascontiguousarray(image), "")
    return square[: square.shape[1]]


def _decoded(x_hat: NDArray[np.float32]) -> Frame:
    """(C, H, W) in [0, 1] as a picture."""
    return _shown((255.0 * np.clip(x_hat, 0.0, 1.0)).astype(np.uint8).transpose(1, 2, 0))


def _heated(image: Frame, heat: NDArray[np.float32], peak: float) -> Frame:
    grey = image[:, :, 0] if image.shape[2] != 3 else image
    sized: Any = cv2.resize(heat, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    return _shown(overlay(np.ascontiguousarray(grey), sized, peak))


def _text(words: str) -> str:
    return html.escape(words.encode("utf-8", errors="replace").decode("utf-8"))
