"""Thresholds made on site: from frames believed normal, kept beside the bundle, whose bytes and hashes never change.

Rank statistics as in training (model/conformal.py), if frames are exchangeable. Neighbouring frames of a camera look
alike: what counts is the number of different scenes, so that many frames of one minute calibrate less than their number
says.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.frame_view import WHOLE_FRAME, View
from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores, scores_needed
from edge_runtime.bundle.own_threshold import OwnThreshold
from edge_runtime.bundle.separation import Separation
from edge_runtime.errors import BundleError, ConfigError, DataError
from edge_runtime.files import write_atomically
from edge_runtime.model.conformal import conformal_rank, rate_interval
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle

__all__ = ["SiteCalibration", "overlay_path", "set_aside", "trimmed"]

logger = logging.getLogger(__name__)

SCHEMA = 1

OUTLIER_SIGMAS = 6.0
"""A score so many robust standard deviations above the median is taken for an anomaly among the frames."""

NORMAL_MAD = 1.4826
"""Standard deviations of a normal distribution to its median absolute deviation"""

LEAST_FRAMES = 20
"""Fewer cannot show a rate below 5 %."""

Basis = Literal["rate", "person", "defects", "bundle"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteCalibration:
    """A threshold with where it comes from."""

    model: str
    """SHA-256 of the manifest of the bundle it is for"""
    threshold: float
    target_fpr: float
    """The false-alarm rate that was asked for; 0 where none was"""
    frames: int
    """Frames scored"""
    trimmed: int
    """Of those left out, as anomalies among them"""
    source: str
    """Their source, without password"""
    precision: str
    backend: str
    score_quantiles: tuple[float, ...]
    """Scores at SCORE_QUANTILES of the frames that were kept; none where a person chose without frames"""
    created: str
    view: View = WHOLE_FRAME
    """What of the frames counted"""
    basis: Basis = "rate"
    """What set the threshold: an asked rate, a person, known defects beside the frames; or the bundle, where thresholds
    of single sources alone are kept"""
    stated_fpr: float | None = None
    """The rate that it is set for: target_fpr, or 1 / (n + 1) where n frames cannot show that"""
    realised_fpr: tuple[float, float] | None = None
    """Where the rate on new normal frames lies, 90 %: which frames calibrated is chance"""
    separation: Separation | None = None
    """How it parts the frames from known defects, where there were any"""
    size: DefectSize = MEASURED_IN_PIXELS
    """How large a pixel is there, and from which area on a region counts"""
    by: str | None = None
    """Who chose it, where that is known: on the live page"""
    sources: Mapping[str, OwnThreshold] = field(default_factory=dict)
    """By the source's name, without password: thresholds of their own"""

    @classmethod
    def of(
        cls,
        scores: Sequence[float],
        target_fpr: float,
        *,
        model: str,
        source: str,
        precision: str,
        backend: str,
        view: View = WHOLE_FRAME,
        size: DefectSize = MEASURED_IN_PIXELS,
        strict: bool = False,
    ) -> SiteCalibration:
        """From scores of frames believed normal, for the asked rate, or the lowest that they can show if it is higher.

        strict: raise DataError instead where they cannot show the asked one. Raises DataError for fewer than 20.
        """
        if not 0.0 < target_fpr < 0.5:
            raise ConfigError(f"target false-alarm rate is {target_fpr}, expected above 0 and below 0.5")
        kept = trimmed(np.asarray(scores, dtype=np.float64))
        n = len(kept)
        n_needed = max(LEAST_FRAMES, scores_needed(target_fpr) if strict else 0)
        if n < n_needed:
            left = f"{len(scores)} frames were scored, {n} of them are left as normal"
            if n >= LEAST_FRAMES:
                raise DataError(
                    f"{left}: a rate of {_percent(target_fpr)} needs {n_needed} or more; give more frames, ask for a "
                    "higher --target-fpr, or leave --strict out"
                )
            raise DataError(
                f"{left}: a threshold needs {LEAST_FRAMES} or more; give more images, or let a camera run for more "
                "--frames"
            )
        rank = min(conformal_rank(n, target_fpr), n)
        return cls(
            model=model,
            threshold=float(np.sort(kept)[rank - 1]),
            target_fpr=target_fpr,
            frames=len(scores),
            trimmed=len(scores) - n,
            source=source,
            precision=precision,
            backend=backend,
            score_quantiles=tuple(float(value) for value in np.quantile(kept, SCORE_QUANTILES)),
            created=_now(),
            view=view,
            size=size,
            stated_fpr=max(target_fpr, 1.0 / (n + 1)),
            realised_fpr=rate_interval(n, rank),
        )

    def parted(self, scores: Sequence[float], defects: Sequence[float]) -> SiteCalibration:
        """The same frames with the threshold between them and known defects, of which nothing else is kept.

        scores: of all the frames; those left out are not counted. Raises DataError.
        """
        threshold, found = Separation.between(trimmed(np.asarray(scores, np.float64)).tolist(), defects)
        return replace(
            self,
            threshold=threshold,
            basis="defects",
            target_fpr=0.0,
            stated_fpr=None,
            realised_fpr=None,
            separation=found,
        )

    @property
    def own(self) -> OwnThreshold:
        """Its threshold as that of one source alone."""
        of_frames = self.basis in ("rate", "defects")
        return OwnThreshold(
            threshold=self.threshold,
            created=self.created,
            by=self.by,
            frames=self.frames - self.trimmed if of_frames else 0,
            stated_fpr=self.stated_fpr,
            score_quantiles=self.score_quantiles if of_frames else (),
        )

    def alone_for(self, source_id: str, others: SiteCalibration | None, otherwise: float) -> SiteCalibration:
        """With this threshold for one source alone; the rest keep what `others` says, or `otherwise`, the bundle's own.

        Raises ConfigError where the others are judged with another view: a threshold is of its view.
        """
        if others is not None and others.view != self.view:
            raise ConfigError(
                f"the calibration so far was made with {others.view}, this threshold with {self.view}: one source has "
                "no region or mask of its own; calibrate all with it first"
            )
        if others is None:
            of_all = SiteCalibration.chosen(otherwise, model=self.model, before=None, view=self.view, size=self.size)
            others = replace(of_all, basis="bundle")
        return replace(others, sources={**others.sources, source_id: self.own})

    def without(self, source_ids: Collection[str]) -> SiteCalibration | None:
        """These sources judged as all are; None where nothing else is kept."""
        left = {name: own for name, own in self.sources.items() if name not in source_ids}
        return replace(self, sources=left) if left or self.basis != "bundle" else None

    @classmethod
    def chosen(
        cls,
        threshold: float,
        *,
        model: str,
        before: SiteCalibration | None,
        view: View | None = None,
        size: DefectSize = MEASURED_IN_PIXELS,
        by: str | None = None,
    ) -> SiteCalibration:
        """A threshold that a person chose; raises ConfigError where it is not finite.

        before: the calibration so far, whose frames' scores are kept for --drift, if the view stays. by: who it was,
        where that is known.
        """
        if not math.isfinite(threshold):
            raise ConfigError(f"threshold is {threshold}, expected a finite number; 1 is as calibrated in training")
        asked = view if view is not None else before.view if before else WHOLE_FRAME
        of_frames = before if before and before.view == asked else None
        return cls(
            model=model,
            threshold=threshold,
            target_fpr=0.0,
            frames=of_frames.frames if of_frames else 0,
            trimmed=of_frames.trimmed if of_frames else 0,
            source=of_frames.source if of_frames else "",
            precision=of_frames.precision if of_frames else "",
            backend=of_frames.backend if of_frames else "",
            score_quantiles=of_frames.score_quantiles if of_frames else (),
            created=_now(),
            view=asked,
            size=size,
            basis="person",
            by=by,
        )

    @classmethod
    def beside(cls, bundle: Path) -> SiteCalibration | None:
        """What lies beside a bundle; None where nothing does. Raises BundleError where it cannot be used."""
        path = overlay_path(bundle)
        remedy = f"calibrate again, or undo it: edge-aae calibrate --undo {bundle}"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read: {error}; {remedy}") from error
        try:
            if values.pop("schema") != SCHEMA:
                raise ValueError("it is of another release")
            values["score_quantiles"] = tuple(map(float, values["score_quantiles"]))
            values["view"] = View.from_json(values["view"])
            values["size"] = DefectSize.from_json(values.get("size"))
            if values.get("realised_fpr") is not None:
                low, high = map(float, values["realised_fpr"])
                values["realised_fpr"] = (low, high)
            if values.get("separation") is not None:
                values["separation"] = Separation(**values["separation"])
            own = values.get("sources", {})
            values["sources"] = {str(name): OwnThreshold.from_json(one) for name, one in own.items()}
            found = cls(**values)
            if found.basis not in get_args(Basis):
                raise ValueError(f"it is of basis {found.basis!r}")
            of_nobody = found.basis in ("person", "bundle")
            n_expected = (0, len(SCORE_QUANTILES)) if of_nobody else (len(SCORE_QUANTILES),)
            if not math.isfinite(found.threshold) or len(found.score_quantiles) not in n_expected:
                raise ValueError(f"threshold {found.threshold}, {len(found.score_quantiles)} quantiles")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"{path} is no calibration: {error}; {remedy}") from error
        return found

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> SiteCalibration | None:
        """What lies beside a bundle and was made for it; one made for another is said, and None. Raises BundleError."""
        found = cls.beside(bundle.path)
        if found is None or found.model == bundle.digest:
            return found
        logger.warning("the calibration beside %s is of another bundle and is not used; calibrate again", bundle.path)
        return None

    @property
    def kept(self) -> KeptScores | None:
        """The distribution of the frames' scores, with the threshold's rank where it is one; None without frames."""
        if not self.score_quantiles:
            return None
        n = self.frames - self.trimmed
        if self.basis != "rate":
            return KeptScores(self.score_quantiles, n)
        return KeptScores(self.score_quantiles, n, min(conformal_rank(n, self.target_fpr), n), self.threshold)

    def save(self, bundle: Path) -> Path:
        """Write it beside the bundle; returns where. Raises DataError."""
        path = overlay_path(bundle)
        values = {**asdict(self), "view": self.view.to_json(), "size": self.size.to_json()}
        if not self.size:
            del values["size"]  # releases before there were sizes read it too
        if self.by is None:
            del values["by"]  # and those before the page could keep one
        if not self.sources:
            del values["sources"]  # or one of a source
        content = json.dumps({"schema": SCHEMA, **values}, indent=2, allow_nan=False)
        write_atomically(path, f"{content}\n".encode("ascii"))
        return path

    def rate_line(self) -> str | None:
        """The rate that the threshold is set for and how far it can be trusted, in one sentence; None without one."""
        if self.stated_fpr is None or self.realised_fpr is None:
            return None
        n, (low, high) = self.frames - self.trimmed, self.realised_fpr
        interval = f"90 % interval {_percent(low)} to {_percent(high)}"
        if self.stated_fpr > self.target_fpr:
            return (
                f"{n} frames cannot show {_percent(self.target_fpr)}; set for about {_percent(self.stated_fpr)} false "
                f"alarms, {interval}; {scores_needed(self.target_fpr)} frames can"
            )
        return f"set for {_percent(self.stated_fpr)} false alarms by {n} frames, {interval}"

    def __str__(self) -> str:
        return "; ".join([self._made_so(), *(f"{name}: {own}" for name, own in self.sources.items())])

    def _made_so(self) -> str:
        made = f"{self.created}" + (f"; {self.view}" if self.view else "") + (f"; {self.size}" if self.size else "")
        frames = f"{self.frames} frames of {self.source}, {self.trimmed} left out"
        if self.basis == "bundle":
            return f"threshold {self.threshold:.4g}, the bundle's own; {made}"
        if self.basis == "person":
            return f"threshold {self.threshold:.4g}, chosen by {self.by or 'a person'}, {made}"
        if self.separation is not None:
            known = f"{self.separation.caught} of {self.separation.defects} known defects above it"
            return f"threshold {self.threshold:.4g} from {frames}, {known}, {made}"
        rate = self.target_fpr if self.stated_fpr is None else self.stated_fpr
        return f"threshold {self.threshold:.4g} for {rate:.3g} false alarms, from {frames}, {made}"


def overlay_path(bundle: Path) -> Path:
    """Where a bundle's calibration lies: MODEL.calibration.json beside it."""
    return bundle.with_name(f"{bundle.name}.calibration.json")


def set_aside(bundle: Path) -> Path:
    """Undo a bundle's calibration: it has its own threshold again. Returns where it lies now. Raises DataError."""
    overlay = overlay_path(bundle)
    aside = overlay.with_name(f"{overlay.name}.undone")
    try:
        overlay.replace(aside)
    except FileNotFoundError as error:
        raise DataError(f"nothing to undo: there is no {overlay}") from error
    except OSError as error:
        raise DataError(f"cannot set {overlay} aside: {error.strerror or error}") from error
    return aside


def trimmed(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores without those far above the median, by the median absolute deviation. (N,) -> (M,)"""
    middle = float(np.median(scores)) if len(scores) else 0.0
    deviation = NORMAL_MAD * float(np.median(np.abs(scores - middle))) if len(scores) else 0.0
    kept: NDArray[np.float64] = scores[scores <= middle + OUTLIER_SIGMAS * deviation] if deviation > 0 else scores
    return kept


def _percent(rate: float) -> str:
    return f"{100.0 * rate:.2g} %"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
