"""Who judges which source: the detector, or the same one with a threshold that is that source's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edge_runtime.redact import redact
from edge_runtime.scoring.detector import Detector

__all__ = ["Judges"]


class Judges:
    """A detector and its likes for single sources. It never changes, so that any thread may look."""

    def __init__(self, detector: Detector, own: Mapping[str, float] | None = None) -> None:
        """own: thresholds by the source's name without password; None takes those that were calibrated."""
        thresholds = detector.own_thresholds if own is None else own
        self.detector = detector
        """That of all sources without one of their own"""
        self._own = {name: detector.with_threshold(threshold) for name, threshold in thresholds.items()}

    @property
    def thresholds(self) -> dict[str, float]:
        """Of the sources that have one of their own."""
        return {name: judge.decision.threshold for name, judge in self._own.items()}

    def of(self, source_id: str) -> Detector:
        """The one that judges a source's frames."""
        return self._own.get(redact(source_id), self.detector) if self._own else self.detector

    def has(self, source_id: str) -> bool:
        """Whether the source has a threshold of its own."""
        return redact(source_id) in self._own

    def nobodys(self, source_ids: Iterable[str]) -> list[str]:
        """Names with a threshold that are none of these sources'."""
        return sorted(set(self._own) - {redact(source_id) for source_id in source_ids})

    def __str__(self) -> str:
        """The thresholds in force."""
        own = "".join(f", of {name} {threshold:g}" for name, threshold in self.thresholds.items())
        return f"{self.detector.decision.threshold:g}{own}"
