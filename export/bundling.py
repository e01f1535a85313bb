"""From a run folder to a bundle: graphs, prior, golden samples, manifest, and the gate before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_runtime import __version__
from edge_runtime.bundle.budgets import detector_file
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden, hashes_of
from edge_runtime.gate.report import GateReport
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.defect_size import DefectSize
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.scoring.heatmap import check_size
from edge_runtime.signing.signatures import Signature, signature_path, write_signed
from export.frames import contrast_frames
from export.graphs import graph_facts, identified
from export.parity import evidence, torch_outputs
from export.precisions import ExportRequest, Precision, exported, judged
from train.memory import keep_freed_memory
from train.runs.run_folder import RunFolder, TrainedRun, telling_name

__all__ = ["Export", "ExportRequest", "export_bundle", "gated_bundle"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Export:
    """A bundle that passed the gate, and the evidence."""

    bundle: Bundle
    reports: list[GateReport]
    refused: dict[str, str] = field(default_factory=dict)
    """Precision to the reason why it is not in the bundle"""
    signature: Signature | None = None
    """What was written beside it, where it was asked for"""


def export_bundle(run_path: Path, out: Path, request: ExportRequest | None = None) -> Export:
    """Export a run to an .aae file, and its signature beside it where the request has a key.

    The file appears only if the gate passes, whole; an older one stays until then. Precisions and errors as of
    gated_bundle.
    """
    request = request or ExportRequest()
    found = gated_bundle(run_path, out, request)
    signature = _written(found.bundle, out, request)
    return replace(found, bundle=Bundle.open(out), signature=signature)


def gated_bundle(run_path: Path, out: Path, request: ExportRequest) -> Export:
    """The bundle of a run in memory, once it has passed the gate; nothing is written. out: what it is called.

    A precision that fails is left out, and the reason kept, unless the request names it or allows it. Raises GateError,
    DataError, BundleError.
    """
    keep_freed_memory()
    run = RunFolder(run_path).load()
    check_size(request.size, run.calibration, run_path)
    files, precisions = exported(run, request)
    files = identified(files, model_id=run.model_id, criteria=run.autoencoder.criteria)
    while True:
        bundle = _packed(run, files, precisions, out, request.size)
        # What a device will do first: the packed bundle against its own golden samples.
        own = [verify_bundle(bundle, precision=name) for name in bundle.precisions]
        precisions = [judged(item, request, _of(item, own)) for item in precisions]
        refused = [item.name for item in precisions if item.refused and detector_file(item.name) in files]
        if not refused:
            break
        files = {name: content for name, content in files.items() if name not in map(detector_file, refused)}
    checked = [check.report for item in precisions for check in item.checks]
    refusals = {item.name: item.refused for item in precisions if item.refused}
    return Export(bundle, [*checked, *own], refusals)


def _written(bundle: Bundle, out: Path, request: ExportRequest) -> Signature | None:
    if request.sign is not None:
        archive = bundle.to_bytes()
        signature = request.sign.sign(archive)
        write_signed(out, archive, signature)
        return signature
    bundle.write(out)
    if signature_path(out).exists():
        logger.warning(
            "%s is of the bundle that was there before; sign this one with `edge-aae sign`, or remove it",
            signature_path(out),
        )
    return None


def _of(precision: Precision, reports: Sequence[GateReport]) -> list[GateReport]:
    return [report for report in reports if report.precision == precision.name]


def _packed(
    run: TrainedRun, files: dict[str, bytes], precisions: Sequence[Precision], out: Path, size: DefectSize
) -> Bundle:
    manifest = _manifest(run, files, precisions)
    if size:
        manifest["defect_size"] = size.to_json()
    files = {**files, "prior.npz": run.prior.to_npz()}
    preprocess = run.config.preprocess
    placements = [preprocess.place(frame) for frame in run.raw_frames]
    contrast = contrast_frames(run.sample_inputs, preprocess.self_reference != "none")
    golden = Golden(
        inputs=run.sample_inputs,
        outputs=torch_outputs(run, run.sample_inputs, torch.float32),
        contrast_inputs=contrast,
        contrast_outputs=torch_outputs(run, contrast, torch.float32),
        raw_frames=tuple(run.raw_frames),
        raw_inputs=tuple(_raw_input(preprocess, frame) for frame in run.raw_frames),
        raw_views=tuple(np.array(placement.matrix) for placement in placements if placement is not None),
        hashes=hashes_of(manifest, files),
    )
    return Bundle.from_parts(manifest, {**files, "golden.npz": golden.to_npz()}, out)


def _raw_input(preprocess: Preprocess, frame: Frame) -> Frame:
    """(H, W, C), or the (T, H, W, C) tiles of a frame that is cut into some."""
    return preprocess.tiles(frame)[0] if preprocess.fit == "tile" else preprocess(frame)


def _manifest(run: TrainedRun, files: dict[str, bytes], precisions: Sequence[Precision]) -> dict[str, Any]:
    config = run.config
    return {
        "created_by": {"edge_aae": __version__, "trained_by": config.edge_aae, "torch": config.torch},
        "model": {
            "id": run.model_id,
            "network": config.train.network,
            "method": config.train.method,
            "refine": config.train.refine,
            "latent_dim": config.train.latent_dim,
            "parameters": sum(parameter.numel() for parameter in run.autoencoder.parameters()),
            **({} if run.autoencoder.backbone is None else {"backbone": run.autoencoder.backbone.facts.to_json()}),
        },
        "preprocess": config.preprocess.to_json(),
        "graphs": {name: graph_facts(content) for name, content in files.items()},
        "criteria": list(run.autoencoder.criteria),
        "prior": {"kind": run.prior.kind, "dim": run.prior.dim, "file": "prior.npz"},
        "calibration": run.calibration,
        "decision": run.decision.to_json(),
        "training": {
            "status": config.status,
            "started": config.started,
            "device": config.device,
            "epochs": config.epochs_done,
            "epochs_planned": config.epochs_total,
            "n_images": config.n_images,
            "n_skipped": config.n_skipped,
            "images_sha256": config.images_sha256,
            # A name, not a path: the bundle travels.
            "data": {**config.data.to_json(), "path": telling_name(config.data.path)},
            "settings": {**config.train.to_json(), "backbone": Path(config.train.backbone).name},
        },
        "parity": {item.name: _evidence(item) for item in precisions},
    }


def _evidence(precision: Precision) -> dict[str, Any]:
    found = {**evidence([check.report for check in precision.checks]), **precision.facts}
    return {**found, "shipped": not precision.refused, **({"refused": precision.refused} if precision.refused else {})}
