"""The detector: frames in, scores out. The public face of the runtime."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends import Backend, choose_backend, open_backend
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import View
from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import BackendError, ConfigError, DataError, FrameError
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, Area, DefectSize
from edge_runtime.model.image_quality import measured
from edge_runtime.model.images import as_frame, read_image
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.score import Decision
from edge_runtime.model.tiling import Tiling
from edge_runtime.scoring.geometry import Geometry
from edge_runtime.scoring.heatmap import HeatScale, scale_of
from edge_runtime.scoring.regions import all_too_small
from edge_runtime.scoring.result import Result
from edge_runtime.scoring.terms import Asked, Terms

__all__ = ["BAD_IMAGE", "Detector"]

logger = logging.getLogger(__name__)

BAD_IMAGE = ("score", "unknown")
"""What frames can be whose picture is not as those trained on: decided as any, or no longer normal"""

Picture: TypeAlias = "Frame | NDArray[np.uint16] | str | os.PathLike[str]"
"""A frame, or the path of an image file"""


class Detector:
    """Scores frames with a bundle. It never changes: with_threshold and recalibrated give another one.

    That one shares bundle and backend. Backends take one call at a time, so only one thread may score with a detector
    and all that were made of it, such as a pipeline's; what else a detector says may be asked from any thread.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: Backend,
        *,
        threshold: float | None = None,
        target_fpr: float | None = None,
        view: View | None = None,
        mm_per_pixel: float | None = None,
        min_area: Area | str | None = None,
        bad_image: str = "score",
        site: SiteCalibration | None = None,
    ) -> None:
        """site: a calibration of this bundle where the camera stands; all else as for load.

        Raises ConfigError.
        """
        self._bundle, self._backend = bundle, backend
        least = Area.parse(min_area) if isinstance(min_area, str) else min_area
        size = DefectSize(mm_per_pixel=mm_per_pixel, min_area=least)
        self._asked = Asked(threshold=threshold, target_fpr=target_fpr, view=view, size=size)
        self._terms = Terms.of(bundle, self._asked, site)
        self._bad_is_unknown = _is_unknown(bad_image, bundle)

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
        mm_per_pixel: float | None = None,
        min_area: Area | str | None = None,
        bad_image: str = "score",
        on_site: bool = True,
        require_signature: str | os.PathLike[str] | None = None,
    ) -> Detector:
        """A detector on the CPU, warmed up with one run.

        model: an .aae bundle, its folder, or a bundle that was opened, beside whose path a calibration is looked for.
        precision: fp32, fp16 or int8, if the bundle has it; one that was shipped although it failed the gate is said.
        backend: a name of edge_runtime.backends.BACKENDS, or auto, which takes the best that runs here and says why;
        one that failed the gate at export, while the precision passed, is refused. threads: 0 uses every core.
        threshold: on the fused score; target_fpr: the share of normal frames above it, at most, by what is kept;
        without either it is that of the calibration on site beside the bundle, where there is one
        (edge_runtime.bundle.site_calibration), else the bundle's. view: region and mask, else the calibration's.
        mm_per_pixel: of the frame as the camera gives it; min_area: "12px" or "0.5mm2", frames of which all that the
        map shows is smaller are normal; each else the calibration's, else the bundle's.
        bad_image: "unknown" keeps frames from counting as normal whose picture is not as those trained on.
        on_site: whether a calibration beside the bundle is looked for. require_signature: a file or folder of public
        keys, one of which must have signed the bundle (Bundle.open). Raises BundleError, BackendError, ConfigError.
        """
        bundle = model if isinstance(model, Bundle) else Bundle.open(Path(model), require_signature=require_signature)
        if isinstance(model, Bundle) and require_signature is not None:
            bundle.check_signed(require_signature)
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
        site = SiteCalibration.of_bundle(bundle) if on_site else None
        detector = cls(
            bundle,
            engine,
            threshold=threshold,
            target_fpr=target_fpr,
            view=view,
            mm_per_pixel=mm_per_pixel,
            min_area=min_area,
            bad_image=bad_image,
            site=site,
        )
        detector.score_input(np.zeros(bundle.preprocess.input_shape, dtype=np.uint8))
        return detector

    def with_threshold(self, threshold: float) -> Detector:
        """A detector that decides by another threshold on the fused score; `recalibrated` of it goes back to what load
        was given. Raises ConfigError where the threshold is not finite."""
        return self._on(self._terms.with_threshold(threshold))

    def recalibrated(self) -> Detector:
        """A detector by the calibration that lies beside the bundle now, or by none; what load was given still wins.

        Raises BundleError and ConfigError.
        """
        return self._on(Terms.of(self._bundle, self._asked, SiteCalibration.of_bundle(self._bundle)))

    def __repr__(self) -> str:
        """What it scores with, in a line."""
        return (
            f"<Detector {self._bundle.path} sha256:{self._bundle.digest[:12]} on {self._backend.name}, "
            f"threshold {self.decision.threshold:g}>"
        )

    def _on(self, terms: Terms) -> Detector:
        other = copy(self)
        other._terms = terms
        return other

    @property
    def bundle(self) -> Bundle:
        """What it scores with."""
        return self._bundle

    @property
    def backend(self) -> Backend:
        """The engine that runs the bundle's network; shared, see above."""
        return self._backend

    @property
    def preprocess(self) -> Preprocess:
        """How frames become the network's input."""
        return self._terms.geometry.preprocess

    @property
    def decision(self) -> Decision:
        """The rule and threshold in force."""
        return self._terms.decision

    @property
    def view(self) -> View:
        """What of each frame counts: as asked for, else as calibrated on site."""
        return self._terms.view

    @property
    def size(self) -> DefectSize:
        """How large a pixel is, and from which area on a region counts: asked for, of the site, or the bundle's."""
        return self._terms.size

    @property
    def site(self) -> SiteCalibration | None:
        """The calibration on site that counts; None without one, or where it was made with another view."""
        return self._terms.site

    @property
    def own_thresholds(self) -> dict[str, float]:
        """Of sources that a pipeline judges by a threshold of their own, by name: as calibrated on site, if none was
        asked for."""
        return {name: own.threshold for name, own in self._terms.own.items()}

    def usual_of(self, source_id: str) -> KeptScores | None:
        """Normal scores of one source, by name, where frames of it were calibrated; else of all, as usual."""
        own = self._terms.site.sources.get(source_id) if self._terms.site is not None else None
        return (own.kept if own is not None else None) or self.usual

    @property
    def usual(self) -> KeptScores | None:
        """Normal scores: of the site, else of training; None where the bundle keeps none. Raises BundleError."""
        if self._terms.site is not None and self._terms.site.kept is not None:
            return self._terms.site.kept
        return KeptScores.of_manifest(self._bundle.manifest["calibration"])

    @property
    def map_peak(self) -> float:
        """The brightest map pixel of 99 of 100 training images, above which regions lie."""
        return self.heat_scale.peak

    @property
    def heat_scale(self) -> HeatScale:
        """The colours of anomaly maps, and above which value regions lie."""
        return scale_of(self._bundle.manifest["calibration"])

    @overload
    def score(self, frame: Picture) -> Result: ...  # type: ignore[overload-overlap]  # a list with a path is nobody's

    @overload
    def score(self, frame: Sequence[Picture]) -> list[Result]: ...

    def score(self, frame: Picture | Sequence[Picture]) -> Result | list[Result]:
        """Score one frame: (H, W, 3) uint8 BGR as OpenCV gives it, or (H, W) grey; or an image file, by its path.

        A list or tuple of them, of any sizes, gives a list of results in its order; they are scored one by one, so that
        memory does not grow with them, and the first that cannot be scored is named in the error.

        A file is read as by the commands: turned as its orientation tag says, 16 bits by Preprocess.levels, by which
        uint16 frames are taken too where the bundle has them. A frame of several tiles is as anomalous as its worst:
        each criterion's largest value over the tiles goes into the decision. Of a masked frame, tiles of which nothing
        is seen are not scored. With a smallest area, a frame above the threshold whose regions are all smaller is
        normal. Raises FrameError where shape or dtype differ, DataError for a file that is no image.
        """
        if isinstance(frame, (list, tuple)):
            return [self._one_of(frame, number) for number in range(len(frame))]
        return self._score_one(frame)  # type: ignore[arg-type]  # what is no picture is refused by the preprocessing

    def _one_of(self, frames: Sequence[Picture], number: int) -> Result:
        try:
            return self._score_one(frames[number])
        except (FrameError, DataError) as error:
            raise type(error)(f"number {number} of {len(frames)}, counted from 0: {error}") from error

    def _score_one(self, given: Picture) -> Result:
        start = time.perf_counter()
        frame = self._frame(given)
        geometry = self._terms.geometry.placed(frame)
        tiles, tiling, scored = geometry.inputs(frame)
        limits, region = self._bundle.quality_limits, self._bundle.preprocess.roi
        picture = None if limits is None else measured(frame, region)
        elapsed_ms = 1000.0 * (time.perf_counter() - start)
        result = self._score_tiles(tiles, tiling, geometry, scored, frame.shape, preprocess=elapsed_ms)
        if limits is None:
            return result
        return replace(
            result,
            faults=() if picture is None else limits.faults(picture),
            picture=picture,
            picture_region=region,
            bad_is_unknown=self._bad_is_unknown,
        )

    def _frame(self, given: Picture) -> Frame:
        levels = self.preprocess.levels
        if isinstance(given, str | os.PathLike):
            return read_image(Path(given), levels)
        if levels is not None and isinstance(given, np.ndarray) and given.dtype == np.uint16:
            return as_frame(given, levels)
        return given  # type: ignore[return-value]  # another type is refused by the preprocessing

    def inputs(self, frame: Frame) -> tuple[Frame, Tiling, NDArray[np.intp] | None]:
        """The network inputs (S, height, width, channels) that a frame is scored by, the T tiles' places, and which of
        them the S are, None for all. Errors as for score."""
        return self._terms.geometry.inputs(frame)

    def score_input(self, network_input: Frame) -> Result:
        """Score one preprocessed input, (height, width, channels) uint8, as a frame of which it is all; by the score
        alone, for how large its pixels are nobody knows."""
        height, width = network_input.shape[:2]
        tiling = Tiling.covering((height, width), (height, width), 0)
        return self._score_tiles(network_input[None], tiling, Geometry.of_input(height, width))

    def _score_tiles(
        self,
        tiles: Frame,
        tiling: Tiling,
        geometry: Geometry,
        scored: NDArray[np.intp] | None = None,
        frame_shape: tuple[int, ...] | None = None,
        **before_ms: float,
    ) -> Result:
        """scored: the indices of these tiles among the tiling's, where they are not all of them. frame_shape: None
        tells no sizes. before_ms: what stages took that came before."""
        decision = self._terms.decision
        start = time.perf_counter()
        # One by one: the graph's batch is 1, and a frame of many tiles needs no more memory than one of few.
        raw = [self._backend.run(tile[None]) for tile in tiles]
        inferred = time.perf_counter()
        criteria = self._worst([outputs.criteria for outputs in raw])
        score = decision.score(criteria)
        above = bool(decision.is_anomalous(score)[0])
        maps = _spread(np.concatenate([outputs.anomaly_map for outputs in raw]), scored, len(tiling))
        too_small = False
        if above and frame_shape is not None and self.size.least_px is not None:
            too_small = all_too_small(geometry.heatmap(maps, frame_shape), self.heat_scale.peak, self.size)
        return Result(
            score=float(score[0]),
            threshold=decision.threshold,
            is_anomaly=above and not too_small,
            criteria=dict(zip(self._bundle.criteria, map(float, criteria[0]), strict=True)),
            latents=_spread(np.concatenate([outputs.latent for outputs in raw]), scored, len(tiling)),
            anomaly_maps=maps,
            tiling=tiling,
            geometry=geometry,
            heat_scale=self.heat_scale,
            size=MEASURED_IN_PIXELS if frame_shape is None else self.size,
            too_small=too_small,
            latency_ms={
                **before_ms,
                "infer": 1000.0 * (inferred - start),
                "post": 1000.0 * (time.perf_counter() - inferred),
            },
        )

    def _worst(self, criteria: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The frame's criteria, (1, K), from each tile's, checked."""
        for row in criteria:
            if row.shape != (1, len(self._bundle.criteria)):
                raise BackendError(
                    f"{self._backend.name} gave criteria of shape {row.shape}, the manifest names "
                    f"{list(self._bundle.criteria)}; export the bundle again"
                )
            if not np.isfinite(row).all():
                raise BackendError(
                    f"{self._backend.name} gave criteria {row[0].tolist()}, expected finite numbers; "
                    "run `edge-aae verify` on this bundle"
                )
        worst: NDArray[np.float32] = np.concatenate(criteria).max(axis=0, keepdims=True)
        return worst


def _spread(values: NDArray[np.float32], scored: NDArray[np.intp] | None, n_tiles: int) -> NDArray[np.float32]:
    """(S, ...) of the scored tiles as (T, ...) of all of them."""
    if scored is None or len(scored) == n_tiles:
        return values
    every = np.zeros((n_tiles, *values.shape[1:]), dtype=values.dtype)
    every[scored] = values
    return every


def _is_unknown(bad_image: str, bundle: Bundle) -> bool:
    if bad_image not in BAD_IMAGE:
        raise ConfigError(f"bad_image is {bad_image!r}, expected one of {', '.join(BAD_IMAGE)}")
    if bad_image == "unknown" and bundle.quality_limits is None:
        raise ConfigError(
            f"{bundle.path} does not say what pictures it was trained on, so none can be told to be bad; train and "
            "export again, with 20 images or more of 64 pixels a side, or leave --bad-image at score"
        )
    return bad_image == "unknown"
