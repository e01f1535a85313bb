"""The page about a bundle: the opening, where its threshold lies; the gate's evidence and its samples folded.

Everything stands in the bundle; labelled images add curves and a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.model.self_reference import N_CHANNELS
from edge_runtime.scoring.heatmap import scale_of
from edge_runtime.verdict import verdict_of
from train.evaluation.report import Report
from train.pages.examples import Example, of_golden
from train.pages.figures import quantile_figure
from train.pages.opening import figures_of_labelled, figures_of_training, opening, time_figure
from train.pages.page import (
    contamination,
    drawing,
    facts,
    folded,
    found_rows,
    labelled_images,
    pictures_with_map,
    section,
    sheet,
    table,
)

__all__ = ["bundle_page"]

NEXT = "edge-aae run --camera 0"
"""The step after an export where nothing speaks against the model"""


def bundle_page(bundle: Bundle, evaluation: Report | None = None, examples: Sequence[Example] = ()) -> list[str]:
    """The sections about a bundle. examples: of the evaluation; without one those of the golden samples are shown."""
    golden = Golden.from_npz(bundle.files["golden.npz"])
    return [
        _opening(bundle, golden, evaluation, examples),
        *([] if evaluation is None else [labelled_images(evaluation)]),
        *_scores(bundle),
        _parity(bundle),
        _golden_samples(bundle, golden),
        folded("The bundle", _facts_of_bundle(bundle)),
    ]


def _opening(bundle: Bundle, golden: Golden, evaluation: Report | None, examples: Sequence[Example]) -> str:
    calibration, n_images = bundle.manifest["calibration"], bundle.manifest["training"].get("n_images") or 0
    bench = "edge-aae bench"
    if evaluation is not None:
        n = len(evaluation.evaluation.rows)
        how = f"median of {n}, on the CPU, where this page was made; on the device:"
        figures = figures_of_labelled(evaluation, time_figure(evaluation.evaluation.time_ms, how, bench))
        return opening(evaluation.verdict, NEXT, figures, examples)
    time = time_figure(None, "measure it on the device:", bench)
    figures = figures_of_training(calibration, n_images, calibration.get("left_out"), str(bundle.path), time)
    scores = bundle.decision.score(golden.outputs.criteria)
    shown = of_golden(golden, scores, bundle.decision.threshold, scale_of(calibration).peak)
    return opening(verdict_of(calibration), NEXT, figures, shown)


def _facts_of_bundle(bundle: Bundle) -> str:
    manifest = bundle.manifest
    model, training = manifest["model"], manifest["training"]
    rows = [
        ("bundle", f"{bundle.path}, sha256:{bundle.digest}"),
        ("model", f"{model.get('network')} {model.get('method')}, refine {model.get('refine')}"),
        ("input", "x".join(map(str, bundle.preprocess.input_shape))),
        ("decision", f"{manifest['decision']['rule']}, anomalous above {bundle.decision.threshold:g}"),
        ("trained on", f"{training.get('n_images')} images, {training.get('epochs')} epochs, {training.get('device')}"),
        *found_rows(manifest["calibration"]),
        *contamination(manifest["calibration"]),
    ]
    return facts(rows)


def _scores(bundle: Bundle) -> list[str]:
    """One section, none where the bundle is from before it kept the scores' distribution."""
    quantiles = bundle.manifest["calibration"].get("score_quantiles")
    if not quantiles:
        return []
    figure = quantile_figure(quantiles, bundle.decision.threshold)
    return [section("Where the threshold lies", drawing(figure, "share of images above each score"))]


def _parity(bundle: Bundle) -> str:
    rows = [
        [name, report["backend"], "passed" if report["passed"] else "FAILED", "; ".join(report.get("failures", []))]
        for name, evidence in bundle.manifest["parity"].items()
        for report in evidence.get("reports", [])
    ]
    return folded("The gate", table(["precision", "backend", "", "failures"], rows)) if rows else ""


def _golden_samples(bundle: Bundle, golden: Golden) -> str:
    x_hat, maps = golden.outputs.x_hat, golden.outputs.anomaly_map
    scores = bundle.decision.score(golden.outputs.criteria)
    scale = scale_of(bundle.manifest["calibration"])
    cells = []
    for index in np.argsort(scores):
        image = golden.inputs[index]
        decoded = x_hat[index] if x_hat is not None and x_hat.shape[1] == image.shape[2] != N_CHANNELS else None
        cells += pictures_with_map(image, f"{scores[index]:.2f}", decoded, maps[index], scale)
    note = (
        '<p class="quiet">What a device verifies itself with: training images spread over the scores, each with its '
        "map; least anomalous first.</p>"
    )
    return folded("Golden samples", note + sheet(cells))
