"""The page about a training: the opening, what was set aside, where the threshold lies; losses and codes folded.

It needs the run folder; with the images it adds pictures, codes and maps, with labelled images their result.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.conformal import INTERVAL_LEVEL
from edge_runtime.scoring.heatmap import scale_of
from edge_runtime.verdict import verdict_of
from train.data.grouping import groups_line
from train.data.loading import load_training_set
from train.data.photograph_store import PhotographStore
from train.data.training_set import TrainingSet
from train.evaluation.report import Report
from train.learning.trainer import EpochRow
from train.pages.examples import Example, of_run
from train.pages.figures import boundary_figure, latent_figure, losses_figure, scores_figure
from train.pages.opening import figures_of_labelled, figures_of_training, opening, time_figure
from train.pages.page import (
    as_text,
    contamination,
    drawing,
    facts,
    folded,
    found_rows,
    labelled_images,
    picture,
    pictures_with_map,
    section,
    sheet,
    views,
)
from train.runs.review import codes_of, group_codes, keep_groups, words_of
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.verdicts import VerdictTable, read_verdicts
from train.runs.view_choice import read_view

__all__ = ["run_page"]

NEXT = "edge-aae export"
"""The step after training where nothing speaks against the model"""

SHOWN = 24
"""Images on each contact sheet."""


def run_page(
    path: Path,
    images: TrainingSet | None = None,
    evaluation: Report | None = None,
    examples: Sequence[Example] = (),
) -> list[str]:
    """The sections about a run folder.

    images: that it was trained on; None loads them from where they were. Where they are no longer there, or others,
    the page says so and does without their pictures. examples: of the evaluation. Raises DataError where the run got no
    thresholds yet.
    """
    folder = RunFolder(path)
    run = folder.load()
    table = read_verdicts(path / "refinement.csv", run.decision)
    missing = ""
    if images is None:
        try:
            images = load_training_set(run.config.data, run.config.train.network)
            if images.sha256() != run.config.images_sha256:
                images, missing = None, f"{run.config.data.path} holds other images than the run was trained on"
        except DataError as error:
            missing = str(error)
    codes = None if images is None else codes_of(run, images)
    choice = read_view(folder.view)
    return [
        _opening(path, run, images, table, evaluation, examples, missing),
        *([] if evaluation is None else [labelled_images(evaluation)]),
        _set_aside(path, run, images, table, codes, missing),
        _threshold(run, table),
        *_details(run, images, table, codes),
        _losses(path / "training.csv"),
        *([] if choice is None else [views(choice)]),
        folded("The run", _facts_of_run(path, run, table)),
        _command(path),
    ]


def _opening(
    path: Path,
    run: TrainedRun,
    images: TrainingSet | None,
    table: VerdictTable,
    evaluation: Report | None,
    examples: Sequence[Example],
    missing: str,
) -> str:
    bench = "edge-aae bench"
    if evaluation is not None:
        n = len(evaluation.evaluation.rows)
        how = f"median of {n}, in PyTorch, where this page was made; on the device, after export:"
        figures = figures_of_labelled(evaluation, time_figure(evaluation.evaluation.time_ms, how, bench))
        return opening(evaluation.verdict, NEXT, figures, examples)
    time = time_figure(None, "measure it on the device, after export:", bench)
    n_aside = int((~table.kept).sum())
    figures = figures_of_training(run.calibration, run.config.n_images, n_aside, str(path), time)
    shown = [] if images is None else of_run(run, images, table)
    return opening(verdict_of(run.calibration), NEXT, figures, shown, missing)


def _facts_of_run(path: Path, run: TrainedRun, table: VerdictTable) -> str:
    config, limit, found = run.config, run.calibration.get("limit", {}), run.calibration.get("groups")
    n_rejected = int((~table.kept).sum())
    rows = [
        ("run", f"{path}, {config.status}, {config.epochs_done} of {config.epochs_total} epochs on {config.device}"),
        (
            "data",
            f"{config.data.path}: {config.n_images} images"
            + (f", {config.n_skipped} unreadable" if config.n_skipped else ""),
        ),
        *([("groups", groups_line(found, config.n_images))] if found else []),
        ("network", f"{config.train.network}, {config.train.method}, {config.train.latent_dim} latent dimensions"),
        ("input", "x".join(map(str, config.preprocess.input_shape)) + f", fit {config.preprocess.fit}"),
        *([] if config.preprocess.align is None else [("view", str(config.preprocess.align))]),
        ("refinement", f"{config.train.refine}: {n_rejected} images rejected, {len(table.names) - n_rejected} kept"),
        ("threshold", f"{run.decision.threshold:.4g} on the score, rule {config.train.rule}"),
        *_false_alarms(limit),
        *found_rows(run.calibration),
        *contamination(run.calibration),
        ("made by", f"edge-aae {config.edge_aae}, torch {config.torch}, started {config.started}"),
    ]
    return facts(rows)


def _false_alarms(limit: dict[str, Any]) -> list[tuple[str, str]]:
    if "target_fpr" not in limit:
        return []
    low, high = limit.get("realised_fpr") or (None, None)
    level = limit.get("level", INTERVAL_LEVEL)
    sure = (
        ""
        if low is None
        else f"; of new normal images {low:.1%} to {high:.1%} are to be expected above it ({level:.0%})"
    )
    asked, rule = limit["target_fpr"], limit.get("rule", "conformal")
    aim = "at most" if rule == "conformal" else "about"
    stands_for = limit.get("stands_for", asked)
    asked_for = "" if asked in (None, stands_for) else f"; {asked:.1%} was asked for"
    return [
        ("false alarms", f"set for {aim} {stands_for:.1%}, rule {rule}, from {limit.get('n')} scores{asked_for}{sure}")
    ]


def _command(path: Path) -> str:
    try:
        command = (path / "command.txt").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return '<p class="quiet">The run was not started by the command line; config.json has all of its settings.</p>'
    return folded("The same again", f'<pre class="command">{as_text(command)}</pre>')


def _losses(path: Path) -> str:
    try:
        with path.open(newline="") as lines:
            rows = [_epoch_row(row) for row in csv.DictReader(lines)]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error
    phases = list(dict.fromkeys(row.phase for row in rows))
    caption = f"Phases, from left to right: {', '.join(phases)}." if len(phases) > 1 else ""
    return folded("Losses", drawing(losses_figure(rows), "losses over epochs", caption)) if rows else ""


def _epoch_row(values: dict[str, str]) -> EpochRow:
    kinds = {"phase": str, "epoch": int, "images": int, "candidates": int}
    return EpochRow(**{field.name: kinds.get(field.name, float)(values[field.name]) for field in fields(EpochRow)})


def _set_aside(
    path: Path,
    run: TrainedRun,
    images: TrainingSet | None,
    table: VerdictTable,
    codes: NDArray[Any] | None,
    missing: str,
) -> str:
    """What training did not learn from, in groups, and how a person overrules it."""
    title, rejected, config = "What was set aside", ~table.kept, run.config
    n, unread = int(rejected.sum()), ""
    if config.n_skipped:
        unread = f'<p class="quiet">{config.n_skipped} more files could not be read: skipped.csv names them.</p>'
    if not n:
        none = "Nothing: training learned from every photograph."
        if config.train.refine == "none":
            none += " It was told to (--refine none)."
        return section(title, f"<p>{none}</p>{unread}")
    told = (
        f"<p>{n} of {len(table.names)} photographs: training took them for anomalous and did not learn from them. If "
        f"good parts are among them, say so with <code>edge-aae review {as_text(str(path))}</code> and train again.</p>"
        f"{unread}"
    )
    if images is None or codes is None:
        return section(title, f'{told}<p class="quiet">No pictures: {as_text(missing)}.</p>')
    scores = run.decision.score(table.criteria)
    groups = group_codes(codes, rejected, scores, config.train.seed)
    with suppress(DataError):  # a run folder that is only read
        keep_groups(path, groups, table.names)
    captions = _captions(table, scores)
    for number, group in enumerate(groups, start=1):
        cells = [picture(images.picture(index), captions[index]) for index in map(int, group.members[:SHOWN])]
        words = words_of(group, len(groups), table.names, scores, run.decision.threshold)
        words += f" {len(cells)} are shown." if len(cells) < len(group.members) else ""
        name = f"<h3>Group {number}</h3>" if len(groups) > 1 else ""
        told += f'{name}<p class="quiet">{as_text(words)}</p>{sheet(cells)}'
    return section(title, told)


def _threshold(run: TrainedRun, table: VerdictTable) -> str:
    scores = run.decision.score(table.criteria)
    figure = scores_figure(scores, ~table.kept, run.decision.threshold)
    above = int((run.decision.is_anomalous(scores) & table.kept).sum())
    caption = f"{above} of the {int(table.kept.sum())} photographs that were kept lie above the threshold."
    for _, limit in _false_alarms(run.calibration.get("limit", {})):
        caption += f" It is {limit}."
    return section("Where the threshold lies", drawing(figure, "histogram of scores", caption))


def _captions(table: VerdictTable, scores: NDArray[np.float64]) -> list[str]:
    return [f"{score:.2f} {Path(name).name}" for score, name in zip(scores, table.names, strict=True)]


def _details(run: TrainedRun, images: TrainingSet | None, table: VerdictTable, codes: NDArray[Any] | None) -> list[str]:
    """Folded: more pictures, and where the images lie."""
    found = []
    if images is not None:
        scores = run.decision.score(table.criteria)
        captions, order = _captions(table, scores), np.argsort(-scores, kind="stable")
        kept = order[table.kept[order]]
        for title, indices in (
            ("Most anomalous of those kept", kept[: SHOWN // 2]),
            ("Least anomalous", order[::-1][: SHOWN // 2]),
        ):
            found.append(folded(title, _with_reconstructions(run, images, indices, captions)))
    boundary = boundary_figure(table.criteria, run.decision, run.decision.criteria, ~table.kept)
    figures = drawing(
        boundary, "reconstruction error against likelihood",
        "Error against likelihood (the paper's figures 3 and 4). Low and left is usual.",
    )  # fmt: skip
    if codes is not None:
        figures += drawing(latent_figure(codes, ~table.kept), "codes of the training images", "Codes of the images.")
    return [*found, folded("Where the images lie", f'<div class="two">{figures}</div>')]


@torch.inference_mode()
def _with_reconstructions(
    run: TrainedRun, images: TrainingSet, chosen: NDArray[np.int64], captions: Sequence[str]
) -> str:
    """Each image, what the decoder makes of its code, and its map; of a photograph in tiles the image alone."""
    if isinstance(images.store, PhotographStore):
        return sheet(picture(images.picture(index), captions[index]) for index in map(int, chosen))
    scale = scale_of(run.calibration)
    cells = []
    for index in map(int, chosen):
        image = images.picture(index)
        x = torch.from_numpy(np.ascontiguousarray(image).transpose(2, 0, 1)[None].copy()).float() / 255.0
        measured = run.autoencoder.measure(x, run.prior)
        x_hat = run.autoencoder.decoder(measured.latent)
        decoded = x_hat[0].cpu().numpy() if x_hat.shape == x.shape else None
        cells += pictures_with_map(image, captions[index], decoded, measured.anomaly_map[0].cpu().numpy(), scale)
    return '<p class="quiet">Each image, decoded from its code, and under its map.</p>' + sheet(cells)
