"""Two detectors on the same frames: whose verdicts change, which frames those are, and how they look. No labels.

Frames stream by: what is kept are counts, a bounded list of changed frames, and a bounded number of pictures on disk.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError, FrameError
from edge_runtime.files import file_stem, unicode_name
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.redact import redact
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.sinks.side_by_side import SeenFrame, side_by_side
from edge_runtime.sources.contract import CapturedFrame, FrameSource

__all__ = ["ChangedFrame", "FrameComparison", "frames_of"]

logger = logging.getLogger(__name__)

MOST_CHANGED = 10_000
"""Changed frames that are kept, those that changed most: a video of a day must not fill the memory."""

LONGEST_NAME = 40
"""Characters of a name in the table."""


@dataclass(frozen=True, slots=True)
class ChangedFrame:
    """A frame of which the two detectors do not say the same."""

    frame_id: int
    name: str | None
    """File of an image, with ? for bytes that are no UTF-8; None for a video's frame"""
    old_score: float
    new_score: float
    is_anomaly: bool
    """By the new detector"""
    change: float
    """How far the two scores lie from their thresholds, added"""

    @classmethod
    def of(cls, frame: CapturedFrame, old: Result, new: Result) -> ChangedFrame:
        """Of a frame with two verdicts."""
        name = None if frame.name is None else unicode_name(frame.name)
        change = abs(old.score - old.threshold) + abs(new.score - new.threshold)
        return cls(frame.frame_id, name, old.score, new.score, new.is_anomaly, change)

    def to_json(self, picture: Path | None) -> dict[str, Any]:
        """Both scores and verdicts, and where the picture lies."""
        return {
            "frame_id": self.frame_id,
            "name": self.name,
            "old": {"score": self.old_score, "is_anomaly": not self.is_anomaly},
            "new": {"score": self.new_score, "is_anomaly": self.is_anomaly},
            "picture": None if picture is None else str(picture),
        }

    def __str__(self) -> str:
        name = self.name or ""
        shown = name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}"
        way = "normal -> anomalous" if self.is_anomaly else "anomalous -> normal"
        return f"{self.frame_id:>8}  {shown:<{LONGEST_NAME}} {self.old_score:>9.3f} {self.new_score:>9.3f}  {way}"


class FrameComparison:
    """What two detectors make of the frames that it takes, one after another."""

    def __init__(self, old: Detector, new: Detector, pictures: Path | None = None, max_pictures: int = 0) -> None:
        """pictures: folder for a picture of each of the max_pictures frames that changed most."""
        self.old, self.new = old, new
        self.frames = self.unscored = self.to_anomalous = self.to_normal = 0
        self._changed = _Most(MOST_CHANGED)
        self._pictures = None if pictures is None else _Album(pictures, max_pictures)

    def take(self, frame: CapturedFrame | DataError) -> None:
        """Score a frame by both; one that either cannot score is said and counted. Raises BackendError, DataError."""
        try:
            if isinstance(frame, DataError):
                raise frame
            old, new = self.old.score(frame.image), self.new.score(frame.image)
        except (DataError, FrameError) as error:
            self.unscored += 1
            logger.warning("frame not scored: %s", error)
            return
        self.frames += 1
        if old.is_anomaly is new.is_anomaly:
            return
        self.to_anomalous += new.is_anomaly
        self.to_normal += old.is_anomaly
        changed = ChangedFrame.of(frame, old, new)
        self._changed.offer(changed)
        if self._pictures is not None and self._pictures.wants(changed):
            self._pictures.add(changed, self._drawn(frame, old, new))

    @property
    def changed(self) -> list[ChangedFrame]:
        """The frames whose verdicts differ, those that changed most first, MOST_CHANGED of them."""
        return self._changed.ranked()

    def lines(self, top: int) -> list[str]:
        """The report for a terminal, with the top frames that changed most."""
        n_changed = self.to_anomalous + self.to_normal
        sides = (("old", self.old), ("new", self.new))
        lines = [
            f"{side}  {unicode_name(str(detector.bundle.path))} sha256:{detector.bundle.digest[:12]}, "
            f"threshold {detector.decision.threshold:.4g}"
            for side, detector in sides
        ]
        lines.append(
            f"{self.frames} frames: {self.frames - n_changed} verdicts the same, "
            f"{self.to_anomalous} normal -> anomalous, {self.to_normal} anomalous -> normal"
            + (f"; {self.unscored} not scored" if self.unscored else "")
        )
        shown = self.changed[:top]
        if shown:
            lines.append(f"{'frame':>8}  {'name':<{LONGEST_NAME}} {'old':>9} {'new':>9}")
            lines += map(str, shown)
        if shown and n_changed > len(shown):
            lines.append(f"and {n_changed - len(shown)} more, which changed less")
        return lines

    def to_json(self, source_id: str) -> dict[str, Any]:
        """The whole for machines; source_id: whose frames they were."""
        changed = self.changed
        pictures = {} if self._pictures is None else self._pictures.paths
        n_changed = self.to_anomalous + self.to_normal
        return {
            "source_id": redact(unicode_name(source_id)),
            "old": _named(self.old),
            "new": _named(self.new),
            "frames": self.frames,
            "unscored": self.unscored,
            "same": self.frames - n_changed,
            "to_anomalous": self.to_anomalous,
            "to_normal": self.to_normal,
            "changed": [one.to_json(pictures.get(one.frame_id)) for one in changed],
            "changed_left_out": n_changed - len(changed),
        }

    def _drawn(self, frame: CapturedFrame, old: Result, new: Result) -> Frame:
        caption = frame.name or f"frame {frame.frame_id}"
        shape = frame.image.shape
        seen = [
            SeenFrame(_caption(side, result), result.is_anomaly, result.shown_heatmap(shape), detector.heat_scale)
            for side, result, detector in (("old", old, self.old), ("new", new, self.new))
        ]
        return side_by_side(frame.image, caption, seen)


def frames_of(source: FrameSource, every: int = 1) -> Iterator[CapturedFrame | DataError]:
    """Each n-th frame of an open source in order, or the error of one that cannot be decoded. Raises SourceError."""
    n_grabbed = 0
    while source.grab():
        n_grabbed += 1
        if (n_grabbed - 1) % every == 0:
            try:
                yield source.retrieve()
            except DataError as error:
                yield error


class _Most:
    """The frames that changed most, so many at most; of equal ones those that came first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, ChangedFrame]] = []

    def wants(self, changed: ChangedFrame) -> bool:
        """Whether it would be kept."""
        return len(self._heap) < self._size or bool(self._heap and self._key(changed) > self._heap[0][:2])

    def offer(self, changed: ChangedFrame) -> ChangedFrame | None:
        """Keep it where it is wanted; returns the one that is kept no more."""
        entry = (*self._key(changed), changed)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
            return None
        return heapq.heappushpop(self._heap, entry)[2]

    def ranked(self) -> list[ChangedFrame]:
        return [changed for _, _, changed in sorted(self._heap, reverse=True)]

    @staticmethod
    def _key(changed: ChangedFrame) -> tuple[float, int]:
        return changed.change, -changed.frame_id


class _Album:
    """Pictures on disk of the frames that changed most; one that is no longer among them is deleted."""

    def __init__(self, folder: Path, size: int) -> None:
        self.paths: dict[int, Path] = {}
        """By frame_id."""
        self._folder = folder
        self._most = _Most(size)

    def wants(self, changed: ChangedFrame) -> bool:
        """Whether a picture of it would be kept, so that no other need be drawn."""
        return self._most.wants(changed)

    def add(self, changed: ChangedFrame, picture: Frame) -> None:
        """Write a picture that is wanted."""
        stem = file_stem(Path(changed.name).stem) if changed.name else "frame"
        path = self._folder / f"{changed.frame_id:06d}-{stem}.png"
        write_image(path, picture)
        self.paths[changed.frame_id] = path
        gone = self._most.offer(changed)
        if gone is not None:
            self.paths.pop(gone.frame_id).unlink(missing_ok=True)


def _caption(side: str, result: Result) -> str:
    verdict = "anomalous" if result.is_anomaly else "too small" if result.too_small else "normal"
    return f"{side} {result.score:.2f} / {result.threshold:.2f} {verdict}"


def _named(detector: Detector) -> dict[str, Any]:
    return {
        "bundle": unicode_name(str(detector.bundle.path)),
        "model": f"sha256:{detector.bundle.digest}",
        "threshold": detector.decision.threshold,
        "backend": detector.backend.name,
    }
