"""A bundle that is replaced while it runs: taken up once it is verified; until then and otherwise the old one stays."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import EdgeAaeError
from edge_runtime.gate.last_good import verified
from edge_runtime.gate.trial import Trial
from edge_runtime.scoring.detector import Detector
from edge_runtime.signing.signatures import signature_path
from edge_runtime.sinks.records import status_record

__all__ = ["ModelWatch"]

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often the file is looked at; a change must have stood still for as long before it is read."""

Stamp = tuple[int, int, int] | None
"""Inode, modification time and size of a file; None where there is none"""


class ModelWatch:
    """Looks at a bundle's file in a thread of its own, and loads and verifies what comes there."""

    def __init__(
        self,
        path: Path,
        digest: str,
        load: Callable[[Bundle], Detector],
        report: Callable[[dict[str, Any]], None],
        *,
        precision: str = "fp32",
        trial: Trial | None = None,
        accepted: Callable[[Bundle], None] = lambda bundle: None,
        look_s: float = LOOK_S,
    ) -> None:
        """digest: of the bundle in use; load: makes a detector of another; report: takes status records; trial:
        how it is opened, and tried in a process of its own first; accepted: gets each bundle that is taken up, in the
        watch's thread."""
        self._path, self._digest = path, digest
        self._load, self._report, self._precision, self._look_s = load, report, precision, look_s
        self._accepted, self._trial = accepted, trial or Trial(precision=precision)
        self._lock = threading.Lock()
        self._fresh: Detector | None = None
        self._stop = threading.Event()
        self._known = self._stamps()
        self._thread = threading.Thread(target=self._run, name="model watch", daemon=True)

    def __enter__(self) -> ModelWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(1.0)

    def take(self) -> Detector | None:
        """A new detector, verified, once; None where there is none. From the thread that scores."""
        if self._fresh is None:
            return None
        with self._lock:
            fresh, self._fresh = self._fresh, None
        return fresh

    def _run(self) -> None:
        seen = self._known
        while not self._stop.wait(self._look_s):
            stamps = self._stamps()
            if stamps[0] is not None and stamps == seen != self._known:
                self._known = stamps
                self._try()
            seen = stamps

    def _stamps(self) -> tuple[Stamp, ...]:
        """Of the bundle; where a signature is required, of what decides about it too."""
        file = self._path / "manifest.json" if self._path.is_dir() else self._path
        if self._trial.require_signature is None:
            return (_stamp(file),)
        keys = Path(self._trial.require_signature)
        # A folder's own stamp tells that a key came or went, a file's that it was written.
        return tuple(_stamp(one) for one in (file, signature_path(self._path), keys, *sorted(keys.glob("*.pub"))))

    def _try(self) -> None:
        try:
            self._trial.of(self._path)
            bundle = self._trial.open(self._path)
            if bundle.digest == self._digest:
                return
            detector, reason = verified(bundle, self._load, self._precision), ""
        except EdgeAaeError as error:
            reason = str(error)
        except Exception as error:  # whatever lies there, the run goes on with what it has
            logger.exception("the bundle at %s cannot be used", self._path)
            reason = f"{type(error).__name__}: {error}"
        if reason:
            logger.warning("%s changed and is not used: %s; the old bundle stays", self._path, reason)
            self._say("error", "MODEL_REFUSED", reason=reason, model=f"sha256:{self._digest}")
            return
        before, self._digest = self._digest, detector.bundle.digest
        with self._lock:
            self._fresh = detector
        self._accepted(bundle)
        by = {} if bundle.signed_by is None else {"signed_by": bundle.signed_by}
        self._say("info", "MODEL_SWAPPED", before=f"sha256:{before}", model=f"sha256:{self._digest}", **by)

    def _say(self, severity: Any, event_type: str, **payload: Any) -> None:
        self._report(status_record(severity, event_type, str(self._path), payload))


def _stamp(file: Path) -> Stamp:
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
