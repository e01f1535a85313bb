"""The last stage: records on their way out, in order, to a run's `write` and to its sinks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from edge_runtime.sinks.contract import Emission, Sink
from edge_runtime.sinks.runner import Sinks

__all__ = ["Outlet", "Write"]

Write = Callable[[dict[str, Any]], None]


class Outlet:
    """Takes emissions in the pipeline's thread, and status records from any."""

    def __init__(self, write: Write, sinks: Sequence[Sink], *, lossless: bool, stopped: Callable[[], bool]) -> None:
        """write: takes each record, in the pipeline's thread. lossless, stopped: see Sinks."""
        self._write = write
        self._reported: deque[dict[str, Any]] = deque()
        self.sinks = Sinks(sinks, self.report, lossless=lossless, stopped=stopped)

    def report(self, record: dict[str, Any]) -> None:
        """Have a status record written in its turn. From any thread."""
        self._reported.append(record)

    def emit(self, emission: Emission) -> None:
        """Write a record; one of an event gets what the sinks add to it first."""
        record = emission.record
        if record["type"] == "event":
            for runner in self.sinks.runners:
                record.update(runner.sink.fields(record))
        self._write(record)
        self.sinks.emit(emission)

    def emit_reported(self) -> None:
        """Write the status records that were reported since."""
        while self._reported:
            self.emit(Emission(self._reported.popleft()))
