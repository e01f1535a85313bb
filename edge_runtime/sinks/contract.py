"""What every sink is: open, write, tick, close, all from one thread that is the sink's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.result import Result

__all__ = ["Emission", "Say", "Sink", "SinkBase"]

Say = Callable[..., None]
"""(severity, event_type, **payload): a status record about the sink"""


def _say_nothing(severity: str, event_type: str, **payload: Any) -> None:
    """What a sink says that nobody runs."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One record on its way out, with the picture it speaks of."""

    record: dict[str, Any]
    """A frame, event or status record; see docs/records.md."""
    image: Frame | None = None
    """The frame that was scored; of an event the one with its peak so far, where that is a new one."""
    result: Result | None = None
    """What the detector made of `image`."""
    grabbed_s: float | None = None
    """Of a frame: when it was grabbed, by the clock of CapturedFrame.grabbed_s, which no one sets; for durations."""
    last_time: str | None = None
    """Of an event: the time of its last frame so far, as in the record's end_time, which is null while it goes on."""
    committed: threading.Event | None = field(default=None, compare=False)
    """Of an event: set once the outbox holds it, or cannot. None where there is no outbox."""

    def without_picture(self) -> Emission:
        """The same, without what makes it large."""
        return replace(self, image=None, result=None)


class Sink(Protocol):
    """Takes records. All but open run in the sink's own thread; an OSError or ValueError is counted and said."""

    name: str
    """For people and metrics; holds no password."""
    kinds: tuple[str, ...]
    """The types of records it takes: frame, event, status."""
    pictures: bool
    """Whether it wants image and result too."""
    commits: bool
    """Whether it sets `committed` of events, for which all other sinks then wait."""

    def open(self) -> None:
        """Called once, before the first frame, in the caller's thread; an error here ends the run."""

    def write(self, emission: Emission) -> None:
        """Take one record, in order."""

    def fields(self, record: dict[str, Any]) -> dict[str, str]:
        """What it adds to an event's record before anyone gets it, such as the name of the file it will write."""

    def tick(self) -> None:
        """Called about once a second: for retries, retention and the like."""

    def close(self) -> None:
        """The run has ended; what was buffered goes out."""


class SinkBase:
    """A sink that does nothing yet: what a sink of your own may start from."""

    name = "sink"
    kinds: tuple[str, ...] = ("frame", "event", "status")
    pictures = False
    commits = False
    say: Say = staticmethod(_say_nothing)
    """Set by whoever runs it: has a status record written, from any thread."""

    @property
    def unwritten(self) -> int | None:
        """How many records lie nowhere, or in memory alone; None: those that it raised for."""
        return None

    def open(self) -> None:
        """Nothing to open."""

    def fields(self, record: dict[str, Any]) -> dict[str, str]:
        """Nothing to add."""
        return {}

    def tick(self) -> None:
        """Nothing to do by the clock."""

    def reopen(self) -> None:
        """Nothing to open again: whoever moved a file away asks for it, with SIGHUP."""

    def close(self) -> None:
        """Nothing to close."""
