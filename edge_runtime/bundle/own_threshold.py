"""A threshold of one source alone, kept in the calibration on site: a lamp or an angle that the other cameras lack."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.bundle.kept_scores import SCORE_QUANTILES, KeptScores

__all__ = ["OwnThreshold"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnThreshold:
    """What one source's frames are judged by, in place of the calibration's threshold."""

    threshold: float
    created: str
    by: str | None = None
    """Who chose it, where a person did"""
    frames: int = 0
    """Of the source, that it was made from; 0 where a person chose it"""
    stated_fpr: float | None = None
    """The rate that it is set for, where frames made it for one"""
    score_quantiles: tuple[float, ...] = ()
    """Of the frames' scores at SCORE_QUANTILES; none where a person chose it"""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> OwnThreshold:
        """As asdict gave it; raises TypeError or ValueError where it is none."""
        own = cls(**{**values, "score_quantiles": tuple(map(float, values.get("score_quantiles", ())))})
        if not math.isfinite(own.threshold) or len(own.score_quantiles) not in (0, len(SCORE_QUANTILES)):
            raise ValueError(f"a source's threshold is {own.threshold}, with {len(own.score_quantiles)} quantiles")
        return own

    @property
    def kept(self) -> KeptScores | None:
        """The usual scores of the source; None where no frames were scored."""
        return KeptScores(self.score_quantiles, self.frames) if self.score_quantiles else None

    def __str__(self) -> str:
        made = f"from {self.frames} frames" if self.frames else f"chosen by {self.by or 'a person'}"
        return f"{self.threshold:.4g}, {made}, {self.created}"
