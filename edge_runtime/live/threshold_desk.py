"""What becomes of a threshold that somebody sets on the page: in force at once, kept for good where asked, taken back.

In the run's process, in the thread that scores. What is kept for good is what `edge-aae calibrate --threshold` keeps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_runtime.bundle.site_calibration import SiteCalibration, set_aside
from edge_runtime.errors import EdgeAaeError
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS
from edge_runtime.redact import redact
from edge_runtime.serving.access import Visitor
from edge_runtime.sinks.records import status_record

if TYPE_CHECKING:
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["Asked", "ThresholdDesk"]

logger = logging.getLogger(__name__)

MOST_UNDONE = 20
"""Changes of a run that can be taken back, the last ones."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A threshold that somebody set on the page, or took back, and who."""

    threshold: float | None
    """None takes the last change back"""
    by: Visitor
    keep: bool = False
    """For good, beside the bundle"""
    source_id: str | None = None
    """Of this source alone, without password; None: of all"""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Asked:
        """As to_json gave it."""
        threshold = values["threshold"]
        return cls(
            None if threshold is None else float(threshold),
            Visitor(**values["by"]),
            bool(values["keep"]),
            values["source_id"],
        )

    def to_json(self) -> dict[str, Any]:
        """As it passes between the two processes."""
        return {
            "threshold": self.threshold, "by": asdict(self.by), "keep": self.keep, "source_id": self.source_id
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Change:
    """What a change replaced."""

    model: str
    """Digest of the bundle it was made for"""
    threshold: float
    own: Mapping[str, float]
    """Thresholds of single sources"""
    source_id: str | None
    """Which it was about; None: all"""
    kept: bool
    """Whether what lies beside the bundle was replaced too"""
    site: SiteCalibration | None
    """By what: None where nothing lay there"""


class ThresholdDesk:
    """Sets thresholds on a pipeline, remembers what they replaced, and reports who did it."""

    def __init__(self, pipeline: Callable[[], Pipeline], *, fixed_by: str = "") -> None:
        """pipeline: that it is of, once there is one. fixed_by: the run's own option that sets the threshold."""
        self._pipeline, self._fixed_by = pipeline, fixed_by
        self._changes: list[_Change] = []

    def told(self) -> dict[str, Any]:
        """What the page says: what is kept for good, what an undo would bring back. From any thread."""
        site, undone = self._pipeline().detector.site, self._undoable()
        kept: dict[str, Any] | None = None
        if site is not None:
            kept = {key: getattr(site, key) for key in ("threshold", "basis", "created", "by")}
            kept["sources"] = {name: asdict(own) for name, own in site.sources.items()}
        undo: dict[str, Any] | None = None
        if undone is not None:
            of = undone.source_id
            before = undone.threshold if of is None else undone.own.get(of, undone.threshold)
            own = {} if of is not None else undone.own
            undo = {"threshold": before, "source_id": of, "own": dict(own), "kept_alone": ""}
        elif site is not None and site.sources:
            undo = {"threshold": None, "source_id": None, "own": {}, "kept_alone": "sources"}
        elif site is not None and site.basis == "person":
            undo = {"threshold": None, "source_id": None, "own": {}, "kept_alone": "all"}
        return {"kept": kept, "undo": undo, "fixed_by": self._fixed_by}

    def forget(self) -> None:
        """What lies beside the bundle was read again: a change of before would bring back what is older."""
        self._changes = []

    def take(self, asked: Asked) -> None:
        """Do what was asked, and report it; what cannot be done is reported too, and changes nothing."""
        pipeline = self._pipeline()
        undone = self._undoable() if asked.threshold is None else None
        of = undone.source_id if undone is not None else asked.source_id
        source, before = of or redact(pipeline.states()[0].source_id), _of(pipeline, of)
        by = asdict(asked.by)
        try:
            kept = self._undo(pipeline) if asked.threshold is None else self._set(pipeline, asked, asked.threshold)
        except EdgeAaeError as error:
            logger.warning("the threshold stays %g: %s", before, error)
            payload = {"reason": str(error), "by": by, "one_source": of is not None}
            pipeline.report(status_record("warning", "THRESHOLD_NOT_SET", source, payload))
            return
        now, whose = _of(pipeline, of), f" of {of}" if of else ""
        logger.info("threshold %g%s, set on the live page by %s of %s; it was %g", now, whose, *by.values(), before)
        payload = {
            "before": before, "threshold": now, "by": by, "kept": kept, "undo": asked.threshold is None,
            "one_source": of is not None, "own": pipeline.judges.thresholds,
        }  # fmt: skip
        pipeline.report(status_record("info", "THRESHOLD_SET", source, payload))

    def _set(self, pipeline: Pipeline, asked: Asked, threshold: float) -> bool:
        detector = pipeline.detector
        bundle = detector.bundle
        site = SiteCalibration.of_bundle(bundle) if asked.keep else None
        own, of = pipeline.judges.thresholds, asked.source_id
        change = _Change(bundle.digest, detector.decision.threshold, own, of, asked.keep, site)
        if asked.keep:
            _kept(threshold, asked, detector, site).save(bundle.path)
            general = threshold if of is None else detector.decision.threshold
            own = {} if of is None else {**own, of: threshold}
            pipeline.set_detector(detector.recalibrated().with_threshold(general), own)
        else:
            pipeline.set_threshold(threshold, of)
        self._changes = [*self._changes, change][-MOST_UNDONE:]
        return asked.keep

    def _undo(self, pipeline: Pipeline) -> bool:
        detector = pipeline.detector
        path, change = detector.bundle.path, self._undoable()
        if change is None:
            # Of a run before this one: what frames made for all stays, a person's goes, as by `calibrate --undo`.
            site = detector.site
            _put_back(site.without(site.sources) if site is not None and site.sources else None, path)
            pipeline.set_detector(detector.recalibrated())
            return True
        if change.kept:
            _put_back(change.site, path)
            detector = detector.recalibrated()
        pipeline.set_detector(detector.with_threshold(change.threshold), change.own)
        self._changes = self._changes[:-1]
        return change.kept

    def _undoable(self) -> _Change | None:
        """The last change, where the bundle is still that of then."""
        last = self._changes[-1] if self._changes else None
        return last if last is not None and last.model == self._pipeline().detector.bundle.digest else None


def _of(pipeline: Pipeline, source_id: str | None) -> float:
    """The threshold in force, of one source or of those without one of their own."""
    return pipeline.detector.decision.threshold if source_id is None else pipeline.threshold_of(source_id)


def _kept(threshold: float, asked: Asked, detector: Detector, site: SiteCalibration | None) -> SiteCalibration:
    """What lies beside the bundle once a threshold is kept for good. site: what lies there."""
    bundle = detector.bundle
    if site is not None and site.view != detector.view:
        logger.warning("the calibration beside %s was made with %s: it is replaced", bundle.path, site.view)
        site = None
    size = site.size if site else MEASURED_IN_PIXELS
    by = f"{asked.by.role} of {asked.by.address}"
    chosen = SiteCalibration.chosen(threshold, model=bundle.digest, before=site, view=detector.view, size=size, by=by)
    return chosen if asked.source_id is None else chosen.alone_for(asked.source_id, site, bundle.decision.threshold)


def _put_back(site: SiteCalibration | None, bundle: Path) -> None:
    """Beside the bundle; None sets aside what lies there."""
    if site is None:
        set_aside(bundle)
    else:
        site.save(bundle)
