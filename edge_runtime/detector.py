"""The detector: frames in, scores out. The public face of the runtime."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import Backend, choose_backend, open_backend
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, ConfigError, FrameError
from edge_runtime.heatmap import peak_of
from edge_runtime.preprocess import Frame, Preprocess
from edge_runtime.score import Decision
from edge_runtime.site_calibration import SiteCalibration, threshold_at
from edge_runtime.tiling import Tiling

__all__ = ["Detector", "Result", "threshold_for"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one frame was found to be."""

    score: float
    """Fused anomaly score, higher = more anomalous; 0 is the median training image, 1 the calibrated limit."""
    threshold: float
    """The score above which a frame is anomalous."""
    is_anomaly: bool
    criteria: dict[str, float]
    """Raw criteria by name, as the bundle's manifest lists them: of each, the largest over the frame's tiles."""
    latents: NDArray[np.float32]
    """(T, D) codes of the tiles, or (T, D, h, w) where the network has one at every site."""
    anomaly_maps: NDArray[np.float32]
    """(T, h, w), of each tile, >= 0, higher = more anomalous; Detector.heatmap stitches them over the frame."""
    tiling: Tiling
    """Where the T tiles lie; one tile unless the bundle's preprocessing cuts frames into several."""
    latency_ms: dict[str, float]
    """Milliseconds for preprocess, infer and post, all tiles together."""

    @property
    def latent(self) -> NDArray[np.float32]:
        """(D,) or (D, h, w): the code of the one tile. Raises FrameError where there are several; see latents."""
        code: NDArray[np.float32] = self.latents[self._only_tile("latents")]
        return code

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """(h, w) over the one network input. Raises FrameError where there are several; see anomaly_maps."""
        only: NDArray[np.float32] = self.anomaly_maps[self._only_tile("anomaly_maps")]
        return only

    def _only_tile(self, all_of_them: str) -> int:
        if len(self.tiling) != 1:
            raise FrameError(
                f"the frame was scored in {len(self.tiling)} tiles, expected one; use {all_of_them} with tiling, or "
                "Detector.heatmap for one map over the frame"
            )
        return 0


class Detector:
    """Scores frames with a bundle. Not thread-safe: one detector a thread."""

    def __init__(self, bundle: Bundle, backend: Backend, *, threshold: float | None = None) -> None:
        """threshold: replaces the bundle's threshold on the fused score."""
        self.bundle = bundle
        self.backend = backend
        self._preprocess = bundle.preprocess
        self._decision = bundle.decision if threshold is None else replace(bundle.decision, threshold=threshold)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        precision: str = "fp32",
        backend: str = "onnxruntime-cpu",
        threads: int = 0,
        threshold: float | None = None,
        target_fpr: float | None = None,
    ) -> Detector:
        """A detector on the CPU, warmed up with one run.

        path: an .aae bundle or its folder. precision: fp32, fp16 or int8, if the bundle has it; one that was shipped
        although it failed the gate is said. backend: a name of edge_runtime.backends.BACKENDS, or auto, which takes the
        best that runs here and says why; one that failed the gate at export, while the precision passed, is refused.
        threads: 0 uses every core. threshold: on the fused score; target_fpr: the share of normal frames above it, by
        what the calibration keeps; without either it is that of the calibration on site beside the bundle, where
        there is one (edge_runtime.site_calibration), else the bundle's. Raises BundleError, BackendError, ConfigError.
        """
        bundle = Bundle.open(Path(path))
        threshold = threshold_for(bundle, threshold, target_fpr)
        graph = bundle.detector(precision)

        def refused(name: str) -> str | None:
            failures = bundle.failed_gate(precision, name)
            if not failures or bundle.ships_failing(precision):
                return None
            return f"failed the parity gate when {path} was exported: {failures[0]}"

        if backend == "auto":
            choice = choose_backend(
                graph, bundle.preprocess.input_shape, threads=threads, precision=precision, refused=refused
            )
            engine = choice.backend
            tried = "; ".join(f"{name}: {reason}" for name, reason in choice.reasons.items())
            logger.info("backend auto takes %s (%s)", engine.name, tried)
        elif reason := refused(backend):
            raise BackendError(f"{precision} through {backend} {reason}; use another backend or precision")
        else:
            engine = open_backend(backend, graph, threads=threads, precision=precision)
        for failure in bundle.failed_gate(precision, engine.name):
            logger.warning("%s: %s failed the parity gate when it was exported: %s", path, precision, failure)
        detector = cls(bundle, engine, threshold=threshold)
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

    @property
    def usual_scores(self) -> Sequence[float] | None:
        """Normal scores at SCORE_QUANTILES: of the site, else of training; None where the bundle keeps none."""
        site = SiteCalibration.beside(self.bundle.path)
        if site is not None and site.model == self.bundle.digest:
            return site.score_quantiles
        kept: Sequence[float] | None = self.bundle.manifest["calibration"].get("score_quantiles")
        return kept

    @property
    def map_peak(self) -> float:
        """The brightest map pixel that a normal image may have; see edge_runtime.heatmap.peak_of."""
        return peak_of(self.bundle.manifest["calibration"])

    def set_threshold(self, threshold: float) -> None:
        """Decide by another threshold on the fused score from the next frame on. Raises ConfigError."""
        self._decision = replace(self._decision, threshold=threshold)

    def score(self, frame: Frame) -> Result:
        """Score one frame: (H, W, 3) uint8 BGR as OpenCV gives it, or (H, W) grey.

        A frame of several tiles is as anomalous as its worst: each criterion's largest value over the tiles goes
        into the decision. Raises FrameError where shape or dtype differ.
        """
        start = time.perf_counter()
        tiles, tiling = self._preprocess.tiles(frame)
        elapsed_ms = 1000.0 * (time.perf_counter() - start)
        result = self._score_tiles(tiles, tiling)
        return replace(result, latency_ms={"preprocess": elapsed_ms, **result.latency_ms})

    def score_input(self, network_input: Frame) -> Result:
        """Score one preprocessed input, (height, width, channels) uint8, as a frame of which it is all."""
        height, width = network_input.shape[:2]
        return self._score_tiles(network_input[None], Tiling.covering((height, width), (height, width), 0))

    def _score_tiles(self, tiles: Frame, tiling: Tiling) -> Result:
        start = time.perf_counter()
        # One by one: the graph's batch is 1, and a frame of many tiles needs no more memory than one of few.
        raw = [self.backend.run(tile[None]) for tile in tiles]
        inferred = time.perf_counter()
        criteria = self._worst([outputs.criteria for outputs in raw])
        score = self._decision.score(criteria)
        anomalous = self._decision.is_anomalous(score)
        return Result(
            score=float(score[0]),
            threshold=self._decision.threshold,
            is_anomaly=bool(anomalous[0]),
            criteria=dict(zip(self.bundle.criteria, map(float, criteria[0]), strict=True)),
            latents=np.concatenate([outputs.latent for outputs in raw]),
            anomaly_maps=np.concatenate([outputs.anomaly_map for outputs in raw]),
            tiling=tiling,
            latency_ms={
                "infer": 1000.0 * (inferred - start),
                "post": 1000.0 * (time.perf_counter() - inferred),
            },
        )

    def _worst(self, criteria: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The frame's criteria, (1, K), from each tile's, checked."""
        for row in criteria:
            if row.shape != (1, len(self.bundle.criteria)):
                raise BackendError(
                    f"{self.backend.name} gave criteria of shape {row.shape}, the manifest names "
                    f"{list(self.bundle.criteria)}; export the bundle again"
                )
            if not np.isfinite(row).all():
                raise BackendError(
                    f"{self.backend.name} gave criteria {row[0].tolist()}, expected finite numbers; "
                    "run `edge-aae verify` on this bundle"
                )
        worst: NDArray[np.float32] = np.concatenate(criteria).max(axis=0, keepdims=True)
        return worst

    def heatmap(self, result: Result, frame_shape: tuple[int, ...]) -> NDArray[np.float32]:
        """The result's anomaly maps, stitched, in the coordinates of the frame they came from: (H, W) float32."""
        return self._preprocess.map_to_frame(result.anomaly_maps, frame_shape)


def threshold_for(bundle: Bundle, threshold: float | None, target_fpr: float | None) -> float | None:
    """The threshold that replaces the bundle's, see Detector.load; None where it stays."""
    if threshold is not None:
        if target_fpr is not None:
            raise ConfigError("a threshold and a false-alarm rate were both given, expected one of them")
        return threshold
    site = SiteCalibration.beside(bundle.path)
    if site is not None and site.model != bundle.digest:
        logger.warning("the calibration beside %s is of another bundle and is not used; calibrate again", bundle.path)
        site = None
    if target_fpr is not None:
        kept = {"score_quantiles": site.score_quantiles} if site else bundle.manifest["calibration"]
        return threshold_at(kept, target_fpr)
    if site is None:
        return None
    logger.info("calibrated on site: %s", site)
    return site.threshold
