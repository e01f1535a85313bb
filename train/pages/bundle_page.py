"""The page about a bundle: what it is, its thresholds, the gate's evidence, its golden samples.

Everything stands in the bundle; labelled images add curves and a table.
"""

from __future__ import annotations

import numpy as np

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.model.self_reference import N_CHANNELS
from edge_runtime.scoring.heatmap import peak_of
from edge_runtime.verdict import verdict_of
from train.evaluation.report import Report
from train.pages.figures import quantile_figure
from train.pages.page import (
    contamination,
    drawing,
    facts,
    found_rows,
    labelled_images,
    pictures_with_map,
    section,
    sheet,
    table,
)

__all__ = ["bundle_page"]


def bundle_page(bundle: Bundle, evaluation: Report | None = None) -> list[str]:
    """The sections about a bundle."""
    sections = [_summary(bundle), *_scores(bundle), _parity(bundle), _golden_samples(bundle)]
    if evaluation is not None:
        sections.insert(2, labelled_images(evaluation))
    return sections


def _summary(bundle: Bundle) -> str:
    manifest = bundle.manifest
    model, training = manifest["model"], manifest["training"]
    rows = [
        ("verdict", verdict_of(manifest["calibration"]).sentence),
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
    return [section("Scores of the training images", drawing(figure, "share of images above each score"))]


def _parity(bundle: Bundle) -> str:
    rows = [
        [name, report["backend"], "passed" if report["passed"] else "FAILED", "; ".join(report.get("failures", []))]
        for name, evidence in bundle.manifest["parity"].items()
        for report in evidence.get("reports", [])
    ]
    return section("The gate", table(["precision", "backend", "", "failures"], rows)) if rows else ""


def _golden_samples(bundle: Bundle) -> str:
    golden = Golden.from_npz(bundle.files["golden.npz"])
    x_hat, maps = golden.outputs.x_hat, golden.outputs.anomaly_map
    scores = bundle.decision.score(golden.outputs.criteria)
    peak = peak_of(bundle.manifest["calibration"])
    cells = []
    for index in np.argsort(scores):
        image = golden.inputs[index]
        decoded = x_hat[index] if x_hat is not None and x_hat.shape[1] == image.shape[2] != N_CHANNELS else None
        cells += pictures_with_map(image, f"{scores[index]:.2f}", decoded, maps[index], peak)
    note = (
        '<p class="quiet">What a device verifies itself with: training images spread over the scores, each with its '
        "map; least anomalous first.</p>"
    )
    return section("Golden samples", note + sheet(cells))
