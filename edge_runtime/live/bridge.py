"""The run's side of the live page: a sink that feeds the page's process, and what people ask for there."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.live.threshold_desk import Asked, ThresholdDesk
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.serving.child import AGAIN, Process, begin, end, tell
from edge_runtime.serving.framing import LARGEST, receive
from edge_runtime.sinks.contract import Emission, SinkBase

if TYPE_CHECKING:
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["Asked", "LivePage", "LiveSettings"]

logger = logging.getLogger(__name__)

WIDEST, HIGHEST = 960, 1280
"""Pictures are sent at most so wide and high, pixels: a phone shows no more."""

ROOM = 65_536
"""Bytes of a message that its header may take."""

WIDEST_MAP = 160
"""Pixels of its longer side: the map is smooth."""

MOST_ASKED = 100
"""Thresholds that wait for the thread that scores: while a frame takes its time, several people may set several"""

WRITE_WITHIN_S = 5.0
"""A message is taken by then, or the page's process hangs and is ended: a run over files waits for its sinks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveSettings:
    """How the page is served."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes a free one."""
    token: str = ""
    """Who looks must know it; empty for the loopback alone."""
    view_token: str = ""
    """Who has this one may look and change nothing; empty: there is none."""
    fps: float = 5.0
    """Pictures a second, of each source, while somebody looks."""
    feedback: Path = Path("feedback")
    """Folder for what people say of events, and the frames they said it of."""
    bundle: Path | None = None
    """For the doctor's page."""
    snapshots: Path | None = None
    """Where the run puts snapshots of events, to be shown; None where it makes none."""
    clips: Path | None = None
    """The same of clips."""
    fixed_by: str = ""
    """The run's own option that sets the threshold, such as --threshold 1.3; it wins over what is kept for good."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.fps <= 60:
            raise ConfigError(f"--serve-fps is {self.fps}, expected 0.1 to 60 pictures a second")
        if self.view_token and self.view_token == self.token:
            raise ConfigError("the token to look with is the one that changes things; expected two")
        if self.view_token and not self.token:
            raise ConfigError("there is a token to look with and none to change things with; expected both")


class LivePage(SinkBase):
    """Starts the page's process when it is opened; what that does not take in time is dropped, not waited for."""

    name = "live page"
    pictures = True

    def __init__(self, settings: LiveSettings, pipeline: Callable[[], Pipeline]) -> None:
        """pipeline: whose run it shows, once there is one."""
        require("uvicorn", extra="dashboard", purpose="live pages")
        require("starlette", extra="dashboard", purpose="live pages")
        self._settings, self._pipeline = settings, pipeline
        self.desk = ThresholdDesk(pipeline, fixed_by=settings.fixed_by)
        self._process: Process | None = None
        self._listener: threading.Thread | None = None
        self._asked: deque[Asked] = deque(maxlen=MOST_ASKED)
        self._viewers = 0
        self._sent_s: dict[str, float] = {}
        self._lock = threading.Lock()
        self._again_s = -math.inf
        self._begun_again = 0
        self.on_open: Callable[[], None] = lambda: None
        self.addresses: list[str] = []
        """Where it is, token included, once it is open; the likeliest first"""

    @property
    def unwritten(self) -> int:
        """It keeps no records: whoever looks later sees what is now."""
        return 0

    def open(self) -> None:
        """Start the process and wait until it serves; raises ConfigError where it cannot."""
        settings = self._settings
        hello = {
            "kind": "hello",
            "host": settings.host,
            "port": settings.port,
            "token": settings.token,
            "view_token": settings.view_token,
            "feedback": str(settings.feedback.resolve()),
            "bundle": None if settings.bundle is None else str(settings.bundle),
            "snapshots": None if settings.snapshots is None else str(settings.snapshots.resolve()),
            "clips": None if settings.clips is None else str(settings.clips.resolve()),
            "state": self._told(),
        }
        self._process, answer = begin("edge_runtime.live.server", hello, "the live page")
        said = self._process.stdout
        assert said is not None
        self.addresses = answer["addresses"]
        self.on_open()
        self._listener = threading.Thread(target=self._listen, args=(said,), name="live page", daemon=True)
        self._listener.start()

    def write(self, emission: Emission) -> None:
        """Hand a record on, and its picture where somebody looks and it is time. Raises OSError where nobody serves."""
        record = emission.record
        self._send({"kind": "record", "record": record})
        if emission.image is None or emission.result is None:
            return
        is_event, now_s = record["type"] == "event", time.monotonic()
        source = record["source_id"]
        due = self._viewers > 0 and now_s - self._sent_s.get(source, -1e9) >= 1.0 / self._settings.fps
        if not (is_event or due):
            return
        if not is_event:
            self._sent_s[source] = now_s
        heat = emission.result.shown_heatmap(emission.image.shape)
        picture, small = _shrunk(emission.image), _small_map(heat, emission.result.heat_scale)
        header = {
            "kind": "picture",
            "source_id": source,
            "event_id": record.get("event_id") if is_event else None,
            "frame_id": record.get("frame_id"),
            "shape": picture.shape,
            "map_shape": small.shape,
            "record": record,
        }
        self._send(header, picture.tobytes() + small.tobytes())
        if is_event:
            # As it came, for feedback that a training can use.
            whole = np.ascontiguousarray(emission.image)
            if whole.nbytes < LARGEST - ROOM:
                frame = {"kind": "frame", "event_id": record["event_id"], "shape": whole.shape}
                self._send(frame, whole.tobytes())

    def tick(self) -> None:
        """Once a second: how the run is. A page whose process ended is begun again."""
        if self._process is not None and self._process.poll() is not None and time.monotonic() >= self._again_s:
            self._begun_again += 1
            self._again_s = time.monotonic() + AGAIN.wait_s(self._begun_again, random.Random())
            end(self._process)
            self._viewers = 0
            try:
                self.open()
            except ConfigError as error:
                raise OSError(str(error)) from error
        self._send({"kind": "state", "state": self._told()})

    def close(self) -> None:
        """The page's process ends with its pipe."""
        process, self._process = self._process, None
        if process is None:
            return
        end(process, patience_s=0.8)
        if self._listener is not None:
            self._listener.join(1.0)

    def take_threshold(self) -> Asked | None:
        """A threshold that somebody set on the page, each once, in their order. From the thread that scores."""
        with self._lock:
            return self._asked.popleft() if self._asked else None

    def _send(self, header: dict[str, Any], body: bytes = b"") -> None:
        tell(self._process, header, body, "the live page", timeout_s=WRITE_WITHIN_S)

    def _told(self) -> dict[str, Any]:
        pipeline = self._pipeline()
        detector, usual = pipeline.detector, pipeline.detector.usual
        state = pipeline.current()
        for source, kept in zip(state["sources"], pipeline.states(), strict=True):
            alarm = kept.watch.alarm.settings if kept.watch.alarm else None
            source["clear_threshold"] = alarm.clear if alarm else None
            source["alarm"] = f"{alarm.n} of {alarm.m}" if alarm else None
            source["stall_timeout_s"] = kept.feed.stall_timeout_s
            own = detector.usual_of(source["source_id"])
            if own is not None and own is not usual and own != usual:
                source["usual"] = asdict(own)
        return {
            **state,
            "alarm": next((source["alarm"] for source in state["sources"] if source["alarm"]), None),
            "desk": self.desk.told(),
            "usual": None if usual is None else asdict(usual),
            "view": str(detector.view),
            "sizes": str(detector.size) if detector.size else None,
        }

    def _listen(self, said: IO[bytes]) -> None:
        """Until the page's process has ended."""
        try:
            while (message := receive(said)) is not None:
                header = message[0]
                if header["kind"] == "viewers":
                    self._viewers = int(header["number"])
                elif header["kind"] == "threshold":
                    with self._lock:
                        self._asked.append(Asked.from_json(header))
        except (OSError, ValueError) as error:
            logger.debug("the live page's process says nothing more: %s", error)
        finally:
            said.close()


def _shrunk(image: Frame) -> Frame:
    rows, columns = image.shape[:2]
    scale = min(WIDEST / columns, HIGHEST / rows)
    if scale >= 1.0:
        return np.ascontiguousarray(image)
    cv2 = require("cv2", extra="camera", purpose="live pages")
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    shrunk: Frame = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return shrunk


def _small_map(heat: Any, scale: HeatScale) -> Frame:
    """(h, w) uint8, as scoring/heatmap.py shades it: 0 has no colour, 255 the full one."""
    cv2 = require("cv2", extra="camera", purpose="live pages")
    rows, columns = heat.shape
    factor = WIDEST_MAP / max(rows, columns)
    if factor < 1.0:
        size = (max(1, round(columns * factor)), max(1, round(rows * factor)))
        heat = cv2.resize(heat, size, interpolation=cv2.INTER_AREA)
    scaled: Frame = (255.0 * scale.shade(heat)).astype(np.uint8)
    return scaled
