"""What `edge-aae run` sees to between two frames: a new threshold, a new bundle, systemd."""

from __future__ import annotations

import logging
import math
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_runtime.errors import EdgeAaeError
from edge_runtime.files import file_stem
from edge_runtime.redact import redact
from edge_runtime.sinks.records import status_record

if TYPE_CHECKING:
    from edge_runtime.live.bridge import LivePage
    from edge_runtime.operations.model_watch import ModelWatch
    from edge_runtime.operations.systemd import Systemd
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["Upkeep", "sparkline"]

logger = logging.getLogger(__name__)

TERMINAL_S, LOG_S = 1.0, 60.0
"""How often a line says how the run goes"""


BARS = "▁▂▃▄▅▆▇█"
SPARK_S = 30
"""Seconds that the little curve of scores on a terminal shows."""


def sparkline(scores: Sequence[float], threshold: float) -> str:
    """One bar a score, from the lowest to the threshold; a full bar is one above it."""
    if not scores:
        return ""
    low = min(*scores, threshold - 1e-9)
    height = len(BARS) - 1
    return "".join(
        BARS[height if score > threshold else min(height - 1, int(height * (score - low) / (threshold - low)))]
        for score in scores
    )


class Upkeep:
    """Its pulse is the pipeline's; `pipeline` is set before the run, for each needs the other."""

    pipeline: Pipeline

    def __init__(
        self,
        reload_asked: Callable[[], bool],
        manager: Systemd | None,
        *,
        power_s: float = math.inf,
    ) -> None:
        """power_s: seconds between two records of the board's power and temperatures."""
        self._power_s, self._next_power_s = power_s, 0.0 if math.isfinite(power_s) else math.inf
        self._reload_asked, self._manager = reload_asked, manager
        self.watch: ModelWatch | None = None
        self.page: LivePage | None = None
        self._told_s, self._told_frames = time.monotonic(), 0
        self._recent: dict[str, deque[float]] = {}

    def pulse(self) -> None:
        """Called in the thread that scores, between two frames."""
        fresh = self.watch.take() if self.watch else None
        if fresh is not None:
            self.pipeline.set_detector(fresh)
            digest = fresh.bundle.digest[:12]
            logger.info("now with the bundle sha256:%s, threshold %s", digest, self.pipeline.judges)
            self.tell_of_nobodys()
        if self._reload_asked():
            self.pipeline.sinks.reopen()
            self._reload()
        asked = self.page.take_threshold() if self.page else None
        if asked is not None and self.page is not None:
            self.page.desk.take(asked)
        self._tell()
        if time.monotonic() >= self._next_power_s:
            self._note_power()
        if self._manager is not None:
            summary = self.pipeline.summary
            self._manager.pulse(lambda: f"{summary.frames} frames, {summary.events} events")

    def _note_power(self) -> None:
        from edge_runtime.operations.power import board_state

        state = board_state()
        self._next_power_s = time.monotonic() + self._power_s
        if not state:
            self._next_power_s = math.inf
            logger.warning("--power: this machine tells neither power mode nor watts nor temperatures")
        else:
            self.pipeline.report(status_record("info", "BOARD_POWER", "board", state))

    def _tell(self) -> None:
        """A line a second on a terminal, over the one before; else one a minute, for the journal."""
        on_terminal = sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)
        now_s, every_s = time.monotonic(), TERMINAL_S if on_terminal else LOG_S
        if now_s - self._told_s < every_s:
            return
        states, summary = self.pipeline.states(), self.pipeline.summary
        seconds, self._told_s = now_s - self._told_s, now_s
        rate, self._told_frames = (summary.frames - self._told_frames) / seconds, summary.frames
        parts = []
        for state in states:
            recent = self._recent.setdefault(state.source_id, deque(maxlen=SPARK_S))
            recent.append(state.last_score)
            curve = f"{sparkline(recent, self.pipeline.threshold_of(state.source_id))} " if on_terminal else ""
            how = (state.state or "") if state.up else "NO PICTURE"
            parts.append(f"{file_stem(state.source_id)[:24]} {curve}{state.last_score:.2f} {how}".rstrip())
        each = "  ".join(parts)
        line = f"{summary.frames} frames, {rate:.1f} a second, {summary.events} events; {each}"
        if on_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{line[:width]:<{width}}\r")
            sys.stderr.flush()
        else:
            logger.info("%s", line)

    def stopping(self) -> None:
        """The run has ended."""
        if self._manager is not None:
            self._manager.stopping()

    def _reload(self) -> None:
        try:
            detector = self.pipeline.detector.recalibrated()
        except EdgeAaeError as error:
            logger.warning("threshold and view stay as they are: %s", error)
            return
        self.pipeline.set_detector(detector)
        if self.page is not None:
            self.page.desk.forget()
        logger.info("threshold %s, view: %s", self.pipeline.judges, detector.view)
        self.tell_of_nobodys()

    def tell_of_nobodys(self) -> None:
        """Say which thresholds of single sources are kept for none of this run: that source is judged as all are."""
        called = [state.source_id for state in self.pipeline.states()]
        for name in self.pipeline.judges.nobodys(called):
            logger.warning(
                "a threshold is kept for %s alone, and no source of this run is called so, only %s: name it with NAME= "
                "before it, or calibrate again with --of-source",
                name,
                ", ".join(map(redact, called)),
            )
