"""The precisions of a bundle: which graphs are written, and which of them pass the gate."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import open_backend, present_backends
from edge_runtime.bundle.budgets import PRECISIONS, PrecisionName, detector_file
from edge_runtime.errors import BackendError, ConfigError, DataError, GateError
from edge_runtime.gate.report import Check, GateReport
from edge_runtime.gate.verification import DEFAULT_BACKEND, detector_outputs
from edge_runtime.gate.worst_frame import save_worst_frame
from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.signing.keys import SigningKey
from export.frames import (
    GateFrames,
    TrainingFrames,
    sample_frames,
    straddling_frames,
    training_frames,
    with_pasted_patch,
)
from export.graphs import export_graphs, export_half_detector
from export.parity import Reference, require_passed
from export.quantize import quantized_by_measurement
from export.trunk_int8 import quantized_trunk
from train.runs.run_folder import TrainedRun

__all__ = ["ExportRequest", "Precision", "exported", "gate_frames", "judged"]

logger = logging.getLogger(__name__)


class UnusedCalibrationError(ConfigError):
    """Images to calibrate on that are none of the run's, where nothing that was asked for is calibrated on images."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportRequest:
    """What to export, and how much may fail."""

    precisions: tuple[PrecisionName, ...] | None = None
    """Those that must pass; None: all, of which fp16 and int8 are left out where they fail"""
    calibration: Path | None = None
    """Where the training images lie now, if no longer where the run found them"""
    batch: int | None = None
    """The largest batch of an additional detector-batch.onnx"""
    allow_failing: bool = False
    """Ship what fails too, marked"""
    worst: Path | None = None
    """Folder for the worst frame of each check that ends the export"""
    sign: SigningKey | None = None
    """Signs the bundle; None leaves it without a signature"""
    mm_per_pixel: float | None = None
    min_area: Area | None = None
    """Kept in the bundle, see edge_runtime.model.defect_size; None leaves them open"""

    @property
    def size(self) -> DefectSize:
        """What the bundle is to say of sizes."""
        return DefectSize(mm_per_pixel=self.mm_per_pixel, min_area=self.min_area)


@dataclass(frozen=True, slots=True)
class Precision:
    """One precision: its checks, and why it was refused if it was."""

    name: str
    checks: tuple[Check, ...] = ()
    refused: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the manifest: calibration images by reference, layers left out"""

    @property
    def decisive(self) -> list[Check]:
        """The checks through the engine that every machine has; others are evidence for those who use them."""
        return [check for check in self.checks if check.report.backend == DEFAULT_BACKEND]


def exported(run: TrainedRun, request: ExportRequest) -> tuple[dict[str, bytes], list[Precision]]:
    """The graphs that are shipped, and every precision that was asked for.

    Raises GateError where a precision fails that must pass.
    """
    files = export_graphs(run.autoencoder, run.prior, run.config.preprocess, batch=request.batch)
    images, missing = _training_frames(run, request)
    frames = gate_frames(run, images, files["detector.onnx"])
    reference = Reference(run, frames)
    found = [Precision("fp32", _checks(reference, files, "fp32"))]
    wanted = request.precisions or PRECISIONS
    if "fp16" in wanted:
        files["detector-fp16.onnx"] = export_half_detector(run.autoencoder, run.prior, run.config.preprocess)
        found.append(Precision("fp16", _checks(reference, files, "fp16")))
    if "int8" in wanted:
        found.append(_int8(reference, files, images, missing))
    precisions = [judged(item, request, [check.report for check in item.decisive]) for item in found]
    for item in precisions:
        if item.refused:
            files.pop(detector_file(item.name), None)
    return files, precisions


def gate_frames(run: TrainedRun, images: TrainingFrames | None, detector: bytes) -> GateFrames:
    """Samples and hostile frames; training images that INT8 was not calibrated on, as they are and with a patch of
    another pasted in; and blends whose scores lie astride the threshold.
    """
    frames = sample_frames(run)
    if images is None:
        return frames
    judging = images.judging
    pasted = with_pasted_patch(judging, run.config.preprocess.self_reference != "none")
    frames = frames.joined(GateFrames.of(judging, 0)).joined(GateFrames.of(pasted, 1))
    both = np.concatenate((judging, pasted))
    straddling = straddling_frames(both, _scorer(run, detector), run.decision.threshold)
    return frames.joined(GateFrames.of(straddling))


def _scorer(run: TrainedRun, detector: bytes) -> Callable[[NDArray[np.uint8]], NDArray[np.float64]]:
    backend = open_backend(DEFAULT_BACKEND, detector)
    return lambda inputs: run.decision.score(detector_outputs(backend, inputs).criteria)


def _training_frames(run: TrainedRun, request: ExportRequest) -> tuple[TrainingFrames | None, str]:
    try:
        return training_frames(run, request.calibration), ""
    except DataError as error:
        if request.calibration is not None and "int8" in (request.precisions or PRECISIONS):
            raise
        if request.calibration is not None:
            wanted = ", ".join(request.precisions or ())
            raise UnusedCalibrationError(
                f"--calibration {request.calibration} cannot be used: {error}. --precision {wanted} is calibrated on "
                "no images, it is only judged by more of them: leave --calibration out"
            ) from error
        return None, str(error)


def _checks(reference: Reference, files: dict[str, bytes], precision: str) -> tuple[Check, ...]:
    """Through every engine that is installed; one that cannot run the graph says so and is left out."""
    checks: list[Check] = []
    backends = present_backends()
    if precision == "fp32" and "openvino" in backends:
        backends.append("openvino-bf16")  # what OpenVINO itself would choose, on CPUs that have it
    for backend in backends:
        try:
            checks += reference.check(files, reference.run.decision, precision=precision, backend=backend)
        except BackendError as error:
            if backend == DEFAULT_BACKEND:
                raise
            logger.info("%s was not checked through %s: %s", precision, backend, error)
    return tuple(checks)


def _int8(reference: Reference, files: dict[str, bytes], images: TrainingFrames | None, missing: str) -> Precision:
    if images is None:
        return Precision("int8", refused=f"INT8 needs the training images to calibrate on: {missing}")

    def passes(graph: bytes) -> bool:
        candidate = {**files, "detector-int8.onnx": graph}
        checks = reference.check(candidate, reference.run.decision, precision="int8")
        return all(check.report.passed for check in checks)

    expected = reference.run.decision.score(reference.float32.criteria)

    def cost(graph: bytes) -> float:
        outputs = detector_outputs(open_backend(DEFAULT_BACKEND, graph), reference.frames.inputs)
        return float(np.abs(reference.run.decision.score(outputs.criteria) - expected).mean())

    detector, frames = files["detector.onnx"], images.calibrating
    if reference.run.config.train.spec.reads_backbone:
        found = quantized_trunk(detector, frames, passes)
    else:
        found = quantized_by_measurement(detector, frames, cost, passes)
    files["detector-int8.onnx"] = found.graph
    facts = {
        "calibration_images": images.to_json(),
        "layers": len(found.layers),
        "layers_left_out": list(found.left_out),
    }
    return Precision("int8", _checks(reference, files, "int8"), facts=facts)


def judged(item: Precision, request: ExportRequest, reports: Sequence[GateReport]) -> Precision:
    """The precision, refused where one of these reports failed; raises GateError where it must not fail."""
    if item.refused:
        if request.precisions is not None:
            raise GateError(f"{item.refused}; or leave int8 out of --precision")
        return item
    failures = [line for report in reports for line in report.failures()]
    if not failures or request.allow_failing:
        return item
    if item.name == "fp32" or request.precisions is not None:
        if request.worst is not None:
            for check in item.decisive:
                if not check.report.passed:
                    logger.warning("worst frame: %s", save_worst_frame(check, request.worst)[-1])
        require_passed(reports, subject="the export")
    return replace(item, refused="; ".join(failures))
