"""The bundle that last proved itself here, kept for the day when the one at its path cannot be used.

A bad bundle that arrives while a run goes on is refused by operations/model_watch.py; the same file must not keep the
run from starting again after a power cut.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import EdgeAaeError, GateError
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.scoring.detector import Detector

__all__ = ["LastGood", "verified"]

logger = logging.getLogger(__name__)

Load = Callable[[Bundle], Detector]


def verified(bundle: Bundle, load: Load, precision: str) -> Detector:
    """A detector of the bundle, which reproduced its golden samples on this machine; raises GateError otherwise."""
    detector = load(bundle)
    report = verify_bundle(bundle, precision=precision, backend=detector.backend.name)
    if not report.passed:
        raise GateError(f"it fails the parity gate on this machine: {report.failures()[0]}")
    return detector


class LastGood:
    """A copy beside a path: of the bundle there, when it was last verified and used."""

    def __init__(self, file: Path, model: Path, load: Load, precision: str) -> None:
        """file: the copy, an .aae file; model: where bundles arrive; load: makes a detector of one."""
        self._file, self._model, self._load, self._precision = file, model, load, precision
        self.refused = ""
        """Why the bundle at the path is not the one in use; empty where it is"""

    def open(self) -> Detector:
        """The detector of the bundle at the path where it can be used, else of the copy, which is said.

        Raises the first bundle's error where there is no copy, or none that can be used.
        """
        try:
            detector = verified(Bundle.open(self._model), self._load, self._precision)
        except EdgeAaeError as error:
            if not self._file.exists():
                raise
            logger.warning("%s is not used: %s", self._model, error)
            try:
                # Under the name of the path, so that a calibration beside it counts if it is of this bundle.
                copy = replace(Bundle.open(self._file), path=self._model)
                detector = verified(copy, self._load, self._precision)
            except EdgeAaeError as second:
                logger.warning("nor is %s, the last good one: %s", self._file, second)
                raise error from second
            self.refused = str(error)
            logger.warning("the last good bundle is used, %s; put a good one at %s", self._file, self._model)
            return detector
        self.keep(detector.bundle)
        return detector

    def keep(self, bundle: Bundle) -> None:
        """Make the copy one of this bundle; a full disk is said and stops nothing."""
        try:
            if self._file.exists() and Bundle.open(self._file).digest == bundle.digest:
                return
        except EdgeAaeError:
            pass  # a damaged copy is replaced
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            bundle.write(self._file)
        except (OSError, EdgeAaeError) as error:
            logger.warning("the bundle in use cannot be kept as %s: %s", self._file, error)
