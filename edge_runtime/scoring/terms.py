"""On what terms a detector decides: what was asked for, before what was calibrated on site, before the bundle's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.frame_view import WHOLE_FRAME, View
from edge_runtime.bundle.kept_scores import KeptScores, threshold_from
from edge_runtime.bundle.own_threshold import OwnThreshold
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import ConfigError
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize
from edge_runtime.model.score import Decision
from edge_runtime.scoring.geometry import Geometry
from edge_runtime.scoring.heatmap import check_size

__all__ = ["Asked", "Terms"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What the caller decided; it wins over any calibration. None leaves it open."""

    threshold: float | None = None
    """On the fused score"""
    target_fpr: float | None = None
    """Share of normal frames above the threshold; not together with a threshold"""
    view: View | None = None
    size: DefectSize = MEASURED_IN_PIXELS
    """Each of its parts wins by itself"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """View, threshold and what follows from them."""

    view: View
    """What of each frame counts"""
    decision: Decision
    """The rule and threshold in force"""
    geometry: Geometry
    site: SiteCalibration | None
    """The calibration that counts; None where there is none, or it was made with another view"""
    size: DefectSize
    """How large a pixel is, and from which area on a region counts"""
    own: Mapping[str, OwnThreshold]
    """Thresholds of single sources, as calibrated; none where one was asked for, which is that of all"""

    @classmethod
    def of(cls, bundle: Bundle, asked: Asked, site: SiteCalibration | None) -> Terms:
        """The terms that follow. A calibration is said; one made with another view is not used. Raises ConfigError."""
        # In pixels of the whole frame: it holds for any view of it.
        size = asked.size.or_else(site.size if site else MEASURED_IN_PIXELS).or_else(bundle.defect_size)
        check_size(size, bundle.manifest["calibration"], bundle.path)
        view = asked.view if asked.view is not None else site.view if site else WHOLE_FRAME
        if site is not None and site.view != view:
            logger.warning(
                "the calibration on site was made with %s, this is with %s, so it is not used; calibrate again",
                site.view,
                view,
            )
            site = None
        decision = _decision(bundle, asked, site)
        own = site.sources if site and asked.threshold is None and asked.target_fpr is None else {}
        terms = cls(view=view, decision=decision, geometry=Geometry.of(bundle, view), site=site, size=size, own=own)
        if site is not None:
            logger.info("calibrated on site: %s", site)
        if size:
            logger.info("sizes: %s", size)
        return terms

    def with_threshold(self, threshold: float) -> Terms:
        """The same with another threshold, of all sources; raises ConfigError where it is not finite."""
        return replace(self, decision=replace(self.decision, threshold=threshold), own={})


def _decision(bundle: Bundle, asked: Asked, site: SiteCalibration | None) -> Decision:
    if asked.threshold is not None:
        if asked.target_fpr is not None:
            raise ConfigError("a threshold and a false-alarm rate were both given, expected one of them")
        return replace(bundle.decision, threshold=asked.threshold)
    if asked.target_fpr is not None:
        kept = (site.kept if site else None) or KeptScores.of_manifest(bundle.manifest["calibration"])
        return replace(bundle.decision, threshold=threshold_from(kept, asked.target_fpr))
    return bundle.decision if site is None else replace(bundle.decision, threshold=site.threshold)
