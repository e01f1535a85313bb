"""From a run folder to a bundle: graphs, prior, golden samples, manifest, and the gate before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_runtime import __version__
from edge_runtime.archive import sha256
from edge_runtime.bundle import Bundle
from edge_runtime.comparison import GateReport
from edge_runtime.golden import Golden, verify_bundle
from edge_runtime.preprocess import Frame, Preprocess
from export.graphs import export_graphs, graph_facts
from export.parity import gate, gate_frames, parity_json, require_passed, torch_outputs
from train.run_folder import RunFolder, TrainedRun, telling_name

__all__ = ["Export", "export_bundle"]


@dataclass(frozen=True, slots=True)
class Export:
    """A bundle that passed the gate, and the evidence."""

    bundle: Bundle
    reports: list[GateReport]


def export_bundle(run_path: Path, out: Path) -> Export:
    """Export a run to an .aae file.

    The file appears only if the gate passes, whole; an older one stays until then. Raises GateError, DataError,
    BundleError.
    """
    run = RunFolder(run_path).load()
    files = export_graphs(run.autoencoder, run.prior, run.config.preprocess)
    reports = gate(run, files, run.decision, gate_frames(run.sample_inputs))
    require_passed(reports, subject=f"the export of {run_path}")
    golden = Golden(
        inputs=run.sample_inputs,
        outputs=torch_outputs(run, run.sample_inputs, torch.float32),
        raw_frames=tuple(run.raw_frames),
        raw_inputs=tuple(_raw_input(run.config.preprocess, frame) for frame in run.raw_frames),
        graphs={name: sha256(content) for name, content in files.items()},
    )
    files |= {"prior.npz": run.prior.to_npz(), "golden.npz": golden.to_npz()}
    bundle = Bundle.from_parts(_manifest(run, files, reports), files, out)
    # What a device will do first: the packed bundle against its own golden samples.
    own = verify_bundle(bundle)
    require_passed([own], subject=f"the bundle of {run_path}")
    bundle.write(out)
    return Export(Bundle.open(out), [*reports, own])


def _raw_input(preprocess: Preprocess, frame: Frame) -> Frame:
    """(H, W, C), or the (T, H, W, C) tiles of a frame that is cut into some."""
    return preprocess.tiles(frame)[0] if preprocess.fit == "tile" else preprocess(frame)


def _manifest(run: TrainedRun, files: dict[str, bytes], reports: list[GateReport]) -> dict[str, Any]:
    config = run.config
    return {
        "created_by": {"edge_aae": __version__, "trained_by": config.edge_aae, "torch": config.torch},
        "model": {
            "network": config.train.network,
            "method": config.train.method,
            "refine": config.train.refine,
            "latent_dim": config.train.latent_dim,
            "parameters": sum(parameter.numel() for parameter in run.autoencoder.parameters()),
        },
        "preprocess": config.preprocess.to_json(),
        "graphs": {name: graph_facts(content) for name, content in files.items() if name.endswith(".onnx")},
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
            "settings": config.train.to_json(),
        },
        "parity": {"fp32": parity_json(reports)},
    }
