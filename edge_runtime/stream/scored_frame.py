"""The first stage of a frame's way: its score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.errors import BackendError, DataError
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

    @property
    def signed_by(self) -> str | None:
        """The key that signed it; None where no signature was asked for."""
        return self.detector.bundle.signed_by


def scored(taken: CapturedFrame | DataError, detector: Detector) -> ScoredFrame:
    """Score what a feed gave; raises what it gave in place of a frame, FrameError where a frame does not fit, and
    BackendError where its score is not finite."""
    if isinstance(taken, DataError):
        raise taken
    result = detector.score(taken.image)
    if not math.isfinite(result.score):  # one would stay in a moving average for ever
        raise BackendError(
            f"{detector.backend.name} gave criteria {result.criteria} and so the score {result.score}, expected a "
            "finite one; run `edge-aae verify` on this bundle"
        )
    return ScoredFrame(taken, result, detector)
