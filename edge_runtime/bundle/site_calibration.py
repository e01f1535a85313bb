"""Thresholds made on site: from frames believed normal, kept beside the bundle, whose bytes and hashes never change.

Rank statistics as in training (model/conformal.py), if frames are exchangeable. Neighbouring frames of a camera look
alike: what counts is the number of different scenes, so that many frames of one minute calibrate less than their number
says.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.frame_view import WHOLE_FRAME, View
from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores, scores_needed
from edge_runtime.errors import BundleError, ConfigError, DataError
from edge_runtime.files import write_atomically
from edge_runtime.model.conformal import conformal_rank

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle

__all__ = ["SCORE_QUANTILES", "SiteCalibration", "overlay_path", "trimmed"]

logger = logging.getLogger(__name__)

SCHEMA = 1

OUTLIER_SIGMAS = 6.0
"""A score so many robust standard deviations above the median is taken for an anomaly among the frames."""

NORMAL_MAD = 1.4826
"""Standard deviations of a normal distribution to its median absolute deviation"""

LEAST_FRAMES = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteCalibration:
    """A threshold with where it comes from."""

    model: str
    """SHA-256 of the manifest of the bundle it is for"""
    threshold: float
    target_fpr: float
    frames: int
    """Frames scored"""
    trimmed: int
    """Of those left out, as anomalies among them"""
    source: str
    """Their source, without password"""
    precision: str
    backend: str
    score_quantiles: tuple[float, ...]
    """Scores at SCORE_QUANTILES of the frames that were kept"""
    created: str
    view: View = WHOLE_FRAME
    """What of the frames counted"""

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
    ) -> SiteCalibration:
        """From scores of frames believed normal; raises DataError where there are too few for the asked rate."""
        if not 0.0 < target_fpr < 0.5:
            raise ConfigError(f"target false-alarm rate is {target_fpr}, expected above 0 and below 0.5")
        kept = trimmed(np.asarray(scores, dtype=np.float64))
        n_needed = max(LEAST_FRAMES, scores_needed(target_fpr))
        rank = conformal_rank(len(kept), target_fpr)
        if len(kept) < n_needed:
            raise DataError(
                f"{len(kept)} of {len(scores)} frames are left as normal, a rate of {target_fpr:g} needs {n_needed} or "
                "more; take --frames more, or ask for a higher rate"
            )
        return cls(
            model=model,
            threshold=float(np.sort(kept)[rank - 1]),
            target_fpr=target_fpr,
            frames=len(scores),
            trimmed=len(scores) - len(kept),
            source=source,
            precision=precision,
            backend=backend,
            score_quantiles=tuple(float(value) for value in np.quantile(kept, SCORE_QUANTILES)),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            view=view,
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
            quantiles, view = tuple(map(float, values["score_quantiles"])), View.from_json(values.pop("view"))
            found = cls(**{**values, "score_quantiles": quantiles, "view": view})
            if not math.isfinite(found.threshold) or len(found.score_quantiles) != len(SCORE_QUANTILES):
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
    def kept(self) -> KeptScores:
        """The distribution of the frames' scores, with the threshold's own rank."""
        n = self.frames - self.trimmed
        return KeptScores(self.score_quantiles, n, conformal_rank(n, self.target_fpr), self.threshold)

    def save(self, bundle: Path) -> Path:
        """Write it beside the bundle; returns where. Raises DataError."""
        path = overlay_path(bundle)
        values = {**asdict(self), "view": self.view.to_json()}
        content = json.dumps({"schema": SCHEMA, **values}, indent=2, allow_nan=False)
        write_atomically(path, f"{content}\n".encode("ascii"))
        return path

    def __str__(self) -> str:
        return (
            f"threshold {self.threshold:.4g} for {self.target_fpr:.3g} false alarms, from {self.frames} frames of "
            f"{self.source}, {self.trimmed} left out, {self.created}" + (f"; {self.view}" if self.view else "")
        )


def overlay_path(bundle: Path) -> Path:
    """Where a bundle's calibration lies: MODEL.calibration.json beside it."""
    return bundle.with_name(f"{bundle.name}.calibration.json")


def trimmed(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores without those far above the median, by the median absolute deviation. (N,) -> (M,)"""
    middle = float(np.median(scores)) if len(scores) else 0.0
    deviation = NORMAL_MAD * float(np.median(np.abs(scores - middle))) if len(scores) else 0.0
    kept: NDArray[np.float64] = scores[scores <= middle + OUTLIER_SIGMAS * deviation] if deviation > 0 else scores
    return kept
