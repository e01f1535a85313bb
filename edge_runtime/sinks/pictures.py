"""What a run keeps for people to look at: a snapshot and a clip of every event, and a recording of everything."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.extras import require
from edge_runtime.files import OWN_ALONE, file_identity, file_stem, write_atomically
from edge_runtime.model.preprocess import Frame
from edge_runtime.redact import redact
from edge_runtime.sinks.annotate import annotated
from edge_runtime.sinks.contract import Emission, SinkBase
from edge_runtime.sinks.retention import KeptFolder, Retention
from edge_runtime.systems.replacing import replace

__all__ = ["Clips", "Recording", "Snapshots", "clip_name", "snapshot_name"]

logger = logging.getLogger(__name__)

SNAPSHOT_QUALITY = 90
PRE_ROLL_QUALITY = 85

RETENTION_EVERY_S = 60.0

PROBE_FRAMES = 10
"""Frames from whose times the rate of a video is taken, before its file is begun."""

LEAST_FPS, MOST_FPS = 1.0, 240.0
"""OpenCV's Motion JPEG takes no rate below 1: slower frames play faster than they came."""

MOST_RING_FRAMES, MOST_RING_BYTES = 3600, 128_000_000
"""Of a source, kept for the seconds before an event: a minute at 60 frames a second, or at 30 of some 70 kB."""


class _Folder(SinkBase):
    """A sink that fills a folder and keeps it from filling the disk."""

    pictures = True
    suffixes: tuple[str, ...] = ()

    def __init__(self, folder: Path, retention: Retention | None = None) -> None:
        self.folder = folder
        self.name = str(folder)
        self._kept = KeptFolder(folder, self.suffixes, retention or Retention())
        self._cleaned_s = -math.inf

    def open(self) -> None:
        """Make the folder; raises DataError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"cannot make the folder {self.folder}: {error.strerror or error}") from error

    def tick(self) -> None:
        """Now and then delete what retention does not keep."""
        if time.monotonic() - self._cleaned_s > RETENTION_EVERY_S:
            self._cleaned_s = time.monotonic()
            self._kept.clean()

    def _say_gone(self, video: _Video) -> None:
        video.give_up()
        reason = f"{video.path} was removed or renamed while it was written; a new file goes on"
        logger.warning("%s", redact(reason))
        self.say("warning", "SINK_REOPENED", reason=reason)


class Snapshots(_Folder):
    """One JPEG an event, with its map and regions: the frame with the highest score so far."""

    kinds: tuple[str, ...] = ("event",)
    suffixes = (".jpg",)

    def fields(self, record: dict[str, Any]) -> dict[str, str]:
        """The picture's path."""
        return {"snapshot": str(self.folder / snapshot_name(record))}

    def write(self, emission: Emission) -> None:
        """Write, or write over, the event's picture; an emission without one changes nothing."""
        if emission.image is None or emission.result is None:
            return
        cv2 = require("cv2", extra="camera", purpose="snapshots")
        picture = annotated(emission.image, emission.result, emission.record)
        encoded, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, SNAPSHOT_QUALITY])
        if not encoded:
            raise ValueError(f"OpenCV cannot encode a picture of shape {picture.shape} as JPEG")
        write_atomically(self.folder / snapshot_name(emission.record), content.tobytes(), mode=OWN_ALONE)


class _Video:
    """An AVI file in Motion JPEG, which every OpenCV build writes, under another name until it is whole."""

    def __init__(self, path: Path, fps: float, frame: Frame) -> None:
        cv2 = require("cv2", extra="camera", purpose="videos")
        self.path = path
        self._part = path.with_name(f"{path.stem}.part{path.suffix}")
        self._size = (frame.shape[1], frame.shape[0])
        self._part.parent.mkdir(parents=True, exist_ok=True)
        codec = cv2.VideoWriter_fourcc(*"MJPG")
        self._writer = cv2.VideoWriter(str(self._part), cv2.CAP_OPENCV_MJPEG, codec, fps, self._size)
        self._place = file_identity(self._part)
        if not self._writer.isOpened() or self._place is None:
            raise OSError(f"OpenCV cannot write {self._part}; is the folder there, and room on the disk?")

    def add(self, frame: Frame) -> None:
        """One frame, (H, W, 3) BGR uint8; one of another size is made to fit."""
        if (frame.shape[1], frame.shape[0]) != self._size:
            frame = require("cv2", extra="camera", purpose="videos").resize(frame, self._size)
        self._writer.write(frame)

    @property
    def is_in_place(self) -> bool:
        """Whether the file still stands where it was begun; frames that come into one that was removed are lost."""
        return file_identity(self._part) == self._place

    def give_up(self) -> None:
        """Close the file without a name."""
        self._writer.release()

    def close(self) -> None:
        """Finish the file and give it its name; raises OSError where the disk did not take all of it."""
        self._writer.release()
        said, found = _riff_bytes(self._part), self._part.stat().st_size
        if said != found:  # OpenCV's writer tells of no failure
            raise OSError(f"{self._part} has {found} bytes, its header says {said}: the disk did not take the video")
        replace(self._part, self.path)


def _riff_bytes(path: Path) -> int:
    """How long a RIFF file says that it is."""
    with path.open("rb") as stream:
        return 8 + int.from_bytes(stream.read(8)[4:8], "little")


def fps_of(times_s: list[float]) -> float:
    """Frames a second of frames captured at these times."""
    spread = times_s[-1] - times_s[0] if len(times_s) > 1 else 0.0
    return min(MOST_FPS, max(LEAST_FPS, (len(times_s) - 1) / spread)) if spread > 0 else 10.0


@dataclass(slots=True)
class _Reel:
    """What a clip sink remembers of one source."""

    ring: deque[tuple[float, Any]] = field(default_factory=deque)
    """(time, JPEG) of the newest frames; times are by the clock of Emission.grabbed_s"""
    ring_bytes: int = 0
    event_id: str | None = None
    path: Path | None = None
    """Where the clip that is due goes; its file is begun with the next frame."""
    video: _Video | None = None
    begun_s: float = 0.0
    until_s: float = math.inf


class Clips(_Folder):
    """One AVI an event: some seconds before it, the event, and some seconds after, MOST_S in all at most."""

    kinds: tuple[str, ...] = ("frame", "event")
    suffixes = (".avi",)
    MOST_S = 300.0
    """An event that does not end must not fill the disk with one file."""

    def __init__(
        self,
        folder: Path,
        retention: Retention | None = None,
        *,
        before_s: float = 3.0,
        after_s: float = 3.0,
    ) -> None:
        if not (0 <= before_s <= 60 and 0 <= after_s <= 600):
            raise ConfigError(f"a clip with {before_s} s before and {after_s} s after, expected 0 to 60 and 0 to 600")
        super().__init__(folder, retention)
        self._before_s, self._after_s = before_s, after_s
        self._reels: dict[str, _Reel] = {}

    def fields(self, record: dict[str, Any]) -> dict[str, str]:
        """The clip's path."""
        return {"clip": str(self.folder / clip_name(record))}

    def write(self, emission: Emission) -> None:
        """A frame goes into the ring and the clip that is open; an event opens a clip or sets its end."""
        record = emission.record
        reel = self._reels.setdefault(record["source_id"], _Reel())
        if record["type"] == "frame":
            if emission.image is not None and emission.result is not None and emission.grabbed_s is not None:
                picture = annotated(emission.image, emission.result, record)
                self._frame(reel, emission.grabbed_s, picture)
        elif record["phase"] == "new":
            self._finish(reel)
            reel.event_id, reel.path, reel.until_s = record["event_id"], self.folder / clip_name(record), math.inf
        elif record["phase"] == "end" and record["event_id"] == reel.event_id and reel.ring:
            reel.until_s = reel.ring[-1][0] + self._after_s

    def close(self) -> None:
        """Finish the clips that are open."""
        for reel in self._reels.values():
            self._finish(reel)

    def _frame(self, reel: _Reel, moment_s: float, picture: Frame) -> None:
        cv2 = require("cv2", extra="camera", purpose="clips")
        encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, PRE_ROLL_QUALITY])
        if encoded:
            reel.ring.append((moment_s, jpeg))
            reel.ring_bytes += jpeg.nbytes
        while len(reel.ring) > 1 and (
            reel.ring[0][0] < moment_s - self._before_s
            or len(reel.ring) > MOST_RING_FRAMES
            or reel.ring_bytes > MOST_RING_BYTES
        ):
            reel.ring_bytes -= reel.ring.popleft()[1].nbytes
        if reel.path is not None and reel.video is None:
            reel.begun_s = moment_s
            reel.video = _Video(reel.path, fps_of([moment for moment, _ in reel.ring]), picture)
            for _, earlier in reel.ring:
                reel.video.add(cv2.imdecode(earlier, cv2.IMREAD_COLOR))
        elif reel.video is not None:
            reel.video.add(picture)
        if reel.video is not None and moment_s >= min(reel.until_s, reel.begun_s + self.MOST_S):
            self._finish(reel)

    def tick(self) -> None:
        """Also begin a clip again whose file went away, with the seconds that are in memory."""
        super().tick()
        for reel in self._reels.values():
            if reel.video is not None and not reel.video.is_in_place:
                self._say_gone(reel.video)
                reel.video = None

    @staticmethod
    def _finish(reel: _Reel) -> None:
        video, reel.video, reel.path, reel.event_id = reel.video, None, None, None
        if video is not None:
            video.close()


class Recording(_Folder):
    """Everything that was scored, as AVI files of some minutes each."""

    kinds: tuple[str, ...] = ("frame",)
    suffixes = (".avi",)

    def __init__(self, folder: Path, retention: Retention | None = None, *, segment_s: float = 600.0) -> None:
        if not segment_s >= 1:
            raise ConfigError(f"recordings of {segment_s} s each, expected 1 or more")
        super().__init__(folder, retention)
        self._segment_s = segment_s
        self._waiting: dict[str, list[tuple[float, Frame]]] = {}
        self._names: dict[str, str] = {}
        self._videos: dict[str, tuple[float, _Video]] = {}

    def write(self, emission: Emission) -> None:
        """Add the frame to its source's file."""
        if emission.image is None or emission.result is None or emission.grabbed_s is None:
            return
        source, moment_s = emission.record["source_id"], emission.grabbed_s
        picture = annotated(emission.image, emission.result, emission.record)
        if source in self._videos and moment_s - self._videos[source][0] >= self._segment_s:
            self._videos.pop(source)[1].close()
        if source in self._videos:
            self._videos[source][1].add(picture)
            return
        waiting = self._waiting.setdefault(source, [])
        if not waiting:
            self._names[source] = f"{file_stem(source)}-{captured_at(emission.record):%Y%m%dT%H%M%SZ}"
        waiting.append((moment_s, picture))
        if len(waiting) >= PROBE_FRAMES:
            self._begin(source)

    def tick(self) -> None:
        """Also begin a file again that went away."""
        super().tick()
        for source, (_, video) in list(self._videos.items()):
            if not video.is_in_place:
                self._say_gone(video)
                del self._videos[source]

    def close(self) -> None:
        """Finish all files."""
        for source in [source for source, waiting in self._waiting.items() if waiting]:
            if source not in self._videos:
                self._begin(source)
        for _, video in self._videos.values():
            video.close()
        self._videos.clear()

    def _begin(self, source: str) -> None:
        waiting = self._waiting.pop(source)
        fps = fps_of([moment_s for moment_s, _ in waiting])
        video = _Video(unused(self.folder / f"{self._names.pop(source)}.avi"), fps, waiting[0][1])
        for _, picture in waiting:
            video.add(picture)
        self._videos[source] = (waiting[0][0], video)


def captured_at(record: dict[str, Any]) -> datetime:
    """The time of day at which the frame of a record was captured, UTC."""
    return datetime.fromisoformat(record["t_capture"].replace("Z", "+00:00"))


def unused(path: Path) -> Path:
    """The path, or with a number after its stem where that is taken: a clock that was put back gives a name again."""
    taken, number = path, 1
    while path.exists():
        number += 1
        path = taken.with_name(f"{taken.stem}-{number}{taken.suffix}")
    return path


def snapshot_name(record: dict[str, Any]) -> str:
    """Name of an event's picture within the folder of snapshots: DAY/EVENT.jpg."""
    return f"{record['start_time'][:10]}/{record['event_id']}.jpg"


def clip_name(record: dict[str, Any]) -> str:
    """Name of an event's clip within the folder of clips: DAY/EVENT.avi."""
    return f"{record['start_time'][:10]}/{record['event_id']}.avi"
