"""Frames that are none: repeated, black, torn, of another size. They are reported and never scored.

What is recognised, and how, is said at each check; a frame torn between two good exposures leaves no trace in its
bytes and is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import ConfigError
from edge_runtime.model.preprocess import Frame

__all__ = ["CHECKS", "Fault", "FrameGuard", "GuardSettings"]

CHECKS = ("repeated", "black", "torn", "size")

SAMPLES = 64
"""Rows and columns looked at, at most, before the whole frame is."""

LEAST_TORN = 1 / 16
"""Share of the rows that must be stale or filler before a frame counts as torn: a row or two can be chance."""

SATURATED = (0, 255)
"""Levels at which a scene clips: a uniform band of them is no filler unless it was not there before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardSettings:
    """What is refused."""

    checks: tuple[str, ...] = CHECKS
    black_mean: float = 8.0
    """Grey level: a frame whose mean is below this, and which varies less than black_std, is black."""
    black_std: float = 4.0
    inter_coded: bool = False
    """Whether the codec copies unchanged parts from the frame before (H.264): equal rows then prove nothing."""

    def __post_init__(self) -> None:
        unknown = set(self.checks) - set(CHECKS)
        if unknown:
            raise ConfigError(
                f"--reject names {', '.join(sorted(unknown))}, expected some of {', '.join(CHECKS)}, or none"
            )


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a frame."""

    code: str
    """FRAME_REPEATED, FRAME_BLACK, FRAME_TORN or FRAME_SIZE."""
    reason: str


class FrameGuard:
    """Looks at each frame of one live source, in order."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self._settings = settings or GuardSettings()
        self._inter_coded = self._settings.inter_coded
        self._shape: tuple[int, ...] | None = None
        self._before: Frame | None = None
        self._filler_before: int | None = None

    def opened(self, *, inter_coded: bool) -> None:
        """The source was opened, and told its codec: as of GuardSettings.inter_coded."""
        self._inter_coded = self._settings.inter_coded or inter_coded

    def check(self, frame: Frame) -> Fault | None:
        """What is wrong with the frame; None for a good one. The frame is kept, so it must not be written to."""
        checks = self._settings.checks
        self._shape = self._shape or frame.shape
        if "size" in checks and frame.shape != self._shape:
            return Fault(
                "FRAME_SIZE", f"frame is {frame.shape}, the source began with {self._shape}; restart to take a new size"
            )
        before, self._before = self._before, frame
        sample, sampled_before = _sample(frame), None
        if before is not None and before.shape == frame.shape:
            sampled_before = _sample(before)
        # A black frame is usually a repeated one too; what it shows says more than that it came twice.
        if "black" in checks and (fault := self._black(frame, sample)):
            return fault
        if before is not None and sampled_before is not None:
            if np.array_equal(sample, sampled_before) and np.array_equal(frame, before):
                return (
                    Fault("FRAME_REPEATED", "equal in every byte to the frame before") if "repeated" in checks else None
                )
            if "torn" in checks and not self._inter_coded:
                stale = _stale_rows(frame, before, sample, sampled_before)
                if stale:
                    return Fault("FRAME_TORN", f"the last {stale} of {len(frame)} rows are those of the frame before")
        return self._filler(frame) if "torn" in checks else None

    def _black(self, frame: Frame, sample: Frame) -> Fault | None:
        mean, deviation = float(sample.mean()), float(sample.std())
        if mean < self._settings.black_mean and deviation < self._settings.black_std:
            return Fault("FRAME_BLACK", f"black: mean level {mean:.1f}, standard deviation {deviation:.1f}")
        if (sample == sample[0, 0]).all() and (frame == frame[0, 0]).all():
            return Fault("FRAME_BLACK", f"blank: every pixel is {np.atleast_1d(frame[0, 0]).tolist()}")
        return None

    def _filler(self, frame: Frame) -> Fault | None:
        """Whether the data ended early: rows at the bottom of one single value, which were not there before."""
        rows = _uniform_tail(frame)
        usual, least = self._filler_before, LEAST_TORN * len(frame)
        value = np.unique(frame[-1])
        may_be_scene = usual is None and len(value) == 1 and int(value[0]) in SATURATED
        if least <= rows < len(frame) and not may_be_scene and rows > (usual or 0) + least / 2:
            return Fault("FRAME_TORN", f"the last {rows} of {len(frame)} rows are filler, {frame[-1, 0].tolist()}")
        self._filler_before = rows
        return None


def _sample(frame: Frame) -> Frame:
    """At most about SAMPLES rows and columns of a frame, evenly spread, the last row among them."""
    step = max(1, len(frame) // SAMPLES), max(1, frame.shape[1] // SAMPLES)
    sample: Frame = frame[::-1][:: step[0], :: step[1]]
    return sample


def _stale_rows(frame: Frame, before: Frame, sample: Frame, sampled_before: Frame) -> int:
    """Rows at the bottom that equal those of the frame before while the top does not; 0 where none or too few do.

    Rows of one single value, such as the bars of a letterbox, are equal in good frames too and do not count.
    """
    if not _first_false(_rows_equal(sample, sampled_before)):
        return 0
    equal = _first_false(_rows_equal(frame[::-1], before[::-1]))
    bottom = frame[len(frame) - equal :].reshape(equal, -1)
    textured = int((bottom.max(axis=1) != bottom.min(axis=1)).sum()) if equal else 0
    return equal if textured >= LEAST_TORN * len(frame) else 0


def _uniform_tail(frame: Frame) -> int:
    """Rows at the bottom whose every pixel is that of the last row's first."""
    if not (_sample(frame)[0] == frame[-1, 0]).all():
        return 0
    channels = tuple(range(1, frame.ndim))
    return _first_false((frame[::-1] == frame[-1, 0]).all(axis=channels))


def _rows_equal(a: Frame, b: Frame) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    equal: np.ndarray[tuple[int], np.dtype[np.bool_]] = (a == b).all(axis=tuple(range(1, a.ndim)))
    return equal


def _first_false(flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    """How many flags are true from the start on."""
    return len(flags) if flags.all() else int(flags.argmin())
