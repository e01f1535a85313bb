"""What the live page shows: the newest picture of each source, an hour of scores, the last events and messages.

Kept in the page's process; pure but for JPEG encoding. Times are seconds since the epoch.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.extras import require
from edge_runtime.model.preprocess import Frame

__all__ = ["Board", "Event", "Picture", "Scores", "seconds_of"]

HOUR_S = 3600.0
MOST_SCORES = 400_000
"""Of a source: an hour at a hundred frames a second."""

MOST_EVENTS, MOST_STATUSES = 200, 100
MOST_FRAMES, MOST_FRAME_BYTES = 50, 128_000_000
"""Events whose whole frame is kept, for feedback; fewer where frames are large, and one at least."""

JPEG_QUALITY = 80
CHART_POINTS = 600
AROUND_S = 10.0
"""Of scores, shown before and after an event."""


class Scores:
    """Time, smoothed score, threshold, and whether an event went on: of one source, the last hour's at most.

    The hour is by the clock that `add` is told, which nobody sets; the rows' times are those of day, for people.
    """

    def __init__(self) -> None:
        self._rows: deque[tuple[float, float, float, bool]] = deque(maxlen=MOST_SCORES)
        self._too_small: deque[bool] = deque(maxlen=MOST_SCORES)
        self._came_s: deque[float] = deque(maxlen=MOST_SCORES)
        self.added = 0
        """How many ever came; for who wants the new ones alone."""

    def add(
        self,
        t: float,
        score: float,
        threshold: float,
        in_event: bool = False,
        *,
        now_s: float,
        too_small: bool = False,
    ) -> None:
        """One frame's, which came now by a clock that never falls. too_small: no threshold would flag it."""
        self._rows.append((t, score, threshold, in_event))
        self._too_small.append(too_small)
        self._came_s.append(now_s)
        self.added += 1
        while self._came_s[0] < now_s - HOUR_S:
            self._came_s.popleft()
            self._rows.popleft()
            self._too_small.popleft()

    def since(self, added: int) -> list[tuple[float, float, float, bool]]:
        """Rows that came after so many; at most a chart's worth, the newest."""
        n_new = min(self.added - added, len(self._rows), CHART_POINTS)
        return [self._rows[index] for index in range(len(self._rows) - n_new, len(self._rows))] if n_new > 0 else []

    def between(self, first: float, last: float) -> list[tuple[float, float, float, bool]]:
        """Rows whose time lies there, by the clock of day; where they are many, evenly spread ones."""
        rows = [row for row in self._rows if first <= row[0] <= last]
        return rows[:: max(1, math.ceil(len(rows) / CHART_POINTS))]

    def scores(self) -> NDArray[np.float64]:
        """(N,) the hour's, minus infinity for frames that no threshold would flag."""
        rows = zip(self._rows, self._too_small, strict=True)
        return np.fromiter((-np.inf if small else row[1] for row, small in rows), np.float64, len(self._rows))


@dataclass(slots=True)
class Picture:
    """A frame as it is sent to browsers."""

    number: int
    """Counts up, so that a viewer knows whether it has this one"""
    jpeg: bytes
    heat: bytes
    """(h, w) uint8, row by row"""
    heat_shape: tuple[int, int]
    frame_id: int | None
    record: dict[str, Any] = field(default_factory=dict)
    """Of the very frame: what stands beside the picture is of no other"""


@dataclass(slots=True)
class Event:
    """One event, as its last record says, with the picture of its peak."""

    record: dict[str, Any]
    picture: Picture | None = None
    scores: list[tuple[float, float, float, bool]] = field(default_factory=list)
    """Its curve as it was kept, of an event of a run before this one"""


@dataclass(slots=True)
class Board:
    """Everything the page shows. Who reads more than one thing of it holds the lock; `take` does so itself."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    state: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    latest: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The newest frame record of each source"""
    came_s: dict[str, float] = field(default_factory=dict)
    """When that one came, by the clock"""
    heard_s: float = math.inf
    """When the run last sent anything, by the clock; a run that lives does so each second"""
    pictures: dict[str, Picture] = field(default_factory=dict)
    events: OrderedDict[str, Event] = field(default_factory=OrderedDict)
    statuses: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MOST_STATUSES))
    frames: OrderedDict[str, Frame] = field(default_factory=OrderedDict)
    """Whole frames of the last events' peaks"""
    changed: set[str] = field(default_factory=set)
    """Events that are not on disk as they are here"""
    not_kept: str = ""
    """Why events are not on disk; empty where they are"""
    number: int = 0
    """Counts up with every event and message, so that a viewer knows whether it has seen all"""

    clock: Callable[[], float] = time.monotonic

    def take(self, header: dict[str, Any], body: bytes) -> None:
        """One message of the run's process."""
        kind = header["kind"]
        n_pixels = int(np.prod(header.get("shape", (0,))))
        # Encoded before anyone is kept waiting.
        jpeg = _jpeg(_array(body[:n_pixels], header["shape"])) if kind == "picture" else b""
        with self.lock:
            self.heard_s = self.clock()
            if kind == "record":
                self._take_record(header["record"])
            elif kind == "picture":
                self._take_picture(header, jpeg, body[n_pixels:])
            elif kind == "frame":
                self._keep_frame(header["event_id"], _array(body, header["shape"]))
            elif kind == "state" and header["state"] != self.state:
                self.state = header["state"]
                self.number += 1

    def run_silent_s(self) -> float:
        """Seconds since the run sent anything; 0 before it has begun to. The caller holds the lock."""
        return max(0.0, self.clock() - self.heard_s)

    def age_s(self, source: str) -> float:
        """Seconds since the newest frame of a source was taken. The caller holds the lock."""
        return self.clock() - self.came_s[source] + float(self.latest[source]["age_ms"]) / 1000.0

    def scores_of(self, event_id: str) -> list[tuple[float, float, float, bool]]:
        """The scores of an event, AROUND_S before to AROUND_S after it, a chart's worth. The caller holds the lock."""
        event = self.events[event_id]
        scores, record = self.scores.get(event.record["source_id"]), event.record
        if scores is None or event.scores or "start_time" not in record:
            return event.scores
        end = record.get("end_time") if record["phase"] == "end" else None
        return scores.between(
            seconds_of(record["start_time"]) - AROUND_S, seconds_of(end) + AROUND_S if end else math.inf
        )

    def preview(self, threshold: float) -> list[dict[str, Any]]:
        """What a threshold would have flagged of the last hour, source by source."""
        with self.lock:
            rows = {source: scores.scores() for source, scores in self.scores.items()}
        found = []
        for source, scores in rows.items():
            above = scores > threshold
            begun = int((above[1:] & ~above[:-1]).sum() + above[:1].sum())
            found.append({"source_id": source, "flagged": int(above.sum()), "frames": len(above), "runs": begun})
        return found

    def _take_record(self, record: dict[str, Any]) -> None:
        if record["type"] == "frame":
            source = record["source_id"]
            self.latest[source] = record
            self.came_s[source] = self.clock()
            score = record["score_smoothed"] if record["score_smoothed"] is not None else record["score"]
            row = seconds_of(record["t_capture"]), score, record["threshold"], record["event_id"] is not None
            too_small = record.get("too_small", False)
            self.scores.setdefault(source, Scores()).add(*row, now_s=self.clock(), too_small=too_small)
        elif record["type"] == "event":
            event = self.events.setdefault(record["event_id"], Event(record))
            event.record = record
            self.changed.add(record["event_id"])
            while len(self.events) > MOST_EVENTS:
                self.events.popitem(last=False)
            self.number += 1
        else:
            told = record.get("t_emit")  # earlier releases' have none
            self.statuses.append({**record, "time": time.time() if told is None else seconds_of(told)})
            self.number += 1

    def _take_picture(self, header: dict[str, Any], jpeg: bytes, heat: bytes) -> None:
        rows, columns = header["map_shape"]
        before = self.pictures.get(header["source_id"])
        number = 1 + (before.number if before else 0)
        record = header.get("record", {})
        picture = Picture(number, jpeg, heat, (rows, columns), header["frame_id"], record)
        if header["event_id"] is None:
            self.pictures[header["source_id"]] = picture
        elif header["event_id"] in self.events:
            self.events[header["event_id"]].picture = picture
            self.changed.add(header["event_id"])
            self.number += 1

    def _keep_frame(self, event_id: str, frame: Frame) -> None:
        self.frames[event_id] = frame
        self.frames.move_to_end(event_id)
        self.changed.add(event_id)
        while len(self.frames) > MOST_FRAMES or (
            len(self.frames) > 1 and sum(kept.nbytes for kept in self.frames.values()) > MOST_FRAME_BYTES
        ):
            self.frames.popitem(last=False)


def _array(body: bytes, shape: list[int]) -> Frame:
    return np.frombuffer(body, dtype=np.uint8).reshape(shape)


def _jpeg(image: Frame) -> bytes:
    cv2 = require("cv2", extra="camera", purpose="live pages")
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(encoded)


def seconds_of(text: str) -> float:
    """Seconds since the epoch of a moment as records tell it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
