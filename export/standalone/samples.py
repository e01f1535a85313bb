"""Golden samples of a bundle as arrays that any program reads, with the scores that its own results are held to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import Backend, OnnxRuntimeCpu
from edge_runtime.bundle.budgets import BUDGETS
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.comparison import Outputs, allowed
from edge_runtime.bundle.golden import Golden
from edge_runtime.files import csv_bytes
from edge_runtime.gate.decisions import MEDIAN_SCORE
from edge_runtime.model.preprocess import Frame, Preprocess

__all__ = ["Sample", "expectations", "samples_of", "takes_frames"]

MOST_OF_A_KIND = 3
ONE_LEVEL_SEED = 1901
ONE_LEVEL_SHARE = 1 / 8
"""Of the values of a network input, those that another program's bilinear resizing has a grey level apart: OpenCV cuts
its sums off, 12 % were apart from sums in float64. Area and nearest: 0.5 % and none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One golden sample: what is given, and what comes out."""

    file: str
    kind: Literal["frame", "input"]
    """A frame as the camera gives it, or one network input or the stack of a frame's"""
    array: NDArray[np.uint8]
    criteria: NDArray[np.float64]
    """(K,), of a stack the largest each"""
    reference: Literal["pytorch", "onnxruntime"]
    """What gave them, in FP32"""
    one_level: float = 0.0
    """What the score moved by when that share of the network input was a grey level off; 0 of network inputs."""


def takes_frames(preprocess: Preprocess) -> bool:
    """Whether the references make the network input of a camera frame themselves."""
    return preprocess.fit != "tile" and preprocess.self_reference == "none" and preprocess.align is None


def samples_of(bundle: Bundle) -> list[Sample]:
    """A few normal inputs, a few with a patch pasted in, and the frames as the camera gave them. Raises BundleError."""
    golden = Golden.from_npz(bundle.files["golden.npz"])
    found = list(_of_inputs("input", golden.inputs, golden.outputs))
    if golden.contrast_inputs is not None and golden.contrast_outputs is not None:
        found += _of_inputs("contrast", golden.contrast_inputs, golden.contrast_outputs)
    return [*found, *_of_frames(bundle, golden)]


def _of_inputs(stem: str, inputs: NDArray[np.uint8], outputs: Outputs) -> Iterator[Sample]:
    for index, (array, criteria) in enumerate(zip(inputs, outputs.criteria, strict=True)):
        if index < MOST_OF_A_KIND:
            yield Sample(
                file=f"{stem}_{index}.npy",
                kind="input",
                array=array,
                criteria=np.asarray(criteria, dtype=np.float64),
                reference="pytorch",
            )


def _of_frames(bundle: Bundle, golden: Golden) -> Iterator[Sample]:
    detector = OnnxRuntimeCpu(bundle.detector("fp32"))
    whole = takes_frames(bundle.preprocess)
    rng = np.random.default_rng(ONE_LEVEL_SEED)
    pairs = zip(golden.raw_frames, golden.raw_inputs, strict=True)
    for index, (frame, made) in enumerate(list(pairs)[:MOST_OF_A_KIND]):
        stack = made if made.ndim == 4 else made[None]
        criteria = _worst(detector, stack)
        if not whole:
            yield Sample(
                file=f"frame_{index}_inputs.npy", kind="input", array=made, criteria=criteria, reference="onnxruntime"
            )
            continue
        apart = rng.choice((-1, 1), stack.shape) * (rng.random(stack.shape) < ONE_LEVEL_SHARE)
        moved = (stack.astype(np.int16) + apart).clip(0, 255).astype(np.uint8)
        scores = _above_median(bundle, np.stack((criteria, _worst(detector, moved))))
        yield Sample(
            file=f"frame_{index}.npy",
            kind="frame",
            array=frame,
            criteria=criteria,
            reference="onnxruntime",
            one_level=float(np.ptp(scores)),
        )


def _worst(detector: Backend, stack: Frame) -> NDArray[np.float64]:
    rows = [np.asarray(detector.run(tile[None]).criteria[0], dtype=np.float64) for tile in stack]
    worst: NDArray[np.float64] = np.max(rows, axis=0)
    return worst


def _above_median(bundle: Bundle, criteria: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(bundle.decision.score(criteria), MEDIAN_SCORE)


def expectations(bundle: Bundle, samples: Sequence[Sample], precision: str) -> bytes:
    """The CSV of one precision: per sample the score, the decision, what the score may be off by, and the criteria.

    The tolerance is the gate's, of a camera frame with what one grey level moves the score by. The decision is
    `either` within the gate's band around the threshold, and of a frame within what that level moves.
    """
    decision, budget = bundle.decision, BUDGETS[precision]
    rows: list[Sequence[Any]] = []
    for sample in samples:
        score = decision.score(sample.criteria[None])
        tolerance = allowed(np.maximum(score, MEDIAN_SCORE), budget.of_score(decision.threshold))
        band = max(budget.band * max(1.0, abs(decision.threshold)), sample.one_level)
        verdict = "anomalous" if decision.is_anomalous(score)[0] else "normal"
        rows.append(
            (
                sample.file,
                sample.kind,
                repr(float(score[0])),
                "either" if band > 0.0 and abs(score[0] - decision.threshold) <= band else verdict,
                repr(float(tolerance[0]) + sample.one_level),
                sample.reference,
                *(repr(float(value)) for value in sample.criteria),
            )
        )
    head = ("file", "kind", "score", "decision", "tolerance", "reference", *bundle.criteria)
    return csv_bytes(head, rows)
