"""What `edge-aae run` sees to between two frames: a new threshold, a new bundle, systemd."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_runtime.detector import threshold_for
from edge_runtime.errors import EdgeAaeError

if TYPE_CHECKING:
    from edge_runtime.model_watch import ModelWatch
    from edge_runtime.pipeline import Pipeline
    from edge_runtime.sinks import Annotator
    from edge_runtime.systemd import Systemd

__all__ = ["Upkeep"]

logger = logging.getLogger(__name__)


class Upkeep:
    """Its pulse is the pipeline's; `pipeline` is set before the run, for each needs the other."""

    pipeline: Pipeline

    def __init__(
        self,
        annotator: Annotator,
        reload_asked: Callable[[], bool],
        manager: Systemd | None,
        *,
        threshold: float | None,
        target_fpr: float | None,
    ) -> None:
        """threshold, target_fpr: as the command line gave them; they outlive a calibration."""
        self._annotator, self._reload_asked, self._manager = annotator, reload_asked, manager
        self._threshold, self._target_fpr = threshold, target_fpr
        self.watch: ModelWatch | None = None

    def pulse(self) -> None:
        """Called in the thread that scores, between two frames."""
        fresh = self.watch.take() if self.watch else None
        if fresh is not None:
            self._annotator.use(fresh)
            self.pipeline.set_detector(fresh)
            logger.info(
                "now with the bundle sha256:%s, threshold %g", fresh.bundle.digest[:12], fresh.decision.threshold
            )
        if self._reload_asked():
            self._reload()
        if self._manager is not None:
            summary = self.pipeline.summary
            self._manager.pulse(lambda: f"{summary.frames} frames, {summary.events} events")

    def stopping(self) -> None:
        """The run has ended."""
        if self._manager is not None:
            self._manager.stopping()

    def _reload(self) -> None:
        bundle = self.pipeline.detector.bundle
        try:
            found = threshold_for(bundle, self._threshold, self._target_fpr)
        except EdgeAaeError as error:
            logger.warning("the threshold stays as it is: %s", error)
            return
        self.pipeline.set_threshold(bundle.decision.threshold if found is None else found)
        logger.info("threshold %g", self.pipeline.detector.decision.threshold)
