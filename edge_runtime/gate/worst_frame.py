"""Of a parity check that failed, the frame that failed most: input, both maps and their difference, to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.comparison import Outputs
from edge_runtime.extras import require
from edge_runtime.files import write_atomically
from edge_runtime.gate.report import Check
from edge_runtime.npz import npz_bytes

__all__ = ["save_worst_frame"]

PANEL = 256
"""Pixels of a panel's shorter side, at least."""
GAP = 8


def save_worst_frame(check: Check, folder: Path) -> list[Path]:
    """Write PRECISION-BACKEND.npz, every output of the frame, and .png, four panels, into the folder.

    The panels: network input, the reference's map, the actual map, their absolute difference; each map from 0 to its
    largest value, the difference from 0 to the largest of the reference's map.
    """
    index = _worst_index(check)
    reference, actual = check.reference, check.actual
    arrays = {"input": check.inputs[index]}
    for side, outputs in (("reference", reference), ("actual", actual)):
        for name in ("criteria", "latent", "anomaly_map"):
            values = getattr(outputs, name)
            if len(values) > index:
                arrays[f"{side}_{name}"] = values[index]
    stem = f"{check.report.precision}-{check.report.backend}"
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.npz", folder / f"{stem}.png"]
    write_atomically(written[0], npz_bytes(arrays))
    cv2 = require("cv2", extra="camera", purpose="pictures")
    encoded, picture = cv2.imencode(".png", _panels(check.inputs[index], reference, actual, index))
    assert encoded, "cv2 encodes uint8 images as PNG"
    write_atomically(written[1], picture.tobytes())
    return written


def _worst_index(check: Check) -> int:
    """The input that the failing output with the largest error over its tolerance points at; 0 where none does."""
    failed = [item for item in check.report.comparisons if not item.passed and item.where.endswith("anomaly_map")]
    failed += [item for item in check.report.comparisons if not item.passed and ".onnx" in item.where]
    index = failed[0].worst_frame if failed else 0
    return index if index < len(check.inputs) else 0


def _panels(frame: NDArray[np.uint8], reference: Outputs, actual: Outputs, index: int) -> NDArray[np.uint8]:
    cv2 = require("cv2", extra="camera", purpose="pictures")
    expected = np.asarray(reference.anomaly_map[index], dtype=np.float64)
    came = np.zeros_like(expected)
    if actual.anomaly_map.shape == reference.anomaly_map.shape:
        came = np.nan_to_num(np.asarray(actual.anomaly_map[index], dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    levels = [
        frame[..., :3].mean(axis=2) if frame.shape[2] == 3 else frame[..., 0].astype(np.float64),
        *(255.0 * np.clip(values / max(float(values.max()), 1e-12), 0.0, 1.0) for values in (expected, came)),
        255.0 * np.minimum(np.abs(came - expected) / max(float(expected.max()), 1e-12), 1.0),
    ]
    height, width = frame.shape[:2]
    factor = max(1, round(PANEL / min(height, width)))
    size = (factor * width, factor * height)
    panels = [cv2.resize(level.round().astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for level in levels]
    gap = np.full((size[1], GAP), 255, dtype=np.uint8)
    joined: NDArray[np.uint8] = np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)
    return joined
