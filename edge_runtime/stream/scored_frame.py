"""The first stage of a frame's way: its score."""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import DataError
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.sources.contract import CapturedFrame

__all__ = ["ScoredFrame", "scored"]


@dataclass(frozen=True, slots=True)
class ScoredFrame:
    """A frame, what was found in it, and who found it."""

    frame: CapturedFrame
    result: Result
    detector: Detector
    """The one that scored it; the run may have another by now."""

    @property
    def model(self) -> str:
        """Digest of the bundle that scored it."""
        return self.detector.bundle.digest


def scored(taken: CapturedFrame | DataError, detector: Detector) -> ScoredFrame:
    """Score what a feed gave; raises what it gave in place of a frame, and FrameError where a frame does not fit."""
    if isinstance(taken, DataError):
        raise taken
    return ScoredFrame(taken, detector.score(taken.image), detector)
