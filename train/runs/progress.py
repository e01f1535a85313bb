"""Progress of a training run: bars on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from train.learning.trainer import EpochRow

__all__ = ["TrainingProgress"]

logger = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0
"""Between log lines of one phase where there is no terminal."""


class TrainingProgress:
    """Shows epochs as they pass: phase, losses, remaining time. A context manager."""

    def __init__(self, total_epochs: int, done_epochs: int = 0, *, shown: bool = True, bars: bool = True) -> None:
        """shown: False keeps bars and log lines back, for all but one of several processes; bars: False logs lines on
        a terminal too."""
        self._shown = shown
        self._total = total_epochs
        self._start_epochs = done_epochs
        self._started_s = time.monotonic()
        self._logged_s = float("-inf")
        self._logged_phase = ""
        self._progress: Progress | None = None
        if shown and bars and sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("{task.fields[phase]:<10}"),
                BarColumn(bar_width=16),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[losses]}"),
                console=Console(stderr=True),
            )
            self._task = self._progress.add_task(
                "train", total=total_epochs, completed=done_epochs, phase="start", losses=""
            )

    def __enter__(self) -> TrainingProgress:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, row: EpochRow) -> None:
        """Show one finished epoch."""
        if self._progress:
            # Short, because a terminal has 80 columns and the bar needs some of them.
            losses = f"error {row.reconstruction_loss:.3f}"
            if row.discriminator_loss:
                losses += f" enc {row.encoder_loss:.2f} disc {row.discriminator_loss:.2f}"
            self._progress.update(self._task, completed=row.epoch, phase=row.phase, losses=losses)
            return
        if not self._shown:
            return
        losses = f"reconstruction {row.reconstruction_loss:.4f}"
        if row.discriminator_loss:
            losses += f"  encoder {row.encoder_loss:.3f}  discriminator {row.discriminator_loss:.3f}"
        if row.candidates:
            losses += f"  candidates {row.candidates}"
        now = time.monotonic()
        due = now - self._logged_s >= LOG_INTERVAL_S or row.epoch == self._total
        if due or row.phase.rstrip("0123456789") != self._logged_phase:
            self._logged_s, self._logged_phase = now, row.phase.rstrip("0123456789")
            rate = (now - self._started_s) / (row.epoch - self._start_epochs)
            remaining_s = rate * (self._total - row.epoch)
            logger.info("%s epoch %d/%d  %s  %.0f s left", row.phase, row.epoch, self._total, losses, remaining_s)
