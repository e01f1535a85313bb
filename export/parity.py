"""The parity gate: exported graphs against PyTorch, in float32 and in float64, on real and on hostile frames.

`edge-aae export` runs it before a bundle is written, `edge-aae verify --against RUN` again at any time.
"""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.comparison import GateReport, Outputs, compare_outputs
from edge_runtime.errors import BundleError, GateError
from edge_runtime.golden import run_graphs
from edge_runtime.score import Decision
from export.graphs import DetectorGraph
from train.run_folder import TrainedRun

__all__ = ["gate", "gate_frames", "parity_json", "require_passed", "torch_outputs"]

NOISE_SEED = 20190125
N_NOISE = 4


def gate_frames(sample_inputs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frames of the gate: the samples, then black, white, mid-grey, a checkerboard and noise: (N, H, W, C) uint8.

    Hostile frames reach activations that training images do not: saturated sigmoids, far-off codes.
    """
    shape = sample_inputs.shape[1:]
    rng = np.random.default_rng(NOISE_SEED)
    checkerboard = np.indices(shape[:2]).sum(axis=0) % 2 * 255
    hostile = [
        *(np.full(shape, level) for level in (0, 255, 128)),
        np.broadcast_to(checkerboard[:, :, None], shape),
        *(rng.integers(0, 256, shape) for _ in range(N_NOISE)),
    ]
    return np.concatenate((sample_inputs, np.stack(hostile).astype(np.uint8)))


@torch.inference_mode()
def torch_outputs(run: TrainedRun, inputs: NDArray[np.uint8], dtype: torch.dtype) -> Outputs:
    """What PyTorch gives on the CPU for (N, H, W, C) uint8 network inputs, computed in dtype."""
    autoencoder = copy.deepcopy(run.autoencoder).to("cpu", dtype).eval()
    criteria, latent, anomaly_map = DetectorGraph(autoencoder, run.prior)(torch.from_numpy(inputs))
    x_hat = autoencoder.decoder(latent)
    codes = latent.numpy()
    return Outputs(criteria.numpy(), codes, anomaly_map.numpy(), codes, x_hat.numpy())


def gate(
    run: TrainedRun, files: Mapping[str, bytes], decision: Decision, inputs: NDArray[np.uint8]
) -> list[GateReport]:
    """The graphs in `files` through onnxruntime against PyTorch in float32 and float64: one report each.

    inputs: (N, H, W, C) uint8, from gate_frames.
    """
    reference = torch_outputs(run, inputs, torch.float32)
    actual = run_graphs(files, inputs, reference.latent)
    return [
        compare_outputs(
            outputs, actual, run.autoencoder.criteria, decision, backend="onnxruntime-cpu", against=f"PyTorch {name}"
        )
        for name, outputs in (("float32", reference), ("float64", torch_outputs(run, inputs, torch.float64)))
    ]


def check_same_network(run: TrainedRun, input_shape: tuple[int, int, int], latent_dim: int) -> None:
    """Raise BundleError where a bundle cannot come from a run because their networks differ in shape."""
    if run.config.preprocess.input_shape != input_shape or run.prior.dim != latent_dim:
        raise BundleError(
            f"the bundle's network takes {input_shape} and has {latent_dim} latent dimensions, {run.path} has "
            f"{run.config.preprocess.input_shape} and {run.prior.dim}; name the run that the bundle was exported from"
        )


def parity_json(reports: list[GateReport]) -> dict[str, Any]:
    """The gate's evidence for the manifest: reports, versions and machine."""
    return {
        "reports": [report.to_json() for report in reports],
        "versions": {name: _version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime", "numpy")},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
    }


def require_passed(reports: list[GateReport], *, subject: str) -> None:
    """Raise GateError naming every output that differs."""
    failures = [line for report in reports for line in report.failures()]
    if failures:
        raise GateError(f"{subject} failed the parity gate: " + "; ".join(failures))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed as a package"
