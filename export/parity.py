"""The parity gate: exported graphs against PyTorch, in every precision and through every engine at hand.

`edge-aae export` runs it before a bundle is written, `edge-aae verify --against RUN` again at any time.
"""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.archive import sha256
from edge_runtime.bundle.budgets import Budget
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.comparison import Outputs
from edge_runtime.bundle.spread import criterion_spreads
from edge_runtime.errors import BundleError, GateError
from edge_runtime.gate.report import Check, GateReport, compare_outputs
from edge_runtime.gate.verification import DEFAULT_BACKEND, run_precision, runs_every_graph
from edge_runtime.model.score import Decision
from export.frames import GateFrames
from export.graphs import OPSET, DetectorGraph, graph_facts
from train.runs.run_folder import TrainedRun

__all__ = ["Reference", "check_files", "check_same_network", "evidence", "require_passed", "torch_outputs"]

CHUNK = 8
"""Inputs of one forward pass: what more of them compute leaves the cache."""
MOST_EXACT = 10
"""Inputs that a network with a backbone is asked about in float64."""


class Reference:
    """What PyTorch gives for some frames, in float32 and, where asked for, in float64."""

    def __init__(self, run: TrainedRun, frames: GateFrames) -> None:
        self.run = run
        self.frames = frames
        self.float32 = torch_outputs(run, frames.inputs, torch.float32)

    def float64(self) -> tuple[NDArray[np.int64], Outputs]:
        """The inputs that are computed in float64 as well, and what that gives for them, codes of float32 decoded: what
        rounding alone does.

        A backbone takes a second for each: some are chosen, evenly over all kinds of frames.
        """
        n = len(self.frames.inputs)
        n_exact = min(n, MOST_EXACT) if self.run.config.train.spec.reads_backbone else n
        chosen = np.linspace(0, n - 1, n_exact).round().astype(np.int64)
        latent = self.float32.latent[chosen]
        return chosen, torch_outputs(self.run, self.frames.inputs[chosen], torch.float64, latent)

    def check(
        self,
        files: Mapping[str, bytes],
        decision: Decision,
        *,
        precision: str = "fp32",
        backend: str = DEFAULT_BACKEND,
        threads: int = 0,
        budget: Budget | None = None,
    ) -> Iterator[Check]:
        """A precision's graphs through one backend: against float32, and fp32 through onnxruntime against float64 too.

        Raises BackendError where the backend cannot run the graph here.
        """
        frames = self.frames
        actual = run_precision(
            files, frames.inputs, self.float32.latent, precision=precision, backend=backend, threads=threads
        )
        yield self._compared("PyTorch float32", frames, self.float32, actual, decision, precision, backend, budget)
        if runs_every_graph(precision, backend):
            chosen, exact = self.float64()
            yield self._compared(
                "PyTorch float64", frames.at(chosen), exact, actual.at(chosen), decision, precision, backend, budget
            )

    def _compared(
        self,
        against: str,
        frames: GateFrames,
        reference: Outputs,
        actual: Outputs,
        decision: Decision,
        precision: str,
        backend: str,
        budget: Budget | None,
    ) -> Check:
        report = compare_outputs(
            reference,
            actual,
            self.run.autoencoder.criteria,
            decision,
            backend=backend,
            against=against,
            precision=precision,
            budget=budget,
            spreads=criterion_spreads(self.run.calibration),
            labels=frames.labels,
            groups=frames.groups,
            contrast=True,  # hostile frames are always among them
        )
        return Check(report=report, inputs=frames.inputs, reference=reference, actual=actual)


@torch.inference_mode()
def torch_outputs(
    run: TrainedRun,
    inputs: NDArray[np.uint8],
    dtype: torch.dtype,
    codes: NDArray[np.floating[Any]] | None = None,
) -> Outputs:
    """What PyTorch gives on the CPU for (N, H, W, C) uint8 network inputs, computed in dtype.

    codes: (N, D) or (N, D, h, w), decoded in the place of the inputs' own.
    """
    autoencoder = copy.deepcopy(run.autoencoder).to("cpu", dtype).eval()
    graph = DetectorGraph(autoencoder, run.prior)
    parts: list[tuple[Tensor, ...]] = []
    for part in torch.from_numpy(inputs).split(CHUNK):
        criteria, latent, anomaly_map = graph(part)
        done = sum(len(part[0]) for part in parts)
        decoded = latent if codes is None else torch.from_numpy(codes[done : done + len(part)]).to(dtype)
        parts.append((criteria, latent, anomaly_map, autoencoder.decoder(decoded)))
    criteria, latent, anomaly_map, x_hat = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
    return Outputs(criteria, latent, anomaly_map, latent, x_hat)


def check_files(run: TrainedRun, bundle: Bundle) -> list[str]:
    """What a bundle's files tell that outputs may not: prior, decision and preprocessing against the run's; opset,
    inputs, outputs and model of each graph against what was written.
    """
    manifest, preprocess = bundle.manifest, run.config.preprocess
    failures = [
        f"{name} is not that of {run.path}: {came}, expected {expected}"
        for name, came, expected in (
            ("prior.npz", sha256(bundle.files["prior.npz"])[:16], sha256(run.prior.to_npz())[:16]),
            ("the manifest's decision", manifest["decision"], run.decision.to_json()),
            ("the manifest's preprocess", manifest["preprocess"], preprocess.to_json()),
            ("the manifest's model id", manifest["model"].get("id"), run.model_id),
        )
        if came != _as_read(expected)
    ]
    for name in sorted(name for name in bundle.files if name.endswith(".onnx")):
        facts = graph_facts(bundle.files[name])
        if facts["opset"] != OPSET:
            failures.append(f"{name} has opset {facts['opset']}, it was written with {OPSET}")
        listed = manifest["graphs"].get(name, {})
        failures += [
            f"{name} has {key} {facts[key]}, the manifest lists {listed[key]}"
            for key in ("precision", "inputs", "outputs")
            if key in listed and facts[key] != listed[key]
        ]
    return failures


def _as_read(value: Any) -> Any:
    """As the manifest gives it back: JSON has no tuples."""
    return json.loads(json.dumps(value))


def check_same_network(run: TrainedRun, input_shape: tuple[int, int, int], latent_dim: int) -> None:
    """Raise BundleError where a bundle cannot come from a run because their networks differ in shape."""
    if run.config.preprocess.input_shape != input_shape or run.prior.dim != latent_dim:
        raise BundleError(
            f"the bundle's network takes {input_shape} and has {latent_dim} latent dimensions, {run.path} has "
            f"{run.config.preprocess.input_shape} and {run.prior.dim}; name the run that the bundle was exported from"
        )


def evidence(reports: Sequence[GateReport], backend: str = DEFAULT_BACKEND) -> dict[str, Any]:
    """The gate's evidence for the manifest: verdict by that backend, all reports, versions and machine."""
    decisive = [report for report in reports if report.backend == backend]
    return {
        "passed": all(report.passed for report in decisive),
        "failures": [line for report in decisive for line in report.failures()],
        "reports": [report.to_json() for report in reports],
        "versions": {
            name: _version(name) for name in ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "numpy")
        },
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
    }


def require_passed(reports: Sequence[GateReport], *, subject: str) -> None:
    """Raise GateError naming every output that differs."""
    failures = [f"{report.precision}: {line}" for report in reports for line in report.failures()]
    if failures:
        raise GateError(f"{subject} failed the parity gate: " + "; ".join(failures))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed as a package"
