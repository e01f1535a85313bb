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
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import WHOLE_FRAME, Masking, View
from edge_runtime.bundle.golden import Golden
from edge_runtime.bundle.site_calibration import SiteCalibration, threshold_at
from edge_runtime.errors import BackendError, ConfigError, EdgeAaeError, FrameError
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.score import Decision
from edge_runtime.model.tiling import Tiling
from edge_runtime.scoring.heatmap import peak_of

__all__ = ["Detector", "Result"]

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
    """(T, D) codes of the tiles, or (T, D, h, w) where the network has one at every site; 0 of tiles not scored."""
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

    _view: View
    _decision: Decision
    _preprocess: Preprocess
    _masking: Masking | None

    def __init__(
        self, bundle: Bundle, backend: Backend, *, threshold: float | None = None, view: View | None = None
    ) -> None:
        """threshold: replaces the bundle's threshold on the fused score. view: what of each frame counts."""
        self.bundle = bundle
        self.backend = backend
        self._asked = _Asked(threshold=threshold, view=view)
        self._site: SiteCalibration | None = None
        self._settle()

    @classmethod
    def load(
        cls,
        model: str | os.PathLike[str] | Bundle,
        *,
        precision: str = "fp32",
        backend: str = "onnxruntime-cpu",
        threads: int = 0,
        threshold: float | None = None,
        target_fpr: float | None = None,
        view: View | None = None,
    ) -> Detector:
        """A detector on the CPU, warmed up with one run.

        model: an .aae bundle, its folder, or a bundle that was opened, beside whose path a calibration is looked for.
        precision: fp32, fp16 or int8, if the bundle has it; one that was shipped although it failed the gate is said.
        backend: a name of edge_runtime.backends.BACKENDS, or auto, which takes the best that runs here and says why;
        one that failed the gate at export, while the precision passed, is refused. threads: 0 uses every core.
        threshold: on the fused score; target_fpr: the share of normal frames above it, by what the calibration keeps;
        without either it is that of the calibration on site beside the bundle, where there is one
        (edge_runtime.bundle.site_calibration), else the bundle's. view: region and mask, else the calibration's. Raises
        BundleError, BackendError, ConfigError.
        """
        bundle = model if isinstance(model, Bundle) else Bundle.open(Path(model))
        path = bundle.path
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
        detector = cls(bundle, engine)
        detector._asked = _Asked(threshold=threshold, target_fpr=target_fpr, view=view)
        detector.calibrate_again()
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
        if self._site is not None:
            return self._site.score_quantiles
        kept: Sequence[float] | None = self.bundle.manifest["calibration"].get("score_quantiles")
        return kept

    @property
    def map_peak(self) -> float:
        """The brightest map pixel that a normal image may have; see edge_runtime.scoring.heatmap.peak_of."""
        return peak_of(self.bundle.manifest["calibration"])

    def set_threshold(self, threshold: float) -> None:
        """Decide by another threshold on the fused score from the next frame on. Raises ConfigError."""
        self._decision = replace(self._decision, threshold=threshold)

    @property
    def view(self) -> View:
        """What of each frame counts: as asked for, else as calibrated on site."""
        return self._view

    def calibrate_again(self) -> None:
        """Take up the calibration that lies beside the bundle now, or that none does; what load was given still wins.

        Raises BundleError and ConfigError; everything then stays as it was.
        """
        site, self._site = self._site, SiteCalibration.of_bundle(self.bundle)
        try:
            self._settle()
        except EdgeAaeError:
            self._site = site
            raise
        if self._site is not None:
            logger.info("calibrated on site: %s", self._site)

    def _settle(self) -> None:
        """Threshold, view and what follows from them, from what was asked for, the site and the bundle."""
        asked, site = self._asked, self._site
        view = asked.view if asked.view is not None else site.view if site else WHOLE_FRAME
        if site is not None and site.view != view:
            logger.warning(
                "the calibration on site was made with %s, this is with %s, so it is not used; calibrate again",
                site.view,
                view,
            )
            site = None
        decision = self.bundle.decision
        if asked.threshold is not None:
            if asked.target_fpr is not None:
                raise ConfigError("a threshold and a false-alarm rate were both given, expected one of them")
            decision = replace(decision, threshold=asked.threshold)
        elif asked.target_fpr is not None:
            kept = {"score_quantiles": site.score_quantiles} if site else self.bundle.manifest["calibration"]
            decision = replace(decision, threshold=threshold_at(kept, asked.target_fpr))
        elif site is not None:
            decision = replace(decision, threshold=site.threshold)
        preprocess = self.bundle.preprocess
        if view.roi is not None:
            preprocess = replace(preprocess, roi=view.roi)
        masking = None
        if view.mask is not None:
            golden = Golden.from_npz(self.bundle.files["golden.npz"])
            masking = Masking(preprocess, view.mask, np.median(golden.inputs, axis=0).astype(np.uint8))
        self._view, self._site, self._decision = view, site, decision
        self._preprocess, self._masking = preprocess, masking

    def score(self, frame: Frame) -> Result:
        """Score one frame: (H, W, 3) uint8 BGR as OpenCV gives it, or (H, W) grey.

        A frame of several tiles is as anomalous as its worst: each criterion's largest value over the tiles goes
        into the decision. Of a masked frame, tiles of which nothing is seen are not scored. Raises FrameError where
        shape or dtype differ.
        """
        start = time.perf_counter()
        tiles, tiling, scored = self.inputs(frame)
        elapsed_ms = 1000.0 * (time.perf_counter() - start)
        result = self._score_tiles(tiles, tiling, scored)
        return replace(result, latency_ms={"preprocess": elapsed_ms, **result.latency_ms})

    def inputs(self, frame: Frame) -> tuple[Frame, Tiling, NDArray[np.intp] | None]:
        """The network inputs (S, height, width, channels) that a frame is scored by, the T tiles' places, and which of
        them the S are, None for all. Errors as for score."""
        if self._masking is None:
            return *self._preprocess.tiles(frame), None
        return *self._masking.tiles(frame), self._masking.scored

    def score_input(self, network_input: Frame) -> Result:
        """Score one preprocessed input, (height, width, channels) uint8, as a frame of which it is all."""
        height, width = network_input.shape[:2]
        return self._score_tiles(network_input[None], Tiling.covering((height, width), (height, width), 0))

    def _score_tiles(self, tiles: Frame, tiling: Tiling, scored: NDArray[np.intp] | None = None) -> Result:
        """scored: the indices of these tiles among the tiling's, where they are not all of them."""
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
            latents=_spread(np.concatenate([outputs.latent for outputs in raw]), scored, len(tiling)),
            anomaly_maps=_spread(np.concatenate([outputs.anomaly_map for outputs in raw]), scored, len(tiling)),
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
        """The result's anomaly maps, stitched, in the frame's coordinates: (H, W) float32, zero where masked."""
        heat = self._preprocess.map_to_frame(result.anomaly_maps, frame_shape)
        masking = self._masking
        if masking is not None and masking.mask.shape == heat.shape:
            heat[~masking.mask] = 0.0
        return heat


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What the caller decided; it wins over any calibration."""

    threshold: float | None = None
    target_fpr: float | None = None
    view: View | None = None


def _spread(values: NDArray[np.float32], scored: NDArray[np.intp] | None, n_tiles: int) -> NDArray[np.float32]:
    """(S, ...) of the scored tiles as (T, ...) of all of them."""
    if scored is None or len(scored) == n_tiles:
        return values
    every = np.zeros((n_tiles, *values.shape[1:]), dtype=values.dtype)
    every[scored] = values
    return every
