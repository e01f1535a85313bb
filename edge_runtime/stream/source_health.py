"""How one source is, and the status records that say how it changes. Holds no thread, no lock and no clock."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import EdgeAaeError, SourceError
from edge_runtime.files import unicode_name
from edge_runtime.redact import redact
from edge_runtime.sinks.records import status_record
from edge_runtime.sources.contract import FrameSource
from edge_runtime.stream.summary import FeedCounts
from edge_runtime.watching.guard import Fault

__all__ = ["MOST_IN_A_ROW", "ScorerFaults", "SourceHealth"]

logger = logging.getLogger(__name__)

MOST_IN_A_ROW = 10
"""Frames not scored in a row after which their source counts as failed: one bad frame is an accident."""


class SourceHealth:
    """Open or not, giving good frames, refused ones or none, given up.

    It changes with the feed's lock held; what it says may be read from any thread. A change that is to be told gives a
    status record, any other None. now_s: by time.perf_counter.
    """

    def __init__(self, source: FrameSource, counts: FeedCounts, *, stall_timeout_s: float, now_s: float) -> None:
        """stall_timeout_s: a live source that gave no good frame for longer is stalled."""
        self.error: EdgeAaeError | None = None
        """Why the source was given up; None while it lives and after a file's end."""
        self.last_error: str | None = None
        """Why it was last lost or did not open, without password; None once a good frame came."""
        self._source, self._counts, self._stall_timeout_s = source, counts, stall_timeout_s
        self._open = self._over = False
        self._opened_s = self._last_good_s = now_s
        self._stalled_since_s: float | None = None
        self._refused: _Refused | None = None

    @property
    def up(self) -> bool:
        """Whether the source gives what is asked of it: a live one good frames, a file no error."""
        if not self._source.live:
            return self.error is None
        return self._open and not self.stalled

    @property
    def stalled(self) -> bool:
        """Whether a live source has given no good frame for longer than the stall timeout."""
        return self._stalled_since_s is not None

    @property
    def gave_frames(self) -> bool:
        """Whether the source is open and has given a good frame since it was opened."""
        return self._open and self._last_good_s > self._opened_s

    def silent_s(self, now_s: float) -> float:
        """Seconds since the last good frame, or since the start."""
        return now_s - self._last_good_s

    def is_due_to_stall(self, now_s: float) -> bool:
        """Whether it has been silent for too long, and that was not told yet."""
        return self._source.live and not (self._over or self.stalled) and self.silent_s(now_s) > self._stall_timeout_s

    def frozen_s(self, now_s: float) -> float:
        """Seconds since the last good frame, or since the source was opened, whichever was later."""
        return now_s - max(self._last_good_s, self._opened_s)

    def start(self, now_s: float) -> None:
        """From now on good frames are expected."""
        self._last_good_s = now_s

    def opened(self, now_s: float, *, again: bool) -> None:
        """The source is open. again: after failures."""
        self._open, self._opened_s = True, now_s
        self._counts.reconnects += again

    def failed(self, error: SourceError, retry_s: float | None) -> dict[str, Any]:
        """The source was lost or did not open. retry_s: until it is opened again; None where it is given up."""
        event_type = "SOURCE_LOST" if self._open else "SOURCE_OPEN_FAILED"
        self._open, self.last_error = False, redact(str(error))
        payload: dict[str, Any] = {"code": error.code, "reason": str(error)}
        if retry_s is None:
            self.error = error
        else:
            payload["retry_s"] = round(retry_s, 3)
        return status_record("error", event_type, self._source.source_id, payload)

    def end(self, error: EdgeAaeError | None) -> None:
        """No frame will come any more. error: that ended it, where `failed` was not told of it."""
        self._open, self._over = False, True
        if error is not None:
            self.error = error

    def good(self, now_s: float) -> dict[str, Any] | None:
        """A good frame came."""
        since_s, refused = self._stalled_since_s, self._refused
        self._last_good_s, self._stalled_since_s, self._refused = now_s, None, None
        if since_s is not None or self.last_error is not None:
            self.last_error = None
            silent_s = round(now_s - (since_s or self._opened_s), 3)
            return status_record("info", "SOURCE_RECOVERED", self._source.source_id, {"silent_s": silent_s})
        if refused is None:
            return None
        payload = {"after": refused.code, "refused": refused.frames, "seconds": round(now_s - refused.since_s, 3)}
        return status_record("info", "FRAMES_GOOD", self._source.source_id, payload)

    def refuse(self, fault: Fault, frame_id: int, now_s: float) -> dict[str, Any] | None:
        """A frame came that is none; the first for a reason is told."""
        self._counts.rejected[fault.code] = self._counts.rejected.get(fault.code, 0) + 1
        if self._refused is not None and self._refused.code == fault.code:
            self._refused.frames += 1
            return None
        self._refused = _Refused(fault.code, now_s)
        payload = {"frame_id": frame_id, "reason": fault.reason}
        return status_record("warning", fault.code, self._source.source_id, payload)

    def stall(self, now_s: float) -> dict[str, Any] | None:
        """Take note of a stall, where one is due."""
        if not self.is_due_to_stall(now_s):
            return None
        self._stalled_since_s = self._last_good_s
        self._counts.stalls += 1
        reason = f"no good frame for {self.silent_s(now_s):.1f} s"
        if self._refused:
            reason += f"; frames come, but are refused: {self._refused.code}"
        elif self.last_error:
            reason += f"; {self.last_error}"
        return status_record("error", "SOURCE_STALLED", self._source.source_id, {"reason": reason})


@dataclass(slots=True)
class _Refused:
    """Frames in a row that are none, for one reason."""

    code: str
    since_s: float
    frames: int = 1


class ScorerFaults:
    """What is one camera's is one camera's: a network that chokes on its frames must not end the others' watch."""

    def __init__(self, source_id: str) -> None:
        self.failed: Exception | None = None
        """A fault, once there were MOST_IN_A_ROW; None again once a frame was scored."""
        self.last: Exception | None = None
        """The last fault of all."""
        self._source_id = source_id
        self._n_in_a_row = 0
        self._since_s = 0.0

    def add(self, error: Exception, grabbed_s: float) -> list[dict[str, Any]]:
        """A frame could not be scored; the status records that say so: of a source that has failed no more."""
        self._n_in_a_row, self.last = self._n_in_a_row + 1, error
        if self._n_in_a_row == 1:
            self._since_s = grabbed_s
        if self.failed is not None:
            return []
        reason = unicode_name(str(error)) or type(error).__name__
        records = [status_record("warning", "FRAME_NOT_SCORED", self._source_id, {"reason": reason})]
        if self._n_in_a_row >= MOST_IN_A_ROW:
            self.failed = error
            logger.error("%s: %d frames in a row not scored: %s", redact(self._source_id), self._n_in_a_row, reason)
            payload = {"code": "FAILED", "reason": f"{self._n_in_a_row} frames in a row not scored: {reason}"}
            records.append(status_record("error", "SOURCE_FAILED", self._source_id, payload))
        return records

    def scored(self, grabbed_s: float) -> dict[str, Any] | None:
        """A frame was scored; that the source has recovered, where it had failed."""
        failed, self.failed, self._n_in_a_row = self.failed, None, 0
        if failed is None:
            return None
        payload = {"silent_s": round(grabbed_s - self._since_s, 3)}
        return status_record("info", "SOURCE_RECOVERED", self._source_id, payload)
