"""The detector: frames in, scores out. The public face of the runtime."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import Backend, OnnxRuntimeCpu
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError
from edge_runtime.preprocess import Frame, Preprocess
from edge_runtime.score import Decision

__all__ = ["Detector", "Result"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one frame was found to be."""

    score: float
    """Fused anomaly score, higher = more anomalous; 0 is the median training image, 1 the calibrated limit."""
    threshold: float
    """The score above which a frame is anomalous."""
    is_anomaly: bool
    criteria: dict[str, float]
    """Raw criteria by name: reconstruction_error (Euclidean, image space), neg_log_prior (nats)."""
    latent: NDArray[np.float32]
    """(D,) code of the frame."""
    anomaly_map: NDArray[np.float32]
    """(h, w) squared reconstruction error of each pixel of the network's input; Detector.heatmap maps it back."""
    latency_ms: dict[str, float]
    """Milliseconds for preprocess, infer and post."""


class Detector:
    """Scores frames with a bundle. Not thread-safe: one detector a thread."""

    def __init__(self, bundle: Bundle, backend: Backend, *, threshold: float | None = None) -> None:
        """threshold: replaces the bundle's threshold on the fused score."""
        self.bundle = bundle
        self.backend = backend
        self._preprocess = bundle.preprocess
        self._decision = bundle.decision if threshold is None else replace(bundle.decision, threshold=threshold)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, threads: int = 0, threshold: float | None = None) -> Detector:
        """A detector on the CPU through onnxruntime, warmed up with one run.

        path: an .aae bundle or its folder. threads: 0 uses every core. Raises BundleError, BackendError.
        """
        bundle = Bundle.open(Path(path))
        detector = cls(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=threads), threshold=threshold)
        detector.score_input(np.zeros(bundle.preprocess.input_shape, dtype=np.uint8))
        return detector

    @property
    def preprocess(self) -> Preprocess:
        """How frames become the network's input."""
        return self._preprocess

    @property
    def decision(self) -> Decision:
        """The rule and threshold in force."""
        return self._decision

    def score(self, frame: Frame) -> Result:
        """Score one frame: (H, W, 3) uint8 BGR as OpenCV gives it, or (H, W) grey.

        Raises FrameError where shape or dtype differ.
        """
        start = time.perf_counter()
        network_input = self._preprocess(frame)
        elapsed_ms = 1000.0 * (time.perf_counter() - start)
        result = self.score_input(network_input)
        return replace(result, latency_ms={"preprocess": elapsed_ms, **result.latency_ms})

    def score_input(self, network_input: Frame) -> Result:
        """Score one preprocessed input, (height, width, channels) uint8."""
        start = time.perf_counter()
        raw = self.backend.run(network_input[None])
        inferred = time.perf_counter()
        if raw.criteria.shape != (1, len(self.bundle.criteria)):
            raise BackendError(
                f"{self.backend.name} gave criteria of shape {raw.criteria.shape}, the manifest names "
                f"{list(self.bundle.criteria)}; export the bundle again"
            )
        if not np.isfinite(raw.criteria).all():
            raise BackendError(
                f"{self.backend.name} gave criteria {raw.criteria[0].tolist()}, expected finite numbers; "
                "run `edge-aae verify` on this bundle"
            )
        score = self._decision.score(raw.criteria)
        anomalous = self._decision.is_anomalous(score)
        criteria = dict(zip(self.bundle.criteria, map(float, raw.criteria[0]), strict=True))
        return Result(
            score=float(score[0]),
            threshold=self._decision.threshold,
            is_anomaly=bool(anomalous[0]),
            criteria=criteria,
            latent=raw.latent[0],
            anomaly_map=raw.anomaly_map[0],
            latency_ms={
                "infer": 1000.0 * (inferred - start),
                "post": 1000.0 * (time.perf_counter() - inferred),
            },
        )

    def heatmap(self, result: Result, frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The result's anomaly map in the coordinates of the frame it came from: (H, W) float32."""
        return self._preprocess.map_to_frame(result.anomaly_map, frame_shape)
